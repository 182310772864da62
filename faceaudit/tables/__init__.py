"""A table of predictions in one canonical, lazy form, whoever wrote it.

``read_table`` opens what ``faceaudit predict`` wrote (a Parquet file, or a folder of
``part-*.parquet``) and any other Parquet or CSV table. The canonical columns are:

* ``image`` and ``status`` (text, never null),
* ``<task>_true`` and ``<task>_pred`` (text; null where unknown or not among the classes),
* ``<task>_prob_<class>`` (numbers; null for all classes of a face or for none),
* ``age_true`` and ``age_pred`` (years),
* every other column as it was.
"""

from faceaudit.tables.files import SUFFIXES, find_parts
from faceaudit.tables.read import column_names, image_names, read_table
from faceaudit.tables.scores import SUM_TOLERANCE
from faceaudit.tables.table import (
    FACE,
    IMAGE,
    NOT_SCORED,
    STATUS,
    PredictionTable,
    face_number,
    readable,
    score_column,
    score_columns,
)
from faceaudit.tables.tasks import MAX_CLASSES
from faceaudit.tables.years import MAX_YEARS

__all__ = [
    "FACE",
    "IMAGE",
    "MAX_CLASSES",
    "MAX_YEARS",
    "NOT_SCORED",
    "STATUS",
    "SUFFIXES",
    "SUM_TOLERANCE",
    "PredictionTable",
    "column_names",
    "face_number",
    "find_parts",
    "image_names",
    "read_table",
    "readable",
    "score_column",
    "score_columns",
]
