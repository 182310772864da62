from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from faceaudit.models.bundle import Bundle

WriteJob = Callable[[str], Path]

POLICY = """
[[rule]]
task = "gender"
metric = "accuracy"
measure = "overall"
{limit}
owner = "a test"
reason = "a test"
"""


def write_images(folder: Path, names: list[str]) -> None:
    """Small plain images, named as UTKFace names them: no photograph shows nobody."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        Image.new("RGB", (48, 48), (number * 7 % 255, 90, 120)).save(folder / name)


def names_of(numbers: range) -> list[str]:
    """File names with an age, a gender and a race."""
    return [f"{20 + n % 50}_{n % 2}_{n % 4}_2017{n:013d}.png" for n in numbers]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A place with forty labeled images."""
    write_images(tmp_path / "images", names_of(range(40)))
    return tmp_path


@pytest.fixture
def predict_table(random_bundle: Bundle) -> str:
    """The table [predict] of a job on those images."""
    return (
        '[predict]\nimages = "images"\nout = "faces.parquet"\ndetector = "whole"\n'
        f'model = "{random_bundle.graph.parent}"\n'
    )


@pytest.fixture
def write_job(folder: Path) -> WriteJob:
    """Writes a job file, with a history, beside the images."""

    def write(text: str) -> Path:
        path = folder / "nightly.toml"
        path.write_text(f'history = "history.jsonl"\n{text}', encoding="utf-8")
        return path

    return write
