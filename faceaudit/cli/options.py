"""Options and arguments that several commands have, each said once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Print what is done in detail.")]
LogFormat = Annotated[str, typer.Option(help="Log lines as text or json.", metavar="text|json")]
Images = Annotated[
    str,
    typer.Argument(
        help="A folder, image, list of paths (.txt .csv .parquet), .tar, .parquet with images, a "
        "glob of these, or pixels:FILE.csv."
    ),
]
Detector = Annotated[str, typer.Option(help="retinaface, retina-face, or whole: images are crops.")]
Faces = Annotated[str, typer.Option(help="Which faces count: largest, center or all.")]
Labels = Annotated[
    str,
    typer.Option(
        help="auto, none, or FORMAT[:PATH]: utkface, fairface, imagefolder, pixels, table."
    ),
]
Provenance = Annotated[
    str, typer.Option(help="Where labels come from: annotated, self-reported or predicted.")
]
Tables = Annotated[
    list[Path],
    typer.Argument(help="A Parquet or CSV table of predictions; or tallies, which are summed."),
]
Table = Annotated[Path, typer.Argument(help="A Parquet or CSV table of predictions.")]
PageFile = Annotated[
    Path | None, typer.Option("-o", "--output", help="Where the page goes: NAME.html.")
]
Title = Annotated[str | None, typer.Option(help="Of the page.")]
MinN = Annotated[
    int, typer.Option(min=1, help="Smaller subgroups are shown and marked, never ranked.")
]
Confidence = Annotated[float, typer.Option(help="Of intervals, between 0 and 1.")]
Replicates = Annotated[
    int,
    typer.Option(min=100, help="Draws of permutation tests and distances."),
]
Seed = Annotated[int, typer.Option(help="Of the draws; intervals of metrics need none.")]
PolicyFile = Annotated[
    Path | None, typer.Option(help="Rules to hold against the table: NAME.toml.", metavar="FILE")
]
LabelsNow = Annotated[
    str, typer.Option(help="Join labels now: FORMAT:PATH, such as table:labels.csv.")
]
Columns = Annotated[
    list[str] | None, typer.Option(help="Names in a foreign table: age_pred=yhat,...")
]
Classes = Annotated[list[str] | None, typer.Option(help="Classes of a task: race=White,Black,...")]
Map = Annotated[list[str] | None, typer.Option("--map", help="Coarsen a scheme: race=utkface5.")]
By = Annotated[list[str] | None, typer.Option(help="Sensitive features, such as gender,race.")]
Within = Annotated[
    str | None, typer.Option(help="A control feature: compare within its values, at the same mix.")
]
SuppressBelow = Annotated[
    int, typer.Option(help="Cells of fewer faces or images are left out, for privacy.")
]
WithoutLeaks = Annotated[
    Path | None,
    typer.Option(
        help="Leave out images that are in several sets: a table `leaks` wrote.", metavar="LEAKS"
    ),
]
Baseline = Annotated[
    Path | None,
    typer.Option(
        help="An earlier table or tally: the page also tells what changed.", metavar="TABLE"
    ),
]
Unit = Annotated[
    str | None, typer.Option(help="A column: rows with one value of it are not independent.")
]
TrainingData = Annotated[
    list[Path], typer.Option("--data", help="A folder that `prepare` wrote; repeatable.")
]
Changes = Annotated[
    list[str] | None, typer.Option("--set", help="A recipe's key: KEY=VALUE; repeatable.")
]
TrainingDevice = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")]
MaxSteps = Annotated[int | None, typer.Option(min=1, help="Steps per epoch at most (a trial).")]
TableFormat = Annotated[
    str, typer.Option("--format", help="Print a table or json.", metavar="table|json")
]
AgeBins = Annotated[
    str | None, typer.Option(help="Lower bounds of age groups in years, such as 0,18,65.")
]
MaxPixels = Annotated[str, typer.Option(help="Larger images are not decoded; 100M is 100 million.")]
Workers = Annotated[
    str, typer.Option(help="Threads (processes of a cluster), or auto: one per core.")
]
Limit = Annotated[int | None, typer.Option(min=1, help="Take only the first so many images.")]
CropLimit = Annotated[
    int | None, typer.Option("--limit", min=1, help="Crops used at most, of all folders (a trial).")
]
