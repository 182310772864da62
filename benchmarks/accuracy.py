"""How well the shipped bundle predicts: ``python -m benchmarks.accuracy [MODEL]``.

UTKFace validation images, and the FairFace images that the bundle's split held out, each fed both
ways: detected and aligned (``retinaface``), and as crops that are taken whole (``whole``). Reads
``FACEAUDIT_DATA`` (default ``~/faceaudit-data``).
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

from faceaudit.audit.results import Audit, MetricValue
from faceaudit.audit.run import audit
from faceaudit.models.bundle import DEFAULT_BUNDLE, load_bundle
from faceaudit.pipeline.predict import predict
from faceaudit.storage import sha256_of_file
from faceaudit.tables import read_table
from faceaudit.training.data import is_held_out

DATA = Path(os.environ.get("FACEAUDIT_DATA", Path.home() / "faceaudit-data"))
FIGURES = (
    ("gender", "accuracy", "gender accuracy"),
    ("race", "accuracy", "race accuracy"),
    ("age_group", "accuracy", "age group accuracy"),
    ("age_group", "one_off", "age group one-off"),
    ("age", "mae", "age MAE, years"),
    ("age", "cs_at_5", "age CS@5"),
)


def held_out(folder: Path, share: float) -> list[Path]:
    """The images of a folder that a bundle's split did not train on."""
    return [path for path in sorted(folder.iterdir()) if is_held_out(sha256_of_file(path), share)]


def show(title: str, found: Audit) -> None:
    """Print every figure over all faces and in the worst subgroup of annotated gender x race."""
    coverage = next(one for one in found.coverage if not one.subgroup)
    print(f"{title}: {found.images} images, {coverage.statuses}")
    for task, metric, name in FIGURES:
        values = [m for m in found.metrics if (m.task, m.metric) == (task, metric)]
        if not values:
            continue
        overall = next(m for m in values if not m.subgroup)
        crossed = [m for m in values if len(m.subgroup) == 2 and not m.small]
        worst = sorted(crossed, key=lambda m: m.estimate.value or 0.0)
        pick = worst[-1 if metric == "mae" else 0] if worst else None
        print(f"  {name:<20} {shown(overall)}", end="")
        print(f"; worst {', '.join(pick.subgroup.values())}: {shown(pick)}" if pick else "")


def shown(value: MetricValue) -> str:
    """A figure with its interval and number of faces."""
    found = value.estimate
    return f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f}, n {found.n})"


def main() -> None:
    """Print the figures of a model."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", nargs="?", default=DEFAULT_BUNDLE, help="default: %(default)s")
    model = parser.parse_args().model
    recipe = load_bundle(model).card["recipe"]
    share = recipe.get("data", recipe)["validation_share"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        listing = folder / "fairface.txt"
        paths = held_out(DATA / "fairface" / "train", share)
        listing.write_text("\n".join(map(str, paths)), encoding="utf-8")
        for title, images, labels in (
            ("UTKFace validation", DATA / "utkface" / "val", "utkface"),
            ("FairFace held out", listing, f"fairface:{DATA / 'fairface_train_labels.csv'}"),
        ):
            for detector in ("retinaface", "whole"):
                table = folder / f"{detector}.parquet"
                predict(images, table, model=model, detector=detector, labels=labels, restart=True)
                show(f"{title}, --detector {detector}", audit(read_table(table), verify="never"))


if __name__ == "__main__":
    main()
