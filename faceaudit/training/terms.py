"""What a training learns from and the terms that come with it: data, weights, other bundles."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from faceaudit.models.backbones import find_backbone
from faceaudit.models.backbones.weights import TERMS_UNKNOWN, is_file_name, source_of
from faceaudit.models.bundle import load_bundle
from faceaudit.tables.files import read_metadata
from faceaudit.training.data import METADATA_FILE
from faceaudit.training.folders import folders_of, names_of
from faceaudit.training.recipe import Recipe

RESEARCH_ONLY = {"utkface": "UTKFace"}
"""Label formats of data sets that allow research only, and the names of these."""


def terms_of(recipe: Recipe) -> tuple[str, bool]:
    """The license of what a recipe makes, and whether it is for research only.

    Raises:
        BundleError: If its start or a teacher is missing or damaged.
    """
    source = source_of(find_backbone(recipe.backbone), recipe.weights)
    names = [*recipe.starts, *recipe.distillation.teachers]
    binding = [one for one in map(load_bundle, names) if one.card.get("research_only")]
    licence = recipe.licence
    for ancestor in binding:
        if ancestor.licence not in licence:
            licence = f"{licence}; bundle {ancestor.name}: {ancestor.licence}"
    if source and source.licence == TERMS_UNKNOWN and recipe.research_only is None:
        return f"{licence}; weights {name_of(recipe.weights)}: {TERMS_UNKNOWN}", True
    return licence, bool(binding or recipe.research_only or (source and source.research_only))


def doubts_about_terms(recipe: Recipe, folders: Sequence[Path]) -> list[str]:
    """A sentence for each folder of data whose terms are narrower than what a recipe says of it."""
    if terms_of(recipe)[1]:
        return []
    return [
        f"{folder} has the labels of {name}, which allows research only, and the recipe "
        f"{recipe.name} says license {recipe.licence!r}, trained on {recipe.training_data!r}; "
        "set research_only, licence and training_data"
        for folder in folders
        if (name := RESEARCH_ONLY.get(labels_format(folder)))
    ]


def sources_of(folders: Sequence[Path], files: Iterable[str]) -> list[dict[str, Any]]:
    """For a card: each prepared folder's name, the format of its labels, and its crops taken.

    Args:
        folders: That ``faceaudit prepare`` wrote.
        files: The crops taken from them.
    """
    counts = Counter(folders_of(map(Path, files), folders))
    return [
        {
            "folder": name,
            "labels": labels_format(folder) or "not recorded",
            "crops": counts[number],
        }
        for number, (folder, name) in enumerate(zip(folders, names_of(folders), strict=True))
    ]


def labels_format(folder: Path) -> str:
    """Format of the labels that a folder was prepared with; empty where it does not say."""
    metadata = read_metadata(folder / METADATA_FILE)
    return "" if metadata is None else str(metadata.labels.get("format", ""))


def name_of(weights: str) -> str:
    """A recipe's weights without the folder that a file of them is in."""
    return Path(weights).name if is_file_name(weights) else weights
