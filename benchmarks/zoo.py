"""Images per second of every network of the zoo, for docs/zoo.md.

    python -m benchmarks.zoo --json docs/results/zoo.json
    python -m scripts.zoo

Each round times every network once, so that what else runs meanwhile, or a machine that slows
down, is spread over all of them; the lowest and the highest round are told beside the median.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import torch

from benchmarks.predict import machine, per_second
from benchmarks.predict_tables import Table, printed
from faceaudit.training.zoo import BATCH, zoo

ROUNDS = 3


@dataclass(frozen=True)
class Speed:
    """Images per second of a row of the zoo, round by round.

    ``separate`` is that of one network per task, run one after another; empty where the row has
    one task.
    """

    kind: str
    name: str
    shared: tuple[float, ...]
    separate: tuple[float, ...] = ()


def measure(rounds: int) -> list[Speed]:
    """Every network timed as often."""
    shared, separate = defaultdict(list), defaultdict(list)
    for _ in range(rounds):
        for entry in zoo(speed=True):
            key = (entry.kind, entry.name)
            shared[key].append(entry.images_per_second or 0.0)
            if entry.separate_images_per_second is not None:
                separate[key].append(entry.separate_images_per_second)
    return [Speed(*key, tuple(values), tuple(separate[key])) for key, values in shared.items()]


def spread(values: tuple[float, ...]) -> str:
    """The median, with the lowest and the highest; nothing for nothing."""
    if not values:
        return ""
    low, high = per_second(min(values)), per_second(max(values))
    return f"{per_second(median(values))} ({low} to {high})"


def table_of(found: list[Speed]) -> Table:
    """What was measured, a row per network."""
    rows = [(f"{one.kind} {one.name}", spread(one.shared), spread(one.separate)) for one in found]
    return ("network", "images/s", "one network per task"), rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--json", type=Path, help="write the figures there too")
    arguments = parser.parse_args()
    facts = (
        f"{machine('cpu')}, torch {torch.__version__} on {torch.get_num_threads()} threads, "
        f"batches of {BATCH}, {arguments.rounds} rounds"
    )
    found = measure(arguments.rounds)
    print(f"{facts}\n\n{printed([table_of(found)])}")
    if arguments.json:
        speeds = [asdict(one) for one in found]
        text = json.dumps({"machine": facts, "speeds": speeds}, indent=1)
        arguments.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
