"""Fixtures that several packages' tests share."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import jsonschema
import pytest
from hypothesis import settings

from faceaudit.models.bundle import Bundle, Input, Output, load_bundle, years_output
from faceaudit.reporting import run as reporting
from faceaudit.reporting.json_report import SCHEMA_FILE
from faceaudit.reporting.subject import Subject
from faceaudit.schema import SCHEMES
from faceaudit.showcase.images import write_specimens

if TYPE_CHECKING:
    from faceaudit.models.heads import MultiTaskNetwork

# Threads that wait for each other are slow where other processes share the processor.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# How long an example takes says nothing where other processes share the processor.
settings.register_profile("shared", deadline=None)
settings.load_profile("shared")

DATA = Path(os.environ.get("FACEAUDIT_DATA", "~/faceaudit-data")).expanduser()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests of data sets that are not there, with a reason."""
    if DATA.is_dir():
        return
    skip = pytest.mark.skip(reason=f"no data sets in {DATA}; set FACEAUDIT_DATA")
    for item in items:
        if item.get_closest_marker("data"):
            item.add_marker(skip)


@pytest.fixture(scope="session", autouse=True)
def _every_report_fits_its_schema() -> Iterator[None]:
    """Hold the JSON of every report that a test writes in this process against the schema."""
    write = reporting.FORMATS["json"]
    validator = jsonschema.Draft202012Validator(json.loads(SCHEMA_FILE.read_text()))

    def checked(subject: Subject) -> str:
        text = write(subject)
        validator.validate(json.loads(text))
        return text

    reporting.FORMATS["json"] = checked
    yield
    reporting.FORMATS["json"] = write


@pytest.fixture(autouse=True)
def _the_log_is_as_if_no_command_had_run() -> None:
    """Undo what a command that an earlier test ran in this process set up."""
    logger = logging.getLogger("faceaudit")
    logger.handlers.clear()
    logger.setLevel(logging.NOTSET)
    logger.propagate = True


@pytest.fixture(scope="session")
def data_folder() -> Path:
    return DATA


@pytest.fixture(scope="session")
def specimens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's folder of images: one photograph in many states, and files that are none."""
    folder = tmp_path_factory.mktemp("specimens")
    write_specimens(folder)
    return folder


@pytest.fixture(scope="session")
def small_outputs() -> tuple[Output, ...]:
    return (
        Output("gender", "gender2", SCHEMES["gender2"], "gender", "softmax"),
        Output("race", "fairface7", SCHEMES["fairface7"], "race", "softmax"),
        years_output(),
    )


@pytest.fixture(scope="session")
def random_bundle(
    tmp_path_factory: pytest.TempPathFactory, small_outputs: tuple[Output, ...]
) -> Bundle:
    """A bundle of an untrained network."""
    import torch

    from faceaudit.models.backbones import find_backbone
    from faceaudit.models.backbones.backbone import IMAGENET_MEAN, IMAGENET_STD
    from faceaudit.models.export import write_bundle
    from faceaudit.models.heads import MultiTaskNetwork

    torch.manual_seed(0)
    backbone = find_backbone("efficientnet_lite0")
    outputs = {output.output: len(output.classes) for output in small_outputs}
    network = MultiTaskNetwork(backbone.build(), backbone.features, outputs)
    folder = tmp_path_factory.mktemp("bundle")
    facts = Bundle(
        name="random",
        graph=folder,
        licence="none",
        training_data="none",
        input=Input(64, "NHWC", range=255.0),
        align="similarity",
        margin=0.0,
        offset=0.1,
        tasks=small_outputs,
        sha256="",
        card={"backbone": backbone.name},
    )
    write_bundle(folder, network, facts, IMAGENET_MEAN, IMAGENET_STD)
    return load_bundle(str(folder))


@pytest.fixture(scope="session")
def residual_network(small_outputs: tuple[Output, ...]) -> MultiTaskNetwork:
    """A small network of inverted residuals, untrained but with uneven batch norms."""
    import torch
    from torch import nn

    from faceaudit.models.heads import MultiTaskNetwork

    def conv(
        before: int, after: int, kernel: int, stride: int = 1, groups: int = 1
    ) -> nn.Sequential:
        layer = nn.Conv2d(before, after, kernel, stride, kernel // 2, groups=groups, bias=False)
        return nn.Sequential(layer, nn.BatchNorm2d(after))

    class Residual(nn.Module):
        def __init__(self, before: int, after: int) -> None:
            super().__init__()
            self.adds = before == after
            self.expand, self.each = conv(before, 24, 1), conv(24, 24, 3, groups=24)
            self.project = conv(24, after, 1)

        def forward(self, maps: torch.Tensor) -> torch.Tensor:
            found = nn.functional.relu6(self.each(nn.functional.relu6(self.expand(maps))))
            found = self.project(found)
            return maps + found if self.adds else found

    torch.manual_seed(0)
    trunk = nn.Sequential(
        conv(3, 8, 3, 2), nn.ReLU6(), conv(8, 8, 3, groups=8), nn.ReLU6(), conv(8, 8, 1),
        Residual(8, 16), Residual(16, 16), Residual(16, 16), conv(16, 32, 1), nn.ReLU6(),
    )  # fmt: skip
    for part in trunk.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.weight, 0.5, 2.0)
            nn.init.uniform_(part.bias, -0.5, 1.0)
            nn.init.uniform_(part.running_var, 0.2, 2.0)
    return MultiTaskNetwork(trunk, 32, {one.output: len(one.classes) for one in small_outputs})


@pytest.fixture(scope="session")
def residual_bundle(
    tmp_path_factory: pytest.TempPathFactory,
    small_outputs: tuple[Output, ...],
    residual_network: MultiTaskNetwork,
) -> Bundle:
    """The bundle of that network."""
    from faceaudit.models.backbones.backbone import IMAGENET_MEAN, IMAGENET_STD
    from faceaudit.models.export import write_bundle

    folder = tmp_path_factory.mktemp("residual")
    facts = Bundle(
        name="residual",
        graph=folder,
        licence="none",
        training_data="none",
        input=Input(32, "NHWC", range=255.0),
        align="similarity",
        margin=0.0,
        offset=0.1,
        tasks=small_outputs,
        sha256="",
    )
    write_bundle(folder, residual_network, facts, IMAGENET_MEAN, IMAGENET_STD)
    return load_bundle(str(folder))
