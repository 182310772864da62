from __future__ import annotations

import sys
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.predict import FULL, QUICK, Measured, Run, run_command, tables, targets
from benchmarks.predict_inputs import MEGAPIXELS, crop_files, multiplied, views
from benchmarks.predict_steps import DEVICE, bound, core_seconds
from benchmarks.predict_tables import printed

CROPS = FULL[0]
MEASURED = Measured(
    "crops", "whole", "float32", 100, 0.04, 2, {"decode": 0.2, "infer": 3.8}, 500.0,
    one=Run(1, 1.2, 1.0, 250.0), short=Run(100, 2.0, 2.0, 300.0), long=Run(4100, 12.0, 18.0, 310.0),
    peers={"loop": 80.0, "resnet34": 16.5},
)  # fmt: skip


def test_the_rate_of_a_long_run_is_without_its_start() -> None:
    assert MEASURED.rate == pytest.approx(400)
    assert MEASURED.core_ms == pytest.approx(4)


def test_the_bound_is_cores_over_the_sum_of_all_steps() -> None:
    assert bound({"decode": 0.001, "infer": 0.003}, cores=8) == pytest.approx(2000)


def test_a_device_bounds_what_cores_could_do() -> None:
    assert bound({"decode": 0.001, DEVICE: 0.004}, cores=8) == pytest.approx(250)
    assert bound({"decode": 0.1, DEVICE: 0.004}, cores=8) == pytest.approx(80)


def test_targets_are_met_where_the_figure_is_reached() -> None:
    found = {target.of: target for target in targets(CROPS, MEASURED)}
    assert found["share of the bound"].value == pytest.approx(0.8)
    assert not found["share of the bound"].met
    loops = [t for name, t in found.items() if "our network" in name]
    assert [(t.value, t.met) for t in loops] == [(pytest.approx(5), True)]
    (resnet,) = (t for name, t in found.items() if "ResNet34" in name)
    assert not resnet.met
    assert found["peak memory, MB"].met
    assert not replace(found["peak memory, MB"], asked=300).met
    faster = replace(MEASURED, precision="int8", peers={"resnet34": 10.0})
    (resnet,) = (t for t in targets(CROPS, faster) if "ResNet34" in t.of)
    assert (resnet.asked, resnet.met) == (50, False)


def test_tables_show_every_step_and_peer() -> None:
    text = printed(tables(MEASURED), markdown=True)
    for shown in (
        "| infer | 3.80 | 95% |",
        "| bound of 2 cores | 500 | 80% |",
        "24.2 times as fast",
    ):
        assert shown in text


def test_text_tables_are_columns() -> None:
    text = printed([(("`step`", "ms"), [("decode", "1.25"), ("infer on a CPU", "3")])])
    assert text.splitlines() == [
        "step              ms",
        "decode          1.25",
        "infer on a CPU     3",
    ]


def test_quick_runs_ask_for_the_same() -> None:
    assert [(k.name, k.detector, k.of_bound, k.times) for k in QUICK] == [
        (k.name, k.detector, k.of_bound, k.times) for k in FULL
    ]


def test_the_peak_memory_of_a_command_is_its_own() -> None:
    ballast = np.ones(50_000_000, np.uint8)
    small = run_command([sys.executable, "-c", "pass"], 1)
    large = run_command([sys.executable, "-c", "a = bytearray(b'1') * 200_000_000"], 1)
    assert small.peak_mb < 40 < ballast.nbytes / 1e6
    assert 190 < large.peak_mb < 250
    assert large.seconds > 0


def test_a_command_that_fails_ends_the_benchmark() -> None:
    with pytest.raises(SystemExit, match="ended with 3"):
        run_command([sys.executable, "-c", "raise SystemExit(3)"], 1)


def test_steps_are_timed_per_image_and_core() -> None:
    def busy() -> None:
        x = np.random.default_rng(0).random((600, 600))
        for _ in range(4):
            np.sort(x, axis=0)

    once, twice = core_seconds(busy, 1, 10), core_seconds(busy, 2, 10)
    assert 0 < once < 1
    assert 0.3 < twice / once < 3  # of the same order: not multiplied by the number of cores


def test_photographs_have_the_sizes_of_photographs() -> None:
    source = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    for view, megapixels in zip(islice(views([source]), 2), MEGAPIXELS, strict=False):
        assert view.shape[0] * view.shape[1] == pytest.approx(megapixels * 1e6, rel=0.01)


def test_many_files_are_links_to_a_few(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for number in range(3):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(source / f"{number}.png")
    folder = multiplied(crop_files(source, tmp_path, 3), tmp_path / "linked", 10)
    files = sorted(folder.iterdir())
    assert len(files) == 10
    assert len({path.stat().st_ino for path in files}) == 3
    with Image.open(files[4]) as image:
        assert image.getpixel((0, 0)) == (1, 0, 0)
