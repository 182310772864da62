from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from faceaudit.faces import Face
from faceaudit.pipeline.crops import CroppedImage
from faceaudit.pipeline.scores import Scores
from faceaudit.pipeline.table import in_row_groups, to_arrow
from faceaudit.schema import NO_FACE, OK, UNREADABLE, Task, table_schema

TASKS = (Task("gender", "gender2", ("Male", "Female")), Task("age_group", "x", ("0-9", "10+")))
SCHEMA = table_schema(
    TASKS, with_age=True, labels=["gender_true", "age_true"], carried=[pa.field("site", pa.int64())]
)


def image(number: int, faces: int | None) -> CroppedImage:
    """An image with so many faces; None where it could not be read."""
    if faces is None:
        return CroppedImage(f"{number}", None, UNREADABLE, "cut off", None, None, (), ())
    found = tuple(
        Face(k, number, k + 10, number + 20, None if k % 3 == 2 else 0.5 + k / 8)
        for k in range(faces)
    )
    error = None if faces else "no face was found"
    crop = np.zeros((4, 4, 3), np.uint8)
    return CroppedImage(
        f"{number}", "ab", OK if faces else NO_FACE, error, 30, 40, found, (crop,) * faces
    )


def rows_one_by_one(
    images: Sequence[CroppedImage], scores: Scores | None, extra: Mapping[str, Sequence[Any]]
) -> list[dict[str, Any]]:
    """What the table must hold, written down row by row."""
    rows, scored = [], 0
    for position, cropped in enumerate(images):
        for number in range(max(1, len(cropped.faces))):
            face = cropped.faces[number] if cropped.faces else None
            row: dict[str, Any] = {
                "image": cropped.name, "sha256": cropped.sha256, "status": cropped.status,
                "error": cropped.error, "width": cropped.width, "height": cropped.height,
                "face": None if face is None else number,
                "box_x0": face and face.x0, "box_y0": face and face.y0,
                "box_x1": face and face.x1, "box_y1": face and face.y1,
                "detection_score": face and face.score,
                "gender_true": None if number else extra["gender_true"][position],
                "age_true": None if number else extra["age_true"][position],
                "site": extra["site"][position],
                "age_pred": None,
            }  # fmt: skip
            for task in TASKS:
                row[task.pred_column] = row[task.probs_column] = None
                if face is not None:
                    assert scores is not None
                    probs = scores.probs[task.name][scored].tolist()
                    row[task.pred_column] = task.classes[int(np.argmax(probs))]
                    row[task.probs_column] = dict(zip(task.classes, probs, strict=True))
            if face is not None:
                assert scores is not None
                assert scores.age is not None
                row["age_pred"] = float(scores.age[scored])
                scored += 1
            rows.append(row)
    return rows


@given(st.lists(st.none() | st.integers(0, 4), max_size=12))
def test_rows_are_those_written_one_by_one(faces: list[int | None]) -> None:
    images = [image(number, count) for number, count in enumerate(faces)]
    total = sum(len(cropped.faces) for cropped in images)
    rng = np.random.default_rng(total)
    scores = None
    if total:
        probs = {task.name: rng.random((total, 2)).astype(np.float32) for task in TASKS}
        scores = Scores(probs, rng.random(total).astype(np.float32) * 90)
    extra = {
        "gender_true": ["Male" if k % 2 else None for k in range(len(images))],
        "age_true": [float(k) for k in range(len(images))],
        "site": list(range(len(images))),
    }
    table = to_arrow(images, scores, TASKS, extra, SCHEMA)
    assert table.schema.equals(SCHEMA)
    table.validate(full=True)
    expected = rows_one_by_one(images, scores, extra)
    for found, row in zip(table.to_pylist(), expected, strict=True):
        assert found == {name: pytest.approx(row[name], nan_ok=False) for name in SCHEMA.names}


@pytest.mark.parametrize("sizes", [[1, 2, 4], [3, 1, 3], [7]], ids=str)
def test_row_groups_are_in_one_piece_whatever_comes_in(
    sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("faceaudit.pipeline.table.ROW_GROUP", 3)
    rows = pa.table({"image": [f"{number}.jpg" for number in range(7)]})
    starts = np.cumsum([0, *sizes])
    given = (rows.slice(int(start), size) for start, size in zip(starts, sizes, strict=False))
    found = list(in_row_groups(given, rows.schema))
    assert [len(group) for group in found] == [3, 3, 1]
    assert [group["image"].num_chunks for group in found] == [1, 1, 1]
    assert pa.concat_tables(found) == rows
