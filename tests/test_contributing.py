"""CONTRIBUTING's table, tried: a dummy of each kind is added as the table says, and works."""

from __future__ import annotations

import io
import re
import sys
import types
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray
from PIL import Image

from faceaudit.models.bundle import Bundle

ROOT = Path(__file__).parents[1]


def table_rows() -> list[tuple[str, str, str]]:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    rows = re.findall(r"^\| (a[n]? [^|]+) \| ([^|]+) \| ([^|]+) \|$", text, re.MULTILINE)
    return [(kind.strip(), write.strip(), where.strip()) for kind, write, where in rows]


def test_every_file_and_list_in_the_table_exists() -> None:
    rows = table_rows()
    assert len(rows) >= 9
    for kind, write, where in rows:
        files = [
            ROOT / path
            for path in re.findall(r"`((?:faceaudit|reports)/[\w./]+)`", f"{write} {where}")
            if "NAME" not in path
        ]
        assert all(path.is_file() for path in files), kind
        texts = [path.read_text() for path in files] + [
            path.read_text() for path in (ROOT / "faceaudit" / "audit").glob("*.py")
        ]
        for name in re.findall(r"`([A-Z_]{6,})`", where):
            assert any(re.search(rf"^{name}\b", text, re.MULTILINE) for text in texts), name


def test_a_new_metric_reaches_the_audit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from faceaudit.audit import metrics, run
    from faceaudit.tables import read_table

    error_rate = replace(
        next(metric for metric in metrics.METRICS if metric.name == "accuracy"),
        name="error_rate",
        title="Error rate",
        function=lambda confusion: 1 - metrics.accuracy(confusion),
        better="lower",
    )
    monkeypatch.setattr(metrics, "METRICS", [*metrics.METRICS, error_rate])
    for name, module in list(sys.modules.items()):
        if not name.startswith("faceaudit."):
            continue
        if hasattr(module, "EVERY_METRIC"):
            monkeypatch.setattr(module, "EVERY_METRIC", (*module.EVERY_METRIC, error_rate))
        if hasattr(module, "METRICS") and name.startswith("faceaudit.audit"):
            monkeypatch.setattr(module, "METRICS", metrics.METRICS)
    table = tmp_path / "t.csv"
    rows = 40 * ["Male,Male"] + 10 * ["Male,Female"] + 50 * ["Female,Female"]
    table.write_text("gender_true,gender_pred\n" + "\n".join(rows) + "\n")
    found = run.audit(read_table(table), verify="never")
    overall = [m for m in found.metrics if m.metric == "error_rate" and not m.subgroup]
    assert overall[0].estimate.value == pytest.approx(0.1)


def test_a_new_section_reaches_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from faceaudit.reporting import html, report, sections

    @dataclass(frozen=True)
    class Greeting:
        words: str

    section = sections.Section("greeting", "Greeting", lambda subject: Greeting("<hello>"))
    sections.SECTIONS.append(section)
    (tmp_path / "sections").mkdir()
    (tmp_path / "sections" / "greeting.html").write_text("<p>{{ v.words }}</p>")
    monkeypatch.setattr(html, "TEMPLATE_FOLDERS", [*html.TEMPLATE_FOLDERS, tmp_path])
    table = tmp_path / "t.csv"
    table.write_text("gender_true,gender_pred\nMale,Male\nFemale,Female\n")
    try:
        page = report(table, verify="never", formats=("html",)).paths[0].read_text()
    finally:
        sections.SECTIONS.remove(section)
    assert "&lt;hello&gt;" in page


def test_a_new_label_format_labels_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from faceaudit import labels
    from faceaudit.labels.annotations import Annotations, Names
    from faceaudit.schema import task_of_scheme

    class Initials(Annotations):
        source = "initials"
        tasks = (task_of_scheme("gender", "gender2"),)

        def of(self, images: Sequence[str]) -> pl.DataFrame:
            gender = ["Female" if name.startswith("f") else "Male" for name in images]
            return pl.DataFrame({"gender_true": gender}, schema={"gender_true": pl.String})

    def read(path: Path | None, names: Names, folder: Path | None) -> Annotations:
        return Initials()

    module = types.ModuleType("faceaudit.labels.initials")
    module.read = read  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "faceaudit.labels.initials", module)
    monkeypatch.setitem(
        labels.LABEL_FORMATS, "initials", labels.LabelFormat("the first letter", found=False)
    )
    found = labels.read_labels("initials", ["f1.jpg", "m1.jpg"], tmp_path)
    assert found is not None
    assert found.frame["gender_true"].to_list() == ["Female", "Male"]


def test_a_new_image_format_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import PcxImagePlugin

    from faceaudit.images import decode, formats

    buffer = io.BytesIO()
    Image.new("RGB", (4, 3), (255, 0, 0)).save(buffer, "PCX")
    assert decode.decode(buffer.getvalue()).status == "unsupported"
    pcx = formats.ImageFormat("PCX", re.compile(rb"\x0a"), PcxImagePlugin.PcxImageFile)
    monkeypatch.setattr(formats, "FORMATS", (*formats.FORMATS, pcx))
    found = decode.decode(buffer.getvalue())
    assert found.status == "ok"
    assert found.image is not None
    assert found.image.tolist() == [[[255, 0, 0]] * 4] * 3


def test_a_new_detector_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, random_bundle: Bundle
) -> None:
    from faceaudit import predict
    from faceaudit.faces import DETECTORS, Face
    from faceaudit.faces.registry import DetectorEntry

    class Middle:
        name = "middle"
        enough_side = None

        def facts(self) -> dict[str, Any]:
            return {"name": self.name}

        def detect(self, images: Sequence[NDArray[np.uint8]]) -> list[list[Face]]:
            return [[Face(10.0, 10.0, 20.0, 20.0, score=1.0)] for _ in images]

    monkeypatch.setitem(
        DETECTORS, "middle", DetectorEntry("a box in the middle", lambda **options: Middle())
    )
    Image.new("RGB", (30, 30)).save(tmp_path / "a.png")
    out = tmp_path / "out.parquet"
    predict(tmp_path / "a.png", out, detector="middle", model=str(random_bundle.graph.parent))
    assert pl.read_parquet(out)["box_x0"].to_list() == [10.0]


def test_a_new_architecture_trains_in_a_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch import nn

    from faceaudit.models.backbones import BACKBONES
    from faceaudit.models.backbones.backbone import Backbone
    from faceaudit.training.recipe_files import load_recipe
    from faceaudit.training.state import new_state

    monkeypatch.setitem(
        BACKBONES,
        "tiny",
        Backbone(
            name="tiny",
            features=4,
            build=lambda: nn.Conv2d(3, 4, 3),
            last_block=(),
        ),
    )
    state = new_state(replace(load_recipe("fairface"), backbone="tiny", weights="none"))
    assert state.network.heads["race"].in_channels == 4


def test_a_new_runtime_is_used(random_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    from faceaudit.runtimes import RUNTIMES, open_runtime

    class Zero:
        name = "zero"

        def __init__(self, outputs: Sequence[str]) -> None:
            self.outputs = outputs

        def facts(self) -> dict[str, Any]:
            return {"runtime": self.name, "precision": "float32"}

        def infer(self, crops: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
            widths = {task.tensor: len(task.classes) for task in random_bundle.tasks}
            return {name: np.zeros((len(crops), widths[name]), np.float32) for name in self.outputs}

    monkeypatch.setitem(
        RUNTIMES, "zero", lambda bundle, outputs, device, precision, threads: Zero(outputs)
    )
    runtime = open_runtime(random_bundle, device="cpu", runtime="zero")
    assert set(runtime.infer(np.zeros((2, 8, 8, 3), np.uint8))) == {"gender", "race", "age"}


def test_a_new_recipe_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from faceaudit.training import recipe_files

    text = (recipe_files.RECIPES / "fairface.toml").read_text().replace('"fairface"', '"mine"')
    (tmp_path / "mine.toml").write_text(text)
    monkeypatch.setattr(recipe_files, "RECIPES", tmp_path)
    assert recipe_files.load_recipe("mine").name == "mine"


def test_a_new_scheme_and_its_mapping_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    from faceaudit import schema, schemes

    classes = ("light", "medium", "dark")
    monkeypatch.setitem(schema.SCHEMES, "tone3", classes)
    assert schema.task_of_scheme("tone", "tone3").classes == classes
    monkeypatch.setitem(schema.SCHEMES, "tone2", ("light", "dark"))
    monkeypatch.setitem(
        schema.SCHEME_MAPS,
        ("tone3", "tone2"),
        {"light": "light", "medium": "dark", "dark": "dark"},
    )
    found = schemes.coarsening(
        schema.task_of_scheme("tone", "tone3"), schema.task_of_scheme("tone", "tone2")
    )
    assert found is not None
    assert found.classes["medium"] == "dark"
