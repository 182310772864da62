"""Bundles that a training starts from or learns from, and what they may know of its held-out part.

Held-out figures are too good where a start or a teacher was trained on the images they are of: such
images are left out where it is known which they are, and where it is not, the card says so.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceaudit.models.bundle import Bundle, load_bundle
from faceaudit.training.data import is_held_out
from faceaudit.training.recipe import Recipe
from faceaudit.training.splits import (
    LEARNED,
    LEFT_OUT_AS_LEARNED,
    TEST,
    VALIDATION,
    Split,
    smallest_hashes,
)

log = logging.getLogger(__name__)

RULE = "u = smallest sha256 among a picture's duplicates / 2**256"
"""How trainings choose the pictures that they hold out: those of the smallest u."""
ANCESTORS_SHARE = "ancestors_held_out"
"""Key of a card's split: the largest u that its start and teachers held out."""
GROUPING = ("crops", "groups_of_duplicates", "crops_with_duplicates")
"""Counts of a split by which two trainings are taken to have had the same duplicates."""


def without_learned(recipe: Recipe, split: Split, work: Path, *, record: bool = True) -> Split:
    """A split without the held-out images that a start or teacher may have been trained on.

    Each bundle's card says which it held out. Where it does not, or nothing would be left to
    validate on or to test on, they stay, and ``held_out_doubts`` has a sentence.

    Args:
        recipe: Names the bundles.
        split: What the recipe holds out.
        work: Where what is left of it is recorded.
        record: Whether it is: of processes that train together, one does.

    Raises:
        BundleError: If a bundle is missing or damaged.
    """
    for role, bundle in _ancestors(recipe):
        seen = _seen(bundle, split)
        if seen is None or not seen.any():
            continue
        rest = split.without(seen, LEARNED)
        if len(rest.validation) and (len(rest.test) or not len(split.test)):
            log.info(
                "%d held-out crops left out: the %s %s may have learned them",
                seen.sum(),
                role,
                bundle.name,
            )
            split = rest
            if record:
                split.record(work)
    return split


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
    for name in recipe.starts:
        yield "start", load_bundle(name)
    for name in recipe.distillation.teachers:
        yield "teacher", load_bundle(name)


def _doubt(role: str, bundle: Bundle, recipe: Recipe, split: Split) -> str:
    """What a bundle may have seen, as a sentence; empty where it saw nothing of it."""
    begin = f"The {role} {bundle.name} may have been trained on"
    seen = _seen(bundle, split)
    if seen is None:
        return f"{begin} held-out images of this run: its card does not say what it held out."
    if seen.any():
        same = bundle.training_data == recipe.training_data
        data = "" if same else f" of its own data ({bundle.training_data})"
        return (
            f"{begin} {seen.sum():,} of the {_is_held(split).sum():,} held-out images of this run: "
            f"it held out u < {held_out_share(bundle):g}{data}."
        )
    if bundle.card.get("held_out_doubts"):
        return f"{begin} held-out images of this run: its card doubts its own start or teachers."
    return ""


def _seen(bundle: Bundle, split: Split) -> NDArray[np.bool_] | None:
    """Held-out crops that a bundle may have been trained on, (N,); None where it is not known."""
    share = held_out_share(bundle)
    if share is None:
        return None
    digests = split.table["sha256"].to_list()
    facts, known = split.facts(), _table(bundle.card, "split")
    alike = all(known.get(name) == facts[name] for name in GROUPING)
    if alike and not known.get(LEFT_OUT_AS_LEARNED):  # else its ancestors went by other groups
        digests = smallest_hashes(digests, split.table["group"].to_numpy())
    kept = np.asarray([is_held_out(one, share) for one in digests], bool)
    # Whoever learned one picture of a group has learned all of it.
    _, group = np.unique(split.table["group"].to_numpy(), return_inverse=True)
    learned = np.bincount(group, weights=~kept) > 0
    return np.asarray(_is_held(split) & learned[group])


def _is_held(split: Split) -> NDArray[np.bool_]:
    return np.asarray(split.table["part"].is_in([VALIDATION, TEST]))


def held_out_share(bundle: Bundle) -> float | None:
    """The largest u that a bundle's training held out, and every training that it goes back to.

    None where its card does not say so.
    """
    data = _table(_table(bundle.card, "recipe"), "data")
    split = _table(bundle.card, "split")
    rule = str(split.get("rule", ""))
    if not rule.startswith(RULE) or "validation_share" not in data:
        return None
    own = float(data["validation_share"]) + float(data.get("test_share", 0.0))
    inherited = split.get(ANCESTORS_SHARE)
    return min(own, inherited) if isinstance(inherited, float) else own


def ancestors_share(recipe: Recipe) -> dict[str, float]:
    """For a card: the largest u that its start and teachers are known to have held out.

    Raises:
        BundleError: If a bundle is missing or damaged.
    """
    known = [held_out_share(bundle) for _, bundle in _ancestors(recipe)]
    shares = [share for share in known if share is not None]
    return {ANCESTORS_SHARE: min(shares)} if shares else {}


def _table(facts: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A table of a card, which anybody may have written; empty where it is none."""
    found = facts.get(name)
    return found if isinstance(found, Mapping) else {}
