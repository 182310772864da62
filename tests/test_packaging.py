"""What ships: the wheel holds everything the main job needs, and works without the extras."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    return next(folder.glob("*.whl"))


@pytest.mark.slow
def test_the_wheel_runs_the_demo_without_torch(wheel: Path, tmp_path: Path) -> None:
    installed = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extractall(installed)
    assert "faceaudit/reporting/templates/report.html" in names
    assert "faceaudit/reporting/report.schema.json" in names
    assert "faceaudit/py.typed" in names
    assert any(name.endswith("licenses/NOTICE") for name in names)
    assert not [name for name in names if name.startswith("tests/")]
    code = (
        "import sys\n"
        "import faceaudit\n"
        f"assert faceaudit.__file__.startswith({str(installed)!r}), faceaudit.__file__\n"
        "faceaudit.demo('demo', say=lambda line: None)\n"
        "extras = {'torch', 'torchvision', 'timm', 'onnx', 'safetensors', 'gdown'}\n"
        "assert not extras & set(sys.modules)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)
    page = tmp_path / "demo" / "utkface_val.html"
    assert 100_000 < page.stat().st_size < 2_000_000


@pytest.mark.slow
def test_the_wheel_is_small(wheel: Path) -> None:
    assert wheel.stat().st_size < 25e6


def test_the_base_install_has_no_torch_and_every_import_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    base = {line.split(">")[0].split("[")[0] for line in project["dependencies"]}
    assert not base & {"torch", "torchvision", "timm", "onnx", "safetensors", "ray"}
    assert {"polars", "pyarrow", "onnxruntime", "scikit-learn", "fairlearn", "jinja2"} <= base
    assert {"torch", "train", "retina-face", "dev", "all"} <= set(project["optional-dependencies"])
