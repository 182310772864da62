"""What a table says of how it was made, and runs that would make it otherwise."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from faceaudit.errors import TemporaryError, UsageError
from faceaudit.models.bundle import Bundle, Output, years_output
from faceaudit.pipeline import engines, target
from faceaudit.pipeline.custody import differences
from faceaudit.pipeline.inputs import Chunk
from faceaudit.pipeline.plan import Plan
from faceaudit.showcase.images import photograph
from faceaudit.tables.files import read_metadata
from tests.pipeline.processes import run

OUTPUTS = ("out.parquet", "out")
"""A file, and a folder of parts."""


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    folder = tmp_path / "faces"
    folder.mkdir()
    for number in range(6):
        photograph().resize((40 + number, 40)).save(folder / f"2{number}_0_0_{number}.png")
    return folder


@pytest.fixture
def bundle(random_bundle: Bundle, tmp_path: Path) -> Path:
    """A copy whose facts can be changed."""
    return Path(shutil.copytree(random_bundle.graph.parent, tmp_path / "bundle"))


def change_facts(bundle: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = bundle / "bundle.json"
    facts = json.loads(path.read_text())
    change(facts)
    path.write_text(json.dumps(facts))


@pytest.mark.parametrize("name", OUTPUTS)
@pytest.mark.parametrize("limit", [3, None], ids=["a part of it", "all of it"])
def test_a_table_is_not_gone_on_with_by_a_model_that_reads_pixels_otherwise(
    faces: Path, bundle: Path, tmp_path: Path, name: str, limit: int | None
) -> None:
    out = tmp_path / name
    run(faces, out, str(bundle), limit=limit)
    change_facts(bundle, lambda facts: facts["input"].update(color="BGR"))
    with pytest.raises(UsageError, match=r"model input color RGB \(now BGR\); --restart"):
        run(faces, out, str(bundle))
    run(faces, out, str(bundle), restart=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda facts: facts["input"].update(mean=[1, 2, 3]), r"input mean 0.0,0.0,0.0 \(now 1.0"),
        (lambda facts: facts["input"].update(std=[1, 2, 3]), r"input std 1.0,1.0,1.0 \(now 1.0,2"),
        (lambda facts: facts["input"].update(range=1.0), r"input range 255.0 \(now 1.0\)"),
        (
            lambda facts: facts["tasks"][0].update(classes=["Female", "Male"]),
            r"classes gender Male,Female \(now Female,Male\)",
        ),
        (
            lambda facts: facts["tasks"][-1].update(classes="1-101"),
            r"outputs age years 0-100 \(now 1-101\)",
        ),
        (
            lambda facts: facts["tasks"].__setitem__(
                0, {**facts["tasks"][0], "output": facts["tasks"][0]["output"] + "[0:2]"}
            ),
            r"outputs gender output gender \(now gender\[0:2\]\)",
        ),
        (lambda facts: facts.update(name="other"), r"model name random \(now other\); --restart"),
        (lambda facts: facts["crop"].update(offset=0.2), r"offset 0.1 \(now 0.2\); --restart"),
    ],
)
def test_a_fact_of_the_model_that_changed_is_named_with_both_values(
    faces: Path, bundle: Path, tmp_path: Path, change: Callable[[dict[str, Any]], object],
    message: str,
) -> None:  # fmt: skip
    out = tmp_path / "out.parquet"
    run(faces, out, str(bundle), limit=1)
    change_facts(bundle, change)
    with pytest.raises(UsageError, match=message):
        run(faces, out, str(bundle))


@pytest.mark.parametrize(
    ("output", "stated"),
    [
        (
            Output("age", "value", (), "out[1]", "value", scale=50.0),
            {"output": "out[1]", "activation": "value", "scale": 50.0},
        ),
        (years_output(), {"output": "age", "activation": "years", "years": "0-100"}),
        (
            Output("age", "years", ("0", "5"), "y", "none"),
            {"output": "y", "activation": "none", "years": "0, 5"},
        ),
        (
            Output("gender", "gender2", ("Male", "Female"), "g", "sigmoid"),
            {"output": "g", "activation": "sigmoid"},
        ),
    ],
)
def test_how_an_output_is_read_is_stated(
    random_bundle: Bundle, output: Output, stated: dict[str, Any]
) -> None:
    found = random_bundle.reading([output])
    assert found["outputs"] == {output.name: stated}
    assert found["sha256"] == random_bundle.sha256
    assert found["input"]["color"] == "RGB"


def test_a_table_from_before_these_facts_were_stated_is_of_the_same_model(
    faces: Path, bundle: Path, tmp_path: Path
) -> None:
    run(faces, tmp_path / "out.parquet", str(bundle), limit=1)
    now = read_metadata(tmp_path / "out.parquet")
    assert now is not None
    assert {"input", "outputs"} <= now.model.keys()
    model = {key: now.model[key] for key in now.model if key not in ("input", "outputs")}
    before = replace(now, model=model)
    assert differences(before, now) == differences(now, before) == []
    other = replace(before, model={**model, "sha256": "0" * 64})
    assert len(differences(other, now)) == 1


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"faces": "all"}, r"with --faces largest \(now all\); --restart"),
        ({"margin": 0.5}, r"with --margin 0.0 \(now 0.5\); --restart"),
        ({"align": "none"}, r"with --align similarity \(now none\); --restart"),
        ({"max_pixels": 1000}, r"with --max-pixels 100000000 \(now 1000\); --restart"),
        ({"tasks": ("gender",)}, r"with --tasks gender,race,age \(now gender\), "),
        ({"age_bins": (0, 30)}, r"--age-bins 0,3,10,20,30,40,50,60,70 \(now 0,30\)"),
        ({"labels": "utkface"}, r"with --labels none \(now utkface\); --restart"),
        (
            {"faces": "all", "margin": 0.5},
            r"with --faces largest \(now all\), --margin 0.0 \(now 0.5\); --restart",
        ),
    ],
)
def test_an_option_that_differs_is_named_with_both_values(
    faces: Path, bundle: Path, tmp_path: Path, option: dict[str, Any], message: str
) -> None:
    out = tmp_path / "out.parquet"
    run(faces, out, str(bundle), **{"labels": "none", "limit": 1})
    with pytest.raises(UsageError, match=message):
        run(faces, out, str(bundle), **{"labels": "none", "limit": 1, **option})


def unfinished(images: Path, out: Path, model: str) -> None:
    """What a run leaves that failed after its first images."""
    score_rows = engines.rows_of
    calls = count()

    def rows_of(plan: Plan, chunk: Chunk) -> pa.Table:
        if next(calls):
            raise MemoryError
        return score_rows(plan, chunk)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engines, "rows_of", rows_of)
        with pytest.raises(TemporaryError):
            run(images, out, model, workers=1, batch_size=2)


@pytest.mark.parametrize("name", OUTPUTS)
@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("image,site\n{},3\n", r"other columns \(seed, site\); --restart"),
        ("image,seed,site\n{},3,x\n", r"other columns \(site\); --restart"),
        ("image,seed\n{},x\n", r"column seed int64 \(now .*string\); --restart"),
    ],
)
def test_an_unfinished_run_whose_list_changed_its_columns_is_refused_by_their_names(
    faces: Path, bundle: Path, tmp_path: Path, name: str, line: str, message: str
) -> None:
    listed, out = tmp_path / "list.csv", tmp_path / name

    def write(line: str) -> None:
        head, row = line.splitlines()
        rows = [row.format(path) for path in sorted(faces.iterdir())]
        listed.write_text("\n".join([head, *rows]))

    write("image,seed\n{},3\n")
    unfinished(listed, out, str(bundle))
    write(line)
    with pytest.raises(UsageError, match=message):
        run(listed, out, str(bundle))
    write("image,seed\n{},3\n")
    assert run(listed, out, str(bundle)).scored == 4


def test_a_replacement_that_was_killed_while_its_file_was_written_is_gone_on_with(
    faces: Path, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.parquet"
    run(faces, out, str(bundle))
    with monkeypatch.context() as patch:
        patch.setattr(target, "open_table", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(faces, out, str(bundle), tasks=["gender"], restart=True)
    found = run(faces, out, str(bundle), tasks=["gender"])
    assert (found.images, found.scored) == (6, 0)
    assert "race_pred" not in pq.read_schema(out).names
    assert not (tmp_path / ".out.parquet.run").exists()


@pytest.mark.parametrize("name", OUTPUTS)
def test_a_table_that_is_named_by_a_link_is_made_where_the_link_leads(
    faces: Path, bundle: Path, tmp_path: Path, name: str
) -> None:
    (tmp_path / "store").mkdir()
    link, real = tmp_path / f"latest-{name}", tmp_path / "store" / name
    link.symlink_to(real)
    run(faces, link, str(bundle), limit=4)
    assert link.is_symlink()
    assert run(faces, real, str(bundle)).scored == 2
    assert run(faces, link, str(bundle)).already_complete
    assert [path.name for path in (tmp_path / "store").iterdir()] == [name]


@pytest.fixture
def away(faces: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A list of six images, and one of them, which is elsewhere."""
    listed, missing = tmp_path / "list.txt", tmp_path / "elsewhere.png"
    listed.write_text("\n".join(map(str, sorted(faces.iterdir()))))
    sorted(faces.iterdir())[2].rename(missing)
    return listed, missing


def come_back(listed: Path, missing: Path) -> None:
    shutil.copy2(missing, listed.read_text().split("\n")[2])


def test_an_image_that_was_away_is_scored_when_it_is_back(
    away: tuple[Path, Path], bundle: Path, tmp_path: Path
) -> None:
    out, fresh = tmp_path / "out.parquet", tmp_path / "fresh.parquet"
    found = run(away[0], out, str(bundle))
    assert found.statuses == {"ok": 5, "unreadable": 1}
    assert run(away[0], out, str(bundle)).already_complete
    come_back(*away)
    found = run(away[0], out, str(bundle))
    assert (found.images, found.scored, found.statuses) == (6, 1, {"ok": 6})
    run(away[0], fresh, str(bundle))
    assert out.read_bytes() == fresh.read_bytes()
    assert run(away[0], out, str(bundle)).already_complete


@pytest.mark.parametrize("ended", ["at an image", "at the file"])
@pytest.mark.parametrize("first", ["ended too", "whole"])
def test_an_image_that_was_away_is_scored_once_whenever_runs_end(
    away: tuple[Path, Path], bundle: Path, tmp_path: Path, first: str, ended: str
) -> None:
    out, fresh = tmp_path / "out.parquet", tmp_path / "fresh.parquet"
    images = away[0].read_text().split("\n")
    if first == "whole":
        run(away[0], out, str(bundle), limit=4)
    else:
        away[0].write_text("\n".join([images[2], *images[:2], *images[3:]]))
        unfinished(away[0], out, str(bundle))
        away[0].write_text("\n".join(images))
    come_back(*away)
    if ended == "at an image":
        unfinished(away[0], out, str(bundle))
    else:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(target, "open_table", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                run(away[0], out, str(bundle))
    found = run(away[0], out, str(bundle))
    assert found.statuses == {"ok": 6}
    assert found.scored == (0 if ended == "at the file" else found.scored)
    run(away[0], fresh, str(bundle))
    assert out.read_bytes() == fresh.read_bytes()


def test_in_a_folder_of_parts_the_row_of_an_image_that_was_away_stays_and_others_are_added(
    away: tuple[Path, Path], bundle: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "out"
    run(away[0], out, str(bundle), limit=4)
    come_back(*away)
    found = run(away[0], out, str(bundle))
    assert (found.scored, found.statuses) == (2, {"ok": 5, "unreadable": 1})
    assert "1 image that could not be read before can be now, such as" in caplog.text
    assert run(away[0], out, str(bundle), restart=True).statuses == {"ok": 6}
