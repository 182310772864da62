"""Fill the generated parts of README.md: ``python -m scripts.readme [--check]``.

Each part stands between ``<!-- NAME -->`` and ``<!-- /NAME -->`` and is made by the function of
that name in ``PARTS``, from the same lists and tables that the program uses.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"
SPEED = README.parent / "docs" / "results" / "predict.json"


SPEED_PEERS = {
    "loop": "x a loop over images",
    "resnet34": "x the loop with ResNet34",
    "dataloader": "x a DataLoader",
    "retina-face": "x `retina-face`",
    "retina-face-640": "x `retina-face` at 640 pixels",
}


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def commands() -> str:
    """Every command and what it does, from its help."""
    from faceaudit.cli import app

    rows = []
    for command in app.registered_commands:
        function = command.callback
        assert function is not None
        text = (function.__doc__ or "").splitlines()[0]
        rows.append((f"`faceaudit {function.__name__}`", text))
    return table(("command", "does"), rows)


def detectors() -> str:
    """Every detector."""
    from faceaudit.faces import DETECTORS

    return table(
        ("`--detector`", "is"),
        ((f"`{name}`", entry.summary) for name, entry in DETECTORS.items()),
    )


def labels() -> str:
    """Every label format."""
    from faceaudit.labels import LABEL_FORMATS

    return table(
        ("`--labels`", "reads"),
        ((f"`{name}`", entry.summary) for name, entry in LABEL_FORMATS.items()),
    )


def figures() -> str:
    """Headline figures of the shipped bundle on the table that the demo audits."""
    from faceaudit.audit.results import Estimate
    from faceaudit.audit.run import audit
    from faceaudit.showcase.run import PREDICTIONS
    from faceaudit.tables import read_table

    found = audit(read_table(PREDICTIONS), verify="never")
    rows, count = [], 0
    for task, metric, title in (
        ("gender", "accuracy", "gender, accuracy"),
        ("race", "accuracy", "race in five classes, accuracy"),
        ("age_group", "accuracy", "age group in nine classes, accuracy"),
        ("age_group", "one_off", "age group, right or a neighbor"),
        ("age", "mae", "age, mean absolute error in years"),
        ("age", "cs_at_5", "age, within five years"),
    ):
        values = [m for m in found.metrics if (m.task, m.metric) == (task, metric) and not m.small]
        overall = next(m.estimate for m in values if not m.subgroup)
        count = max(count, overall.n)
        crossed = [m for m in values if len(m.subgroup) == 2 and m.estimate.value is not None]

        def size(value: float | None) -> str:
            assert value is not None
            return f"{value:.2f}" if metric == "mae" else f"{100 * value:.1f} %"  # noqa: B023

        def shown(estimate: Estimate) -> str:
            return f"{size(estimate.value)} ({size(estimate.low)} to {size(estimate.high)})"

        pick = max if metric == "mae" else min
        worst = pick(crossed, key=lambda m: m.estimate.value or 0.0)
        name = ", ".join(worst.subgroup.values())
        rows.append((title, shown(overall), f"{name}: {shown(worst.estimate)}"))
    titles = (f"on {count:,} faces of UTKFace", "all", "worst annotated gender x race")
    return table(titles, rows)


def held_out() -> str:
    """What the shipped bundle's card says of the held-out part of its own data."""
    from faceaudit.models.bundle import load_bundle

    card = load_bundle("fairface").card
    trained, held = card["split"]["training"], card["split"]["validation"]
    lines = [
        f"It learned from {trained:,} of FairFace's training images. On {held:,} held-out others, "
        "by which only recipes were chosen, in the model's own classes:",
        "",
    ]
    for title, key, worst in zip(
        ("Gender", "Race, seven classes", "Age group, nine classes"),
        ("gender", "race", "age_group"),
        card["weakest"],
        strict=False,
    ):
        one = card["metrics"][key]
        accuracy, low, high = (f"{100 * one[name]:.1f} %" for name in ("accuracy", "low", "high"))
        lines.append(f"- {title}: {accuracy} ({low} to {high}). {worst}")
    return "\n".join(lines)


def speed() -> str:
    """Images per second as the benchmark of predict wrote them, and how many times others'."""
    from benchmarks.predict import per_second

    found = json.loads(SPEED.read_text(encoding="utf-8"))["figures"]
    measured = [peer for peer in SPEED_PEERS if any(peer in one["peers"] for one in found)]
    rows = []
    for one in found:
        rate, peers = one["images_per_second"], one["peers"]
        images = (
            f"{one['kind']} of {one['megapixels']:.2g} megapixels, `--precision {one['precision']}`"
        )
        times = (f"{rate / peers[peer]:.1f}" if peer in peers else "" for peer in measured)
        rows.append((images, per_second(rate), f"{rate / one['bound']:.0%}", *times))
    titles = (SPEED_PEERS[peer] for peer in measured)
    return table((f"{found[0]['cores']} cores", "images/s", "of the bound", *titles), rows)


PARTS: dict[str, Callable[[], str]] = {
    part.__name__: part for part in (commands, detectors, labels, figures, held_out, speed)
}


def filled(text: str) -> str:
    """The text with every generated part made anew."""
    return fill(text, PARTS, README.name)


def fill(text: str, parts: Mapping[str, Callable[[], str]], document: str) -> str:
    """A document's text with every one of its generated parts made anew."""
    for name, make in parts.items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        if not pattern.search(text):
            raise SystemExit(f"{document} has no part {name}")
        body = make()
        text = pattern.sub(lambda match, body=body: f"{match[1]}{body}\n{match[2]}", text)  # type: ignore[misc]
    return text


def rewrite(document: Path, filled: Callable[[str], str], module: str) -> None:
    """Write a document anew; with ``--check`` only say whether it is stale."""
    before = document.read_text(encoding="utf-8")
    after = filled(before)
    if "--check" not in sys.argv:
        document.write_text(after, encoding="utf-8")
    elif before != after:
        raise SystemExit(f"{document.name} is stale: run python -m {module}")


def main() -> None:
    """Write README.md, or say that it is stale."""
    rewrite(README, filled, "scripts.readme")


if __name__ == "__main__":
    main()
