"""Bundles that a training starts from or learns from, and what they may know of its held-out part.

Held-out figures are too good where a start or a teacher was trained on the images they are of.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from faceaudit.models.bundle import Bundle, load_bundle
from faceaudit.training.data import is_held_out
from faceaudit.training.recipe import Recipe
from faceaudit.training.splits import TEST, VALIDATION, Split, smallest_hashes

RULE = "u = smallest sha256 among a picture's duplicates / 2**256"
"""How trainings choose the pictures that they hold out: those of the smallest u."""
GROUPING = ("crops", "groups_of_duplicates", "crops_with_duplicates")
"""Counts of a split by which two trainings are taken to have had the same duplicates."""


def held_out_doubts(recipe: Recipe, split: Split) -> list[str]:
    """A sentence for each start or teacher that may have been trained on held-out images.

    A bundle is known not to have been where its card records the same rule and that it held out all
    of this split's held-out images.

    Args:
        recipe: Names the bundles.
        split: What the recipe holds out.

    Raises:
        BundleError: If a bundle is missing or damaged.
    """
    found = (_doubt(role, bundle, recipe, split) for role, bundle in _ancestors(recipe))
    return [sentence for sentence in found if sentence]


def _ancestors(recipe: Recipe) -> Iterator[tuple[str, Bundle]]:
    if recipe.start:
        yield "start", load_bundle(recipe.start)
    for name in recipe.distillation.teachers:
        yield "teacher", load_bundle(name)


def _doubt(role: str, bundle: Bundle, recipe: Recipe, split: Split) -> str:
    """What a bundle may have seen, as a sentence; empty where it saw nothing of it."""
    begin = f"The {role} {bundle.name} may have been trained on"
    share = held_out_share(bundle)
    if share is None:
        return f"{begin} held-out images of this run: its card does not say what it held out."
    digests = split.table["sha256"].to_list()
    facts, known = split.facts(), _table(bundle.card, "split")
    if all(known.get(name) == facts[name] for name in GROUPING):
        digests = smallest_hashes(digests, split.table["group"].to_numpy())
    held = split.table["part"].is_in([VALIDATION, TEST]).to_numpy()
    seen = held & ~np.asarray([is_held_out(digest, share) for digest in digests], bool)
    if seen.any():
        same = bundle.training_data == recipe.training_data
        data = "" if same else f" of its own data ({bundle.training_data})"
        return (
            f"{begin} {seen.sum():,} of the {held.sum():,} held-out images of this run: "
            f"it held out u < {share:g}{data}."
        )
    if bundle.card.get("held_out_doubts"):
        return f"{begin} held-out images of this run: its card doubts its own start or teachers."
    return ""


def held_out_share(bundle: Bundle) -> float | None:
    """The largest u that a bundle's training held out; None where its card does not say so."""
    data = _table(_table(bundle.card, "recipe"), "data")
    rule = str(_table(bundle.card, "split").get("rule", ""))
    if not rule.startswith(RULE) or "validation_share" not in data:
        return None
    return float(data["validation_share"]) + float(data.get("test_share", 0.0))


def _table(facts: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A table of a card, which anybody may have written; empty where it is none."""
    found = facts.get(name)
    return found if isinstance(found, Mapping) else {}
