from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import faceaudit.faces
from faceaudit.errors import UnknownNameError
from faceaudit.faces import DETECTORS, open_detector

MODULES = sorted(path.stem for path in Path(faceaudit.faces.__file__).parent.glob("[!_]*.py"))
NOT_DETECTORS = {"anchors", "crop", "detector", "face", "registry", "retinaface_network", "shrink"}


@pytest.mark.parametrize("module", [name for name in MODULES if name not in NOT_DETECTORS])
def test_every_detector_is_listed(module: str) -> None:
    listed = {entry.open.__module__ for entry in DETECTORS.values()}
    assert import_module(f"faceaudit.faces.{module}").__name__ in listed


@pytest.mark.parametrize("name", DETECTORS)
def test_every_detector_says_what_it_is(name: str) -> None:
    assert DETECTORS[name].summary


@pytest.mark.parametrize("name", ["retinaface", "whole"])
def test_a_detector_has_the_name_it_is_listed_under(name: str) -> None:
    found = open_detector(name)
    assert found.name == name
    assert found.facts()["name"] == name


def test_unknown_detector_names_the_known_ones() -> None:
    known = ", ".join(DETECTORS)
    with pytest.raises(UnknownNameError, match=f"'retinafaces'; choose one of: {known}"):
        open_detector("retinafaces")


def test_importing_faces_imports_nothing_heavy() -> None:
    code = (
        "import sys, faceaudit.faces; "
        "print([name for name in ('torch', 'onnxruntime', 'retinaface') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
