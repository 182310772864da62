"""Predict with a torchvision network of one's own: a function returns it and its facts.

Argument: a folder to work in. On the command line, in the folder of this file:
MY_WEIGHTS=mine.pth faceaudit predict IMAGES out.parquet --model bring_a_torch_network:network
"""

import os
import sys
from pathlib import Path

import torch
from torchvision.models import resnet18

FACTS = {
    "name": "my resnet18",
    "licence": "mine",
    "training_data": "none without MY_WEIGHTS",
    "input": {"size": 96, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
    "crop": {"align": "similarity", "margin": 0.2},
    "tasks": [  # one layer of ten outputs: seven races, two genders, age in standard scores
        {"name": "race", "scheme": "fairface7", "output": "output[0:7]", "activation": "softmax"},
        {"name": "gender", "scheme": "gender2", "output": "output[7:9]", "activation": "softmax"},
        {"name": "age", "output": "output[9]", "activation": "value", "scale": 19, "shift": 33},
    ],
}


def network() -> tuple[torch.nn.Module, dict[str, object]]:
    """The network, untrained without weights of its own, and its facts."""
    torch.manual_seed(0)  # the same each time, or a run could not go on where it stopped
    model = resnet18(weights=None, num_classes=10)
    if weights := os.environ.get("MY_WEIGHTS"):
        model.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    return model, FACTS


if __name__ == "__main__":
    import faceaudit
    from faceaudit.showcase.images import write_specimens

    folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    images, name = folder / "images", f"{Path(__file__).stem}:network"
    write_specimens(images)
    found = faceaudit.predict(images, folder / "out.parquet", model=name, restart=True)
    print(dict(found.statuses), faceaudit.export(name, folder / "mine.onnx").graph)  # no torch
