"""Write docs/reference-results.md: ``python -m scripts.reference_results [--check]``.

Every row of the reference works that a recipe repeats, with what was reported, what leaks, and what
was measured here: rows by their own recipes (``docs/results/reference_rows.json``, by ``python -m
benchmarks.reference_rows``), the study of sharing (``study.json``, ``benchmarks.study``), the leak
reproduced (``docs/results/redrawn.json``, by ``python -m benchmarks.redrawn``), the ablations of
recipe ``fairface_lite0`` (``ablations.json``, by ``python -m benchmarks.ablations``), and what
each network learns from random weights (``from_scratch.json``, ``benchmarks.from_scratch``).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import polars as pl

from benchmarks import ablations, from_scratch, redrawn, reference_rows, study, study_longer
from benchmarks.paired_runs import read
from faceaudit.models.backbones import find_backbone
from faceaudit.schema import AGE
from faceaudit.training.recipe import Recipe, Reference
from faceaudit.training.recipe_files import list_recipes, load_recipe

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "reference-results.md"
HEAD = """# What the reference works reported, and what was measured on clean splits

Made by `python -m scripts.reference_results` from the recipes and the files in `docs/results`.
Every row is a recipe: `faceaudit train reference/NAME --data crops` repeats it on a split by groups
of duplicates, so that no picture is on two sides; what makes the crops stands above the rows.
Reported figures are those of the source. Shares are accuracies; `age_mae_scaled` is the mean
absolute error divided by 69 years.

No row was run whole here. Those whose weights are at hand were trained by their own recipes for
fewer steps, as many as two cores, on which all of this was measured, were given; each row says how
many. The others begin with weights that no package carries. Below the rows stands what the networks
of those [learn from nothing](#what-the-networks-learn-from-nothing) in a few hundred steps,
[the leak](#what-a-leaking-split-shows) of the highest figures reproduced, the answer to their
question whether [sharing helps](#does-sharing-help), and what
[choices of a recipe](#what-each-choice-in-a-recipe-gives) give.
"""
JUDGED = """## How differences are judged

Ways of training are compared in pairs: the same test images, the same seeds. A difference of
accuracies has an uncertainty of two parts, which are added. That of images is the spread of their
differences, a picture and its copies counting as one. That of seeds is what is left of the
accuracies of all ways of a task once the mean of each way and of each seed is taken out, as two or
three seeds of one pair say next to nothing of it; so it is assumed that luck is as large for one
way as for another, but for ways that learned nothing, which are left out of it. Intervals are
Student's, with Satterthwaite's degrees of freedom; p values are adjusted by Holm for all
comparisons of a table. Other intervals on this page are Wilson's, of ages in years score intervals
([statistics.md](statistics.md)).
"""
NO_LEAK = (
    "no more than any split by index: it is made before images are copied, but UTKFace holds "
    "pictures more than once."
)
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
    parts.append(JUDGED)
    return "\n".join(parts)


def _section(source: str, rows: list[tuple[str, Recipe]]) -> Iterator[str]:
    yield f"## {source}\n"
    for leak in dict.fromkeys(_reference(recipe).leak for _, recipe in rows):
        yield f"What leaks: {leak or NO_LEAK}\n"
    commands = dict.fromkeys(_reference(recipe).prepare for _, recipe in rows)
    yield f"Its recipes read what {' or '.join(f'`{one}`' for one in commands)} makes.\n"
    yield "| row | recipe | reported | measured here |"
    yield "| --- | --- | --- | --- |"
    for name, recipe in rows:
        reference = _reference(recipe)
        figures = ", ".join(f"{task} {value:g}" for task, value in reference.reported.items())
        reported = "; ".join(one for one in (figures, reference.weakness) if one) or "nothing"
        yield f"| {reference.row} | `{name}` | {reported} | {measured(name, recipe)} |"
    yield "\nWhat the recipes do otherwise than the source:\n"
    for differs in dict.fromkeys(_reference(recipe).differs for _, recipe in rows):
        chosen = [n.rpartition("/")[2] for n, r in rows if _reference(r).differs == differs]
        yield f"- {', '.join(chosen)}: {differs}"
    yield ""


def measured(name: str, recipe: Recipe) -> str:
    """What a run of a recipe measured, or why there is none."""
    row = reference_rows.read().get(name.rpartition("/")[2])
    if row is not None:
        return reference_rows.text_of(row)
    small = "; what it learns from nothing is below" if name in _learned() else ""
    source = find_backbone(recipe.backbone).sources.get(recipe.weights)
    if recipe.weights in WEIGHTS and (source is None or not source.package):
        frozen = {"trunk": ", trunk frozen", "all_but_last_block": ", trunk partly frozen"}
        kept = frozen.get(recipe.frozen, "")
        return f"not run here: needs {WEIGHTS[recipe.weights]} weights{kept}{small}"
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
        "Network, heads, losses and augmentation of each recipe, from random weights, nothing "
        "frozen, with learning rates and a schedule (cosine) of ours, the last weights kept, at "
        f"most {steps} steps at {size} pixels, on aligned crops of all ages, tested on held-out "
        "images of UTKFace, with 95 % intervals. It shows which recipes learn, and nothing of how "
        "good a row can be: what is no better than the last row was not learned in so few steps. "
        f"{_rates(found)}{_unlearned(found)}{_not_among(found)}".rstrip()
    )
    yield ""
    yield _made_by("from_scratch run", "UTKFACE")
    yield ""
    yield from_scratch.table_of(found)
    yield ""


def _rates(found: Sequence[from_scratch.Learned]) -> str:
    """Which trunk learned at which rate."""
    key = "trunk_learning_rate"
    usual, heads = (f"{from_scratch.SHORT[one]:f}".rstrip("0") for one in (key, "learning_rate"))
    by_rate: dict[float, list[str]] = {}
    for one in found:
        if one.rate != from_scratch.SHORT[key]:
            by_rate.setdefault(one.rate, []).append(one.row)
    other = "".join(f", of {' and '.join(rows)} at {rate:g}" for rate, rows in by_rate.items())
    told = f"Trunks learn at a rate of {usual}{other}, heads of {heads}. "
    if not other:
        return told
    return (
        f"{told}Another rate was tried where a network learned nothing, or little, at the usual "
        "one, and on the very images that it is tested on; the others might do better at another, "
        "too, so that rows are not to be compared with each other. "
    )


def _unlearned(found: Sequence[from_scratch.Learned]) -> str:
    """Which tasks of which networks are not shown to be better than a guess."""
    tasks = {
        one.row: [
            task
            for task, (_, low, high) in one.figures.items()
            if not (high < one.guessed[task] if task == AGE else low > one.guessed[task])
        ]
        for one in found
    }
    told = "; ".join(f"{' and '.join(names)} of {row}" for row, names in tasks.items() if names)
    if not told:
        return "Every network is better than a guess at every task. "
    return f"No better than a guess, within the interval: {told}. "


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
        f"crops nearly by heart: {redrawn.BY_HEART['stages'][0]['epochs']} epochs at one rate, one "
        "seed), the same weights tested twice: on test crops of which no picture was learned, and "
        "on a tenth of all files drawn again, as the source with the highest figures drew its own. "
        "Files without a label of a task do not count for it.\n"
    )
    yield _made_by("redrawn", "UTKFACE")
    yield ""
    yield redrawn.table_of([redrawn.Shown(**one) for one in json.loads(path.read_text())])
    yield ""


def _study() -> Iterator[str]:
    yield "## Does sharing help?\n"
    if not study.RESULTS.is_file():
        yield "Not run yet: `python -m benchmarks.study run` answers it.\n"
        return
    found, mtl = read(study.RESULTS), load_recipe("study/mtl")
    steps = json.loads(study.RESULTS.read_text())["steps"]
    weights = ", ".join(f"{name} weighs {task.weight:g}" for name, task in mtl.tasks.items())
    fewer = ", ".join(
        f"{name.removeprefix('age_').capitalize()} {steps[name]:,}"
        for name in (*study.BY_GENDER, *study.BY_RACE)
    )
    seeds = found[0].seeds
    yield (
        f"A MobileNetV2 from ImageNet weights, its batch norms folded into its convolutions, on "
        f"UTKFace at {mtl.size} pixels, {mtl.epochs} epochs, "
        f"{f'{seeds} seeds' if seeds > 1 else 'one seed'}; the rate ({mtl.trunk_learning_rate:g} "
        f"of the trunk, {mtl.learning_rate:g} of heads) falls to nothing over the epochs, crops "
        "are augmented as `faceaudit train` does without other word, and the weights tested are "
        f"the moving average of the last steps. All learn from the same up to "
        f"{steps['stl_age'] // mtl.epochs * mtl.batch:,} images in the same order, but the age "
        "models of one annotated gender or race, which learn from their own part of them. Copies "
        "of one picture whose labels contradict each other are left out of training and stay in "
        f"the test. {_untried()} The differences are those of the whole ways of training, which "
        "differ in more than their name says:\n"
    )
    yield (
        f"- In the loss that tasks share, {weights}, as in the source of the embeddings; alone, "
        "and where tasks weigh the same, each weighs 1."
    )
    yield (
        "- The gender head has a hidden layer with dropout in plain sharing, and none where its "
        "hidden layer is the embedding; the source has no dropout at all."
    )
    yield (
        f"- The same epochs are fewer steps on fewer faces: {steps['stl_age']:,} on all, and by "
        f"annotated gender and race {fewer}.\n"
    )
    yield (
        f"Compared in pairs on the same {found[0].images:,} test images: differences in points of "
        "accuracy, each with its own 95 % interval; p values adjusted for all "
        f"{len(found)} comparisons (Holm), of which below 0.05 is called shown. {_luck(seeds)}\n"
    )
    yield _made_by("study run", "UTKFACE")
    yield ""
    yield from (f"- {sentence}" for sentence in study.answers(found))
    yield ""
    yield study.table(found)
    yield ""
    yield from _longer()
    yield from _by_group()


def _untried() -> str:
    more = "" if study_longer.RESULTS.is_file() else "more epochs, "
    return (
        f"Whether {more}other rates or a trunk with batch norms would answer otherwise was not "
        "tried."
    )


def _longer() -> Iterator[str]:
    """What more epochs would have given."""
    if not study_longer.RESULTS.is_file():
        return
    found = read(study_longer.RESULTS)
    epochs = load_recipe("study/mtl").epochs
    better, worse = (
        [f"{one.task} of `{one.question}`" for one in found if sign * one.low > 0 < sign * one.high]
        for sign in (1, -1)
    )
    told = [
        f"{'; '.join(names)} {'are' if len(names) > 1 else 'is'} {word} beyond the interval"
        for names, word in ((better, "better"), (worse, "worse"))
        if names
    ]
    yield (
        f"Had it converged? With {study_longer.TIMES * epochs} epochs in place of {epochs}, one "
        "seed, the same test images, each against its run of the study (intervals hold the chance "
        "of images, not of seeds, and are not adjusted for each other): "
        f"{', and '.join(told) or 'no difference exceeds its interval'}.\n"
    )
    yield _made_by("study_longer run", "UTKFACE")
    yield ""
    yield study_longer.table(found)
    yield ""


def _by_group() -> Iterator[str]:
    found = study.by_group(pl.read_parquet(study.RIGHT))
    worse = [one for one in found if one.told_apart]
    yield (
        "Age models of one annotated gender or race were given the faces annotated so: in use that "
        "would have to be predicted first, with its own errors. By group, each against the one "
        f"model of all on the same faces (p values adjusted for these {len(found)}): "
        + (
            "; ".join(
                f"for {one.question} the own model is "
                f"{'better' if one.difference > 0 else 'worse'} by {study.interval(one)} points"
                for one in worse
            )
            or "no difference is shown"
        )
        + ".\n"
    )
    yield study.group_table(found)
    yield ""


def _made_by(benchmark: str, images: str, labels: str = "") -> str:
    """The commands that make the numbers of a section."""
    return (
        f"Made by `faceaudit prepare {images} crops{labels}` and `python -m benchmarks.{benchmark} "
        "--data crops --work FOLDER`"
        + (f", then `{benchmark.partition(' ')[0]} write`." if " " in benchmark else ".")
    )


def _luck(seeds: int) -> str:
    """What intervals hold of the chance of seeds."""
    if seeds == 1:
        return "Intervals hold the chance of images, not of seeds: one seed shows nothing."
    return "Intervals hold the chance of images and of seeds ([how](#how-differences-are-judged))."


def _ablations() -> Iterator[str]:
    yield "## What each choice in a recipe gives\n"
    if not ablations.RESULTS.is_file():
        yield "Not run yet: `python -m benchmarks.ablations run` answers it.\n"
        return
    found = read(ablations.RESULTS)
    stage, seeds = ablations.SHORT["stages"][0], found[0].seeds
    yield (
        f"Recipe `{ablations.RECIPE}`, after which those of the bundles were chosen, "
        f"{stage['epochs']} epochs at {stage['size']} pixels, and one choice changed at a time: "
        "no loose crops are views like those in use alone, no damage is no gray, blur, lower "
        "resolution, JPEG or hidden part, one learning rate is the heads' for the trunk too, and "
        "conflicting labels kept are more crops, too. What learned nothing gives one answer to all "
        "faces. "
        f"{seeds} seed{'s' * (seeds > 1)}. Points of "
        f"accuracy on the same {found[0].images:,} held-out images, with 95 % intervals; * where "
        f"the p value, adjusted for all {len(found)} (Holm), is below 0.05. {_luck(seeds)} So "
        "short a budget says what a choice gives early, not at the end: augmentation costs early. "
        "Not compared in this way are the parts of a training (sizes, restarts), learning from "
        "other bundles, the larger trunk and `mirrored`, on which the bundles rest too.\n"
    )
    yield _made_by("ablations run", "FAIRFACE", " --labels fairface:LABELS.csv")
    yield ""
    yield ablations.table_of(
        found, json.loads(ablations.RESULTS.read_text()).get("learned_nothing", ())
    )
    yield ""


def _reference(recipe: Recipe) -> Reference:
    if recipe.reference is None:
        raise ValueError(f"recipe {recipe.name} repeats no row")
    return recipe.reference


if __name__ == "__main__":
    if "--check" in sys.argv[1:]:
        raise SystemExit(DOCUMENT.read_text(encoding="utf-8") != document())
    DOCUMENT.write_text(document(), encoding="utf-8")
    print(DOCUMENT)
