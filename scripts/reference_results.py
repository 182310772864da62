"""Write docs/reference-results.md: ``python -m scripts.reference_results``.

Every row of the reference works that a recipe repeats, with what was reported, what leaks, and what
was measured here: ``docs/results/NAME.json`` of a run (the card's metrics of its bundle), and the
study of sharing (``docs/results/study.json``, by ``python -m benchmarks.study``) and the leak
reproduced (``docs/results/redrawn.json``, by ``python -m benchmarks.redrawn``), the ablations of
the default bundle's recipe (``ablations.json``, by ``python -m benchmarks.ablations``), and what
each network learns from random weights (``from_scratch.json``, ``benchmarks.from_scratch``).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from benchmarks import ablations, from_scratch, redrawn, study
from faceaudit.models.backbones import find_backbone
from faceaudit.training.recipe import Recipe, Reference
from faceaudit.training.recipe_files import list_recipes, load_recipe

ROOT = Path(__file__).parents[1]
DOCUMENT, RESULTS = ROOT / "docs" / "reference-results.md", ROOT / "docs" / "results"
HEAD = """# What the reference works reported, and what holds on clean splits

Made by `python -m scripts.reference_results` from the recipes and the files in `docs/results`.
Every row is a recipe: `faceaudit train reference/NAME --data CROPS` repeats it on a split by groups
of duplicates, so that no picture is on two sides. Reported figures are those of the source. Shares
are accuracies; `age_mae_scaled` is the mean absolute error divided by 69 years.
"""
NO_LEAK = "nothing that is known; the split is made before images are copied."
WEIGHTS = {"imagenet": "ImageNet", "vggface": "VGGFace"}


def document() -> str:
    """The whole document."""
    names = [name for name in list_recipes() if name.startswith("reference/")]
    rows = [(name, load_recipe(name)) for name in names]
    parts = [HEAD]
    sources = dict.fromkeys(_reference(recipe).source.partition(",")[0] for _, recipe in rows)
    for source in sources:
        own = [(n, r) for n, r in rows if _reference(r).source.startswith(source)]
        parts.append("\n".join(_section(source, own)))
    parts.append("\n".join(_from_scratch()))
    parts.append("\n".join(_leak()))
    parts.append("\n".join(_study()))
    parts.append("\n".join(_ablations()))
    return "\n".join(parts)


def _section(source: str, rows: list[tuple[str, Recipe]]) -> Iterator[str]:
    yield f"## {source}\n"
    for leak in dict.fromkeys(_reference(recipe).leak for _, recipe in rows):
        yield f"What leaks: {leak or NO_LEAK}\n"
    yield "| row | recipe | reported | measured here |"
    yield "| --- | --- | --- | --- |"
    for name, recipe in rows:
        reference = _reference(recipe)
        reported = ", ".join(f"{task} {value:g}" for task, value in reference.reported.items())
        yield (
            f"| {reference.row} | `{name}` | {reported or 'nothing'} | {measured(name, recipe)} |"
        )
    yield "\nWhat the recipes do otherwise than the source:\n"
    for differs in dict.fromkeys(_reference(recipe).differs for _, recipe in rows):
        chosen = [n.rpartition("/")[2] for n, r in rows if _reference(r).differs == differs]
        yield f"- {', '.join(chosen)}: {differs}"
    yield ""


def measured(name: str, recipe: Recipe) -> str:
    """What a run of a recipe measured, or why there is none."""
    path = RESULTS / f"{name.rpartition('/')[2]}.json"
    if path.is_file():
        facts = json.loads(path.read_text())
        figures = [
            f"{task} {one['accuracy' if 'accuracy' in one else 'mae']:.3f}"
            f" ({one['low']:.3f} to {one['high']:.3f})"
            for task, one in facts["metrics"].items()
        ]
        return f"{', '.join(figures)}; {facts['how']}"
    small = "; what it learns from nothing is below" if name in _learned() else ""
    source = find_backbone(recipe.backbone).sources.get(recipe.weights)
    if recipe.weights in WEIGHTS and (source is None or not source.package):
        keeps = ", which it keeps" if recipe.frozen != "none" else ""
        return f"not run here: needs {WEIGHTS[recipe.weights]} weights{keeps}{small}"
    return f"not run whole: {recipe.epochs} epochs at {recipe.size} pixels{small}"


@cache
def _learned() -> frozenset[str]:
    """Recipes that were trained from random weights."""
    if not from_scratch.RESULTS.is_file():
        return frozenset()
    found = json.loads(from_scratch.RESULTS.read_text())
    return frozenset(f"reference/{one['recipe']}" for one in found)


def _from_scratch() -> Iterator[str]:
    yield "## What the networks learn from nothing\n"
    if not from_scratch.RESULTS.is_file():
        yield "Not run yet: `python -m benchmarks.from_scratch run` answers it.\n"
        return
    found = [from_scratch.Learned(**one) for one in json.loads(from_scratch.RESULTS.read_text())]
    size, steps = from_scratch.SHORT["stages"][0]["size"], from_scratch.EPOCHS * from_scratch.STEPS
    yield (
        "Each network by its recipe from random weights, nothing frozen, with learning rates of "
        f"ours, at most {steps} steps at {size} pixels, on aligned crops of all ages, on the same "
        f"{found[0].held_out:,} held-out images of UTKFace, with 95 % intervals. (Their split was "
        "by hashes alone, which leaves one in a hundred with a copy that was learned.) It shows "
        "which recipes learn, and nothing of how "
        "good a row can be: what is no better than the last row was not learned in so few steps. "
        f"{_not_among(found)}\n"
    )
    yield from_scratch.table_of(found)
    yield ""


def _not_among(found: Sequence[from_scratch.Learned]) -> str:
    left = [name for name in from_scratch.ROWS if name not in {one.recipe for one in found}]
    return f"Not run yet: {', '.join(left)}." if left else ""


def _leak() -> Iterator[str]:
    yield "## What a leaking split shows\n"
    path = redrawn.RESULTS
    if not path.is_file():
        yield "Not run yet: `python -m benchmarks.redrawn` answers it.\n"
        return
    yield (
        "One small network (recipe `study/mtl`, trained without augmentation until it knows its "
        "crops nearly by heart), the same weights tested twice: on test crops of which no picture "
        "was learned, and on a tenth of all files drawn again, as the source with the highest "
        "figures drew its own.\n"
    )
    yield redrawn.table_of([redrawn.Shown(**one) for one in json.loads(path.read_text())])
    yield ""


def _study() -> Iterator[str]:
    yield "## Does sharing help?\n"
    if not study.RESULTS.is_file():
        yield "Not run yet: `python -m benchmarks.study run` answers it.\n"
        return
    found = [study.Comparison(**one) for one in json.loads(study.RESULTS.read_text())]
    first, mtl = found[0], load_recipe("study/mtl")
    weights = ", ".join(f"{name} weighs {task.weight:g}" for name, task in mtl.tasks.items())
    seeds = (
        f"{first.seeds} seeds, compared"
        if first.seeds > 1
        else "One seed, whose chance is not in the intervals (that of the images is), compared"
    )
    yield (
        f"A MobileNetV2 from ImageNet weights on UTKFace at {mtl.size} pixels, {mtl.epochs} "
        "epochs. All learn from the same images in the same order, but the age models of one "
        "annotated gender or race, which learn from their own part of them. In the loss that tasks "
        f"share, {weights}, as in the source of the embeddings. {seeds} on the same test images; "
        "differences in "
        "accuracy with 95 % intervals; p values adjusted for all "
        f"{len(found)} comparisons (Holm).\n"
    )
    yield study.table(found)
    yield ""


def _ablations() -> Iterator[str]:
    yield "## What each choice in the default bundle's recipe gives\n"
    if not ablations.RESULTS.is_file():
        yield "Not run yet: `python -m benchmarks.ablations run` answers it.\n"
        return
    found = [study.Comparison(**one) for one in json.loads(ablations.RESULTS.read_text())]
    yield (
        "Recipe `fairface`, two epochs at 64 pixels, one choice undone at a time; one seed. Points "
        f"of accuracy on the same {found[0].images:,} held-out images, less the whole recipe's, "
        "with 95 % intervals; * where the p value, adjusted for all of them (Holm), is below 0.05. "
        "The intervals hold the images' chance, not the seed's.\n"
    )
    yield ablations.table_of(found)
    yield ""


def _reference(recipe: Recipe) -> Reference:
    if recipe.reference is None:
        raise ValueError(f"recipe {recipe.name} repeats no row")
    return recipe.reference


if __name__ == "__main__":
    DOCUMENT.write_text(document(), encoding="utf-8")
    print(DOCUMENT)
