"""The contract: tasks, classes, schemes, age groups, status values, columns, table metadata.

Every other module takes these names from here; none writes them again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from typing import Any

import pyarrow as pa

from faceaudit.errors import SchemaError, UnknownNameError, UsageError
from faceaudit.statuses import NO_FACE as NO_FACE
from faceaudit.statuses import OK as OK
from faceaudit.statuses import STATUSES as STATUSES
from faceaudit.statuses import TOO_LARGE as TOO_LARGE
from faceaudit.statuses import UNREADABLE as UNREADABLE
from faceaudit.statuses import UNSUPPORTED as UNSUPPORTED
from faceaudit.statuses import Status as Status

SCHEMA_VERSION = 1
METADATA_KEY = b"faceaudit"
MANIFEST_FILE = "_manifest.json"
"""In a folder of parts: which there are, of which images, and whether they are complete."""

EXAMPLE = re.compile(r" \(for example .*\)")
"""Where a note on labels names an image."""

# --- tasks and schemes ------------------------------------------------------------------------

SCHEMES: dict[str, tuple[str, ...]] = {
    "gender2": ("Male", "Female"),
    "utkface5": ("White", "Black", "Asian", "Indian", "Others"),
    "fairface7": (
        "White",
        "Black",
        "Latino_Hispanic",
        "East Asian",
        "Southeast Asian",
        "Indian",
        "Middle Eastern",
    ),
    "fairface4": ("White", "Black", "Asian", "Indian"),
}
"""Classes of every categorical scheme, in logit order."""

SCHEME_MAPS: dict[tuple[str, str], dict[str, str]] = {
    # A convention, not a truth: the page prints it wherever it is used.
    ("fairface7", "utkface5"): {
        "White": "White",
        "Black": "Black",
        "Latino_Hispanic": "Others",
        "East Asian": "Asian",
        "Southeast Asian": "Asian",
        "Indian": "Indian",
        "Middle Eastern": "Others",
    },
    # Source: FairFace, predict.py and README: the 4-race model merges these classes.
    ("fairface7", "fairface4"): {
        "White": "White",
        "Black": "Black",
        "Latino_Hispanic": "White",
        "East Asian": "Asian",
        "Southeast Asian": "Asian",
        "Indian": "Indian",
        "Middle Eastern": "White",
    },
}
"""(finer scheme, coarser scheme) -> class of the finer -> class of the coarser."""

ANNOTATION_MAPS: dict[tuple[str, str], dict[str, str]] = {
    # Faces annotated as Others are of classes that fairface4 counts elsewhere, not known where.
    ("utkface5", "fairface4"): {name: name for name in ("White", "Black", "Asian", "Indian")},
    # Faces annotated as White of fairface4 are White or Others of utkface5.
    ("fairface4", "utkface5"): {name: name for name in ("Black", "Asian", "Indian")},
}
"""Likewise of annotations only, where asked for: classes without a counterpart are left out."""

ANNOTATION_SETS: dict[tuple[str, str], dict[str, tuple[str, ...]]] = {
    # By way of fairface7, whose Latino_Hispanic and Middle Eastern are White here and Others there.
    ("fairface4", "utkface5"): {
        "White": ("White", "Others"),
        "Black": ("Black",),
        "Asian": ("Asian",),
        "Indian": ("Indian",),
    },
}
"""(annotated scheme, scheme that a head learns) -> annotated class -> the classes it may be."""

MAX_AGE = 100
"""The last year of an age distribution; it stands for itself and all later years."""
YEARS = tuple(range(MAX_AGE + 1))

AGE_BINS: dict[str, tuple[int, ...]] = {
    "fairface9": (0, 3, 10, 20, 30, 40, 50, 60, 70),
    "dj5": (0, 15, 26, 41, 61),
}
"""Lower bounds, in years, of the age groups of every named age scheme."""
DEFAULT_AGE_SCHEME = "fairface9"


def age_group_names(bins: Sequence[int]) -> tuple[str, ...]:
    """Names of the age groups with these lower bounds.

    Args:
        bins: Lower bounds in years, ascending, the first 0.

    Raises:
        UsageError: If the bounds do not start at 0 or do not ascend.

    Example:
        >>> age_group_names((0, 3, 10))
        ('0-2', '3-9', '10+')
    """
    if not bins or bins[0] != 0 or any(b <= a for a, b in pairwise(bins)):
        given = ",".join(map(str, bins))
        raise UsageError(
            f"--age-bins {given}: give ascending lower bounds starting at 0, such as 0,18,65"
        )
    if bins[-1] > MAX_AGE:
        raise UsageError(f"--age-bins: the last lower bound {bins[-1]} is above {MAX_AGE} years")
    closed = [f"{low}-{high - 1}" for low, high in pairwise(bins)]
    return (*closed, f"{bins[-1]}+")


def age_bins_of(groups: Sequence[str]) -> tuple[int, ...] | None:
    """Lower bounds of named age groups, or None where the names are not of this form.

    Example:
        >>> age_bins_of(("0-2", "3-9", "10+"))
        (0, 3, 10)
    """
    try:
        bins = tuple(int(name.removesuffix("+").split("-")[0]) for name in groups)
        return bins if age_group_names(bins) == tuple(groups) else None
    except (ValueError, UsageError):
        return None


@dataclass(frozen=True)
class Task:
    """One thing that is predicted: its name, its scheme and its classes in logit order."""

    name: str
    scheme: str
    classes: tuple[str, ...]

    @property
    def true_column(self) -> str:
        return f"{self.name}_true"

    @property
    def pred_column(self) -> str:
        return f"{self.name}_pred"

    @property
    def probs_column(self) -> str:
        return f"{self.name}_probs"

    @property
    def ordinal(self) -> bool:
        """Whether the classes have an order (age groups), so that a neighbor is a near miss."""
        return self.name == AGE_GROUP


GENDER, RACE, AGE, AGE_GROUP = "gender", "race", "age", "age_group"
TASK_OPTIONS = (GENDER, RACE, AGE)
"""What ``--tasks`` takes; ``age`` writes the column ``age_pred`` and the task ``age_group``."""
SCHEMES_OF = {GENDER: ("gender2",), RACE: ("fairface4", "utkface5", "fairface7")}
"""The named schemes of a task, those of fewer classes first."""
AGE_TRUE, AGE_PRED = "age_true", "age_pred"


def task_of_scheme(name: str, scheme: str) -> Task:
    """The task with the classes of a named scheme."""
    if scheme in AGE_BINS:
        return Task(name, scheme, age_group_names(AGE_BINS[scheme]))
    if scheme not in SCHEMES:
        raise UnknownNameError("scheme", scheme, [*SCHEMES, *AGE_BINS])
    return Task(name, scheme, SCHEMES[scheme])


def age_group_task(bins: Sequence[int]) -> Task:
    """The age-group task with these lower bounds; its scheme is named where the bounds are."""
    named = {known: scheme for scheme, known in AGE_BINS.items()}
    return Task(AGE_GROUP, named.get(tuple(bins), "custom"), age_group_names(bins))


# --- the table --------------------------------------------------------------------------------

BASE_FIELDS: tuple[pa.Field, ...] = (
    pa.field("image", pa.string(), nullable=False),
    pa.field("sha256", pa.string()),
    pa.field("face", pa.int32()),
    pa.field("status", pa.string(), nullable=False),
    pa.field("error", pa.string()),
    pa.field("width", pa.int32()),
    pa.field("height", pa.int32()),
    pa.field("box_x0", pa.float32()),
    pa.field("box_y0", pa.float32()),
    pa.field("box_x1", pa.float32()),
    pa.field("box_y1", pa.float32()),
    pa.field("detection_score", pa.float32()),
)


@dataclass(frozen=True)
class TableMetadata:
    """What a table says of itself, as JSON under the file-metadata key ``faceaudit``."""

    tasks: tuple[Task, ...]
    model: Mapping[str, Any] = field(default_factory=dict)
    detector: Mapping[str, Any] = field(default_factory=dict)
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    precision: str | None = None
    labels: Mapping[str, Any] = field(default_factory=dict)
    version: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION

    @property
    def annotated_tasks(self) -> dict[str, Task]:
        """Task -> the classes that annotations were chosen from, where that is recorded."""
        facts = self.labels.get("tasks", ())
        return {
            fact["name"]: Task(fact["name"], fact["scheme"], tuple(fact["classes"]))
            for fact in facts
            if fact.get("classes")
        }

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str | bytes, where: str) -> TableMetadata:
        """Parse the metadata of a table.

        Args:
            text: The JSON stored under ``METADATA_KEY``.
            where: The table's name, for error messages.

        Raises:
            SchemaError: If the JSON is damaged or of a later schema version.
        """
        try:
            facts = json.loads(text)
            if (version := facts.get("schema_version", SCHEMA_VERSION)) > SCHEMA_VERSION:
                raise SchemaError(
                    f"{where}: written with schema version {version}, this faceaudit reads up to "
                    f"{SCHEMA_VERSION}; upgrade faceaudit"
                )
            facts["tasks"] = tuple(
                Task(task["name"], task["scheme"], tuple(task["classes"]))
                for task in facts["tasks"]
            )
            found = cls(**facts)
            found._check()
            if notes := found.labels.get("notes"):
                found = replace(found, labels=with_notes(found.labels, notes))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise SchemaError(
                f"{where}: its faceaudit metadata cannot be read ({error}); "
                "write the table again with `faceaudit predict`"
            ) from error
        return found

    def _check(self) -> None:
        """Raise TypeError, KeyError or ValueError where a value has no place here."""
        for name in ("model", "detector", "preprocessing", "labels", "options"):
            if not isinstance(getattr(self, name), dict):
                raise TypeError(f"{name} is no object")
        for name in ("precision", "version"):
            if not isinstance(getattr(self, name), str | None):
                raise TypeError(f"{name} is no text")
        _ = self.annotated_tasks


def with_notes(labels: Mapping[str, Any], notes: Iterable[str]) -> dict[str, Any]:
    """What a table says of its labels, with notes on them: none of these names an image."""
    return {**labels, "notes": [without_example(note) for note in notes]}


def without_example(note: str) -> str:
    """A note on labels without the image that it names, which pages and tallies must not tell.

    Example:
        >>> without_example("1 label has no image (for example 'a (1).jpg')")
        '1 label has no image'
    """
    return EXAMPLE.sub("", note)


def table_schema(
    tasks: Iterable[Task],
    *,
    with_age: bool,
    labels: Iterable[str] = (),
    carried: Iterable[pa.Field] = (),
    metadata: TableMetadata | None = None,
) -> pa.Schema:
    """Arrow schema of a table of predictions, known before the first image is read.

    Args:
        tasks: Tasks with a ``_pred`` and a ``_probs`` column.
        with_age: Whether the model predicts years (``age_pred``).
        labels: Names of annotated columns (``gender_true``, ``age_true``, ...).
        carried: Further columns that travel with the images (prompt, seed, site).
        metadata: Written into the file under ``METADATA_KEY``.
    """
    fields = list(BASE_FIELDS)
    for task in tasks:
        fields.append(pa.field(task.pred_column, pa.string()))
        probs = pa.struct([pa.field(name, pa.float32()) for name in task.classes])
        fields.append(pa.field(task.probs_column, probs))
    if with_age:
        fields.append(pa.field(AGE_PRED, pa.float32()))
    fields += [pa.field(name, pa.float32() if name == AGE_TRUE else pa.string()) for name in labels]
    fields += list(carried)
    found = {METADATA_KEY: metadata.to_json().encode()} if metadata else None
    return pa.schema(fields, metadata=found)
