from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import numpy as np
import polars as pl
import pytest

import faceaudit
from faceaudit.errors import InputError, LabelError, SchemaError, UnknownNameError, UsageError
from faceaudit.reporting import calibration as module
from faceaudit.reporting import report, sample
from faceaudit.reporting.calibration import read_calibration, read_reference
from faceaudit.reporting.json_report import SCHEMA_FILE
from faceaudit.schema import METADATA_KEY, SCHEMES, TableMetadata, task_of_scheme
from faceaudit.tables import read_table

CLASSES = ("Male", "Female")
SHARE = 0.8
"""Of faces annotated Male."""


def rows_of(rows=2000, share=SHARE, seed=0):
    generator = np.random.default_rng(seed)
    true = (generator.random(rows) > share).astype(int)
    logit = 2.2 * (2 * true - 1) + generator.normal(size=rows) * 2 + 0.8
    female = 1 / (1 + np.exp(-logit))
    return pl.DataFrame(
        {
            "image": [f"{index:05}.jpg" for index in range(rows)],
            "face": np.zeros(rows, np.int32),
            "gender_true": np.array(CLASSES)[true],
            "gender_pred": np.array(CLASSES)[(female > 0.5).astype(int)],
            "gender_prob_Male": 1 - female,
            "gender_prob_Female": female,
        }
    )


@pytest.fixture
def unlabelled(tmp_path):
    path = tmp_path / "faces.parquet"
    rows_of().drop("gender_true").write_parquet(path)
    return path


def labelled_sample(unlabelled, n=300, seed=0):
    """A sample as `faceaudit sample` draws it, with labels as somebody fills them in."""
    drawn = sample(unlabelled, n=n, seed=seed)
    given = pl.read_csv(drawn.path, schema_overrides={"gender_true": pl.String})
    truth = rows_of().select("image", "gender_true")
    given.drop("gender_true").join(truth, on="image", how="left", maintain_order="left").write_csv(
        drawn.path
    )
    return drawn.path


def composition_of(files):
    facts = json.loads(files.paths[-1].read_text())
    jsonschema.validate(facts, json.loads(SCHEMA_FILE.read_text()))
    return facts


# --- the sample -------------------------------------------------------------------------------


def test_sample_names_faces_without_their_predictions(unlabelled):
    found = sample(unlabelled, n=100)
    frame = pl.read_csv(found.path)
    assert found.path == unlabelled.with_name("faces.sample.csv")
    assert frame.columns == ["image", "face", "stratum", "weight", "gender_true"]
    assert frame.height == 100
    assert frame["gender_true"].null_count() == 100
    assert frame["weight"].sum() == pytest.approx(2000, abs=0.1)
    assert not frame["image"].is_sorted()


def test_sample_is_a_public_function_and_the_same_for_equal_seeds(unlabelled):
    one, two, other = (
        faceaudit.sample(unlabelled, n=50, seed=seed).path.read_text() for seed in (1, 1, 2)
    )
    assert one == two != other


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"n": 5}, UsageError, "--n 5: give at least 20"),
        ({"seed": -1}, UsageError, "--seed -1"),
        ({"tasks": ["race"]}, UnknownNameError, "no predicted task is called 'race'"),
        ({"output": Path("sample.parquet")}, UsageError, "ending in .csv"),
    ],
)
def test_sample_refuses_what_cannot_work(unlabelled, options, error, said):
    with pytest.raises(error, match=said):
        sample(unlabelled, **options)


def test_sample_of_a_table_without_predicted_faces_is_refused(tmp_path):
    path = tmp_path / "none.csv"
    path.write_text("image,gender_pred\na.jpg,\nb.jpg,\n")
    with pytest.raises(SchemaError, match="there is none to label"):
        sample(path)


def test_a_sample_is_never_larger_than_asked_for(tmp_path):
    path = tmp_path / "faces.csv"
    rows = [f"{number}.jpg,land {number % 60}" for number in range(600)]
    path.write_text("\n".join(["image,country_pred", *rows]))
    with pytest.raises(
        UsageError, match=r"--n 20: by predicted country .* 60 strata.* give --n 60"
    ):
        sample(path, n=20)
    assert pl.read_csv(sample(path, n=60).path).height == 60


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        (["image"], r"more than one row of '\d\.jpg'.*; give the column face as well"),
        (["image", "face"], r"more than one row of '\d\.jpg'.*; leave out the copies"),
    ],
)
def test_a_sample_of_faces_that_no_label_would_find_is_refused(tmp_path, columns, said):
    path = tmp_path / "faces.parquet"
    frame = rows_of(40).drop("gender_true").with_columns(pl.col("image").str.slice(4))
    rest = [name for name in frame.columns if name not in ("image", "face")]
    frame.select(*columns, *rest).write_parquet(path)
    with pytest.raises(SchemaError, match=said):
        sample(path, n=20)
    assert not path.with_name("faces.sample.csv").exists()
    frame.with_columns(face=pl.int_range(40).cast(pl.Int32)).write_parquet(path)
    assert pl.read_csv(sample(path, n=20).path)["face"].n_unique() == 20


# --- labels that come back --------------------------------------------------------------------


def test_a_labelled_sample_corrects_the_shares_of_its_table(unlabelled):
    labels = labelled_sample(unlabelled)
    facts = composition_of(report(unlabelled, calibration=labels))
    (how,) = facts["corrections"]
    assert (how["method"], how["source"], how["labeled"]) == ("post_stratified", "sample", 300)
    male = facts["composition"][0]
    truth = (rows_of()["gender_true"] == "Male").mean()
    assert male["corrected"]["low"] <= truth <= male["corrected"]["high"]
    assert not male["low"] <= truth <= male["high"]
    page = unlabelled.with_suffix(".html").read_text()
    assert "Estimated from 300 faces labeled in faces.sample.csv" in page
    assert "Not calibrated" not in page


def test_a_sample_of_a_part_corrects_a_larger_table_by_label_shift(tmp_path, unlabelled):
    labels = labelled_sample(unlabelled, n=800)
    more = rows_of(3000, share=0.4, seed=9).drop("gender_true")
    more = more.with_columns(image=pl.lit("later/") + pl.col("image"))
    larger = tmp_path / "larger.parquet"
    pl.concat(
        [pl.read_parquet(unlabelled), more.select(pl.read_parquet(unlabelled).columns)]
    ).write_parquet(larger)
    facts = composition_of(report(larger, calibration=labels))
    (how,) = facts["corrections"]
    assert (how["method"], how["source"]) == ("adjusted_count", "labels")
    male = facts["composition"][0]
    truth = (0.8 * 2000 + 0.4 * 3000) / 5000
    assert male["corrected"]["low"] <= truth <= male["corrected"]["high"]
    assert male["em"]["value"] == pytest.approx(truth, abs=0.06)
    assert "label shift" in larger.with_suffix(".html").read_text()


def test_a_report_corrects_every_subgroup_and_counts_units_once(tmp_path, unlabelled):
    frame = pl.read_parquet(unlabelled).with_columns(
        person=pl.int_range(2000) // 4, site=pl.Series(["east", "west"] * 1000)
    )
    frame.write_parquet(unlabelled)
    labels = labelled_sample(unlabelled)
    facts = composition_of(report(unlabelled, by=["site"], unit="person", calibration=labels))
    sites = [one for one in facts["composition"] if one["subgroup"]]
    assert [one["subgroup"]["site"] for one in sites] == ["east", "east", "west", "west"]
    for one in sites:
        assert one["corrected"]["low"] < one["corrected"]["value"] < one["corrected"]["high"]
        assert 100 < one["corrected"]["n"] < 200
    page = unlabelled.with_suffix(".html").read_text()
    assert "corrected shares by subgroup" in page
    assert "Each 95% interval holds by itself" in page
    assert "Faces of one person are not taken as independent" in page


@pytest.mark.parametrize("labels", ["none", "sample", "table"])
def test_a_set_of_a_single_unit_has_shares_without_intervals_and_tests(
    tmp_path, unlabelled, labels
):
    pl.read_parquet(unlabelled).with_columns(video=pl.lit("v1")).write_parquet(unlabelled)
    target, other = tmp_path / "shares.csv", tmp_path / "other.parquet"
    target.write_text("task,class,share\ngender,Male,0.4\ngender,Female,0.6\n")
    rows_of(1500, share=0.5, seed=3).write_parquet(other)
    given = {"none": None, "sample": labelled_sample(unlabelled), "table": other}[labels]
    facts = composition_of(report(unlabelled, unit="video", calibration=given, reference=target))
    (how,) = facts["corrections"]
    assert how["reference"]["p_value"] is None
    assert how["reference"]["reason"] in {
        "all faces are of one unit",
        "the differences have no spread",
    }
    male = facts["composition"][0]
    assert male["value"] is not None
    assert male["low"] is None
    assert male["reference"]["difference"]["low"] is None


def test_a_labelled_table_of_other_images_corrects_too(tmp_path, unlabelled):
    other = tmp_path / "other.parquet"
    rows_of(1500, share=0.5, seed=3).write_parquet(other)
    facts = composition_of(report(unlabelled, calibration=other))
    (how,) = facts["corrections"]
    assert (how["method"], how["source"], how["labeled"]) == ("adjusted_count", "labels", 1500)
    male = facts["composition"][0]["corrected"]
    assert male["low"] <= SHARE <= male["high"]


def test_a_column_weight_of_a_labelled_table_is_a_sampling_weight_only_beside_strata(
    tmp_path, unlabelled
):
    other, table = tmp_path / "other.parquet", read_table(unlabelled)
    rows = rows_of(400, share=0.5, seed=3).with_columns(
        weight=pl.when(pl.col("gender_true") == "Male").then(70.5).otherwise(None),
        stratum=(pl.col("gender_true") == "Male").cast(pl.Int64),
    )
    rows.drop("stratum").write_parquet(other)
    (found,) = read_calibration(other, table).values()
    assert (found.faces.weight == 1).all()
    rows.with_columns(pl.col("weight").fill_null(3)).write_parquet(other)
    (found,) = read_calibration(other, table).values()
    assert set(found.faces.weight) == {70.5, 3}
    for wrong in (pl.col("weight"), pl.lit(-1.0), pl.lit("heavy")):
        rows.with_columns(weight=wrong).write_parquet(other)
        with pytest.raises(SchemaError, match=r"other\.parquet: every weight must be a number"):
            read_calibration(other, table)


def test_columns_of_labels_that_hold_no_text_are_left_out(tmp_path, unlabelled):
    labels = tmp_path / "labels.parquet"
    pl.DataFrame(
        {
            "image": ["00001.jpg", "00002.jpg"],
            "gender_true": ["Male", "Female"],
            "points": [[1, 2], [3]],
            "thumbnail": [b"\xff", b"\xfe"],
        }
    ).write_parquet(labels)
    assert read_calibration(labels, read_table(unlabelled))["gender"].labelled == 2


def test_labels_without_weights_are_not_taken_for_a_random_sample(unlabelled):
    labels = labelled_sample(unlabelled)
    pl.read_csv(labels).drop("weight", "stratum").write_csv(labels)
    (found,) = read_calibration(labels, read_table(unlabelled)).values()
    assert found.source == "labels"


def test_labels_left_empty_are_left_out(unlabelled):
    labels = labelled_sample(unlabelled)
    frame = pl.read_csv(labels).with_row_index("row")
    some = pl.when(pl.col("row") >= 40).then("gender_true").alias("gender_true")
    frame.with_columns(some).drop("row").write_csv(labels)
    (found,) = read_calibration(labels, read_table(unlabelled)).values()
    assert found.labelled == 260
    assert found.source == "sample"
    assert found.joint.sum() == pytest.approx(2000, rel=1e-4)


@pytest.mark.parametrize("source", ["sample", "labels"])
def test_a_page_counts_faces_left_empty_and_names_the_share_of_strata_without_labels(
    unlabelled, source
):
    labels = labelled_sample(unlabelled)
    frame = pl.read_csv(labels)
    if source == "labels":
        frame = frame.with_columns(pl.col("weight") / 2)
    first = frame["stratum"].min()
    kept = pl.when(pl.col("stratum") != first).then("gender_true").alias("gender_true")
    frame.with_columns(kept).write_csv(labels)
    (how,) = composition_of(report(unlabelled, calibration=labels))["corrections"]
    empty = frame.filter(pl.col("stratum") == first)
    assert how["source"] == source
    assert (how["labeled"], how["unlabeled"]) == (300 - empty.height, empty.height)
    assert how["unseen_share"] == pytest.approx(empty["weight"].sum() / frame["weight"].sum())
    page = unlabelled.with_suffix(".html").read_text()
    assert f"Another {empty.height} faces have no label." in page
    assert (
        f"No face is labeled of strata that {how['unseen_share']:.1%} of the faces are in" in page
    )


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ("file,gender_true\na,Male\n", SchemaError, "missing the column image"),
        ("image,race_true\na,White\n", SchemaError, "name one of gender_true"),
        ("image,gender_true\n00001.jpg,man\n", SchemaError, "gender_true has 'man'; the classes"),
        ("image,gender_true\nz.jpg,Male\n", LabelError, "none of its images"),
        ("image,gender_true\n1,Male\n1,Male\n", LabelError, "'1' occurs more than once"),
        (
            "image,gender_true\n00001.jpg,\n",
            LabelError,
            "no face is labeled yet; fill in gender_tr",
        ),
        ("image,weight,gender_true\n00001.jpg,0,Male\n", SchemaError, "every weight"),
        *(
            (
                f"image,face,gender_true\n00001.jpg,{face},Male\n",
                SchemaError,
                "face must be a whole",
            )
            for face in ("x", "nan", "inf", "0.5", "1e300")
        ),
    ],
)
def test_labels_that_cannot_be_used_are_refused(tmp_path, unlabelled, text, error, said):
    path = tmp_path / "labels.csv"
    path.write_text(text)
    with pytest.raises(error, match=said):
        read_calibration(path, read_table(unlabelled))


def test_labels_of_a_coarser_scheme_are_told_the_option_that_works(tmp_path):
    table, labels = tmp_path / "faces.parquet", tmp_path / "labels.csv"
    races = list(SCHEMES["fairface7"])
    images = [f"{number}.jpg" for number in range(len(races))]
    pl.DataFrame({"image": images, "race_pred": races}).write_parquet(table)
    labels.write_text("image,race_true\n0.jpg,White\n2.jpg,Others\n")
    with pytest.raises(SchemaError, match=r"the classes are .*; coarsen with --map race=utkface5"):
        read_calibration(labels, read_table(table))
    coarse = read_table(table, scheme_map={"race": "utkface5"})
    assert read_calibration(labels, coarse)["race"].labelled == 2


def test_labels_of_a_finer_scheme_are_merged_as_the_predictions_are(tmp_path):
    table, labels = tmp_path / "faces.parquet", tmp_path / "labels.csv"
    races = list(SCHEMES["fairface7"]) * 30
    images = [f"{number}.jpg" for number in range(len(races))]
    ages = ["0-2", "3-9", "20-29", "30-39", "40-49", "60-69", "70+"] * 30
    frame = pl.DataFrame({"image": images, "race_pred": races, "age_group_pred": ages})
    frame.write_parquet(table)
    frame.rename(lambda name: name.replace("_pred", "_true")).write_csv(labels)
    files = report(
        table, scheme_map={"race": "utkface5"}, age_bins=(0, 20, 40, 60), calibration=labels
    )
    facts = composition_of(files)
    shares = {
        one["class"]: (one["value"], one["corrected"]["value"]) for one in facts["composition"]
    }
    assert shares["Asian"] == pytest.approx((2 / 7, 2 / 7))
    assert shares["20-39"] == pytest.approx((2 / 7, 2 / 7))
    merged = [note for note in facts["notes"] if "labels of labels.csv were merged" in note]
    assert len(merged) == 2
    assert "from fairface7 to utkface5: White → White" in merged[0]
    assert "East Asian + Southeast Asian → Asian" in merged[0]


def test_labels_of_a_scheme_that_does_not_merge_into_the_tables_are_not_to_be_left_empty(tmp_path):
    table, labels = tmp_path / "faces.parquet", tmp_path / "labels.csv"
    ages = ["0-2", "3-9", "20-29"]
    images = [f"{number}.jpg" for number in range(len(ages))]
    pl.DataFrame({"image": images, "age_group_pred": ages}).write_parquet(table)
    labels.write_text("image,age_group_true\n0.jpg,0-14\n2.jpg,15-25\n")
    with pytest.raises(SchemaError, match="the labels are of dj5, so report in its classes"):
        read_calibration(labels, read_table(table))


def test_labels_of_an_image_that_the_table_has_twice_are_refused(tmp_path, unlabelled):
    labels, twice = labelled_sample(unlabelled, n=20), tmp_path / "twice.parquet"
    frame = pl.read_parquet(unlabelled)
    pl.concat([frame, frame]).write_parquet(twice)
    with pytest.raises(LabelError, match="more than one row"):
        read_calibration(labels, read_table(twice))


def test_a_missing_file_of_labels_is_named(unlabelled, tmp_path):
    with pytest.raises(InputError, match=r"--calibration .*nothing\.csv: there is no such file"):
        report(unlabelled, calibration=tmp_path / "nothing.csv")


def test_a_tally_needs_labels_with_predictions(tmp_path, unlabelled):
    faceaudit.tally(unlabelled, tmp_path / "faces.tally")
    with pytest.raises(LabelError, match="a tally has no images"):
        report(tmp_path / "faces.tally", calibration=labelled_sample(unlabelled))
    other = tmp_path / "other.parquet"
    rows_of(1500, share=0.5, seed=3).write_parquet(other)
    facts = composition_of(report(tmp_path / "faces.tally", calibration=other))
    assert facts["corrections"][0]["method"] == "adjusted_count"


# --- the model's own validation ---------------------------------------------------------------


@pytest.fixture
def with_card(tmp_path, monkeypatch, unlabelled):
    """A table of a model whose card tells how it confuses classes."""
    task = task_of_scheme("gender", "gender2")
    metadata = TableMetadata(tasks=(task,), model={"name": "mine", "sha256": "ab"})
    table = pl.read_parquet(unlabelled).to_arrow()
    table = table.replace_schema_metadata({METADATA_KEY: metadata.to_json().encode()})
    import pyarrow.parquet as pq

    pq.write_table(table, unlabelled)
    folder = tmp_path / "bundles" / "mine"
    folder.mkdir(parents=True)
    monkeypatch.setattr(module, "BUNDLES", folder.parent)

    def write(classes=CLASSES, sha256="ab"):
        faces = module.calibrate(task, rows_of(2000, 0.5, seed=5), "card", "labels")
        entry = {
            "classes": classes,
            "edges": faces.edges.tolist(),
            "counts": faces.joint.astype(int).tolist(),
        }
        facts = {"sha256": sha256, "confusion": {"gender": entry}}
        (folder / "bundle.json").write_text(json.dumps(facts))
        return unlabelled

    return write


def test_the_validation_of_the_model_corrects_where_nobody_labelled(with_card):
    facts = composition_of(report(with_card()))
    (how,) = facts["corrections"]
    assert (how["method"], how["source"], how["where"]) == ("adjusted_count", "bundle", "mine")
    male = facts["composition"][0]
    assert male["corrected"]["low"] <= SHARE <= male["corrected"]["high"]
    assert male["em"]["low"] is None
    assert male["em"]["reason"]


def test_the_page_says_not_calibrated_for_these_images(with_card):
    report(table := with_card())
    assert "Not calibrated for these images" in table.with_suffix(".html").read_text()


def test_the_summary_does_not_lead_with_an_estimate_that_is_in_doubt(with_card):
    page = report(table := with_card()).paths[0]
    assert "Not calibrated for these images." in page.read_text()
    blurred = pl.read_parquet(table).with_columns(
        pl.col(f"gender_prob_{name}") * 0.6 + 0.2 for name in CLASSES
    )
    import pyarrow.parquet as pq

    metadata = pq.read_schema(table).metadata
    pq.write_table(blurred.to_arrow().replace_schema_metadata(metadata), table)
    page = report(table).paths[0].read_text()
    assert "That assumption does not hold here" in page
    assert "the shares are as predicted, with its errors: label a sample" in page
    assert "Gender: most often predicted Male" in page
    assert "Gender: most frequent is" not in page


def test_a_card_of_another_model_is_not_used(with_card):
    facts = composition_of(report(with_card(sha256="cd")))
    assert facts["corrections"][0]["method"] is None
    assert "label a sample" in facts["corrections"][0]["reason"]


def test_a_card_of_other_classes_is_not_used(with_card):
    facts = composition_of(report(with_card(classes=("Man", "Woman"))))
    assert "known for other classes (Man, Woman)" in facts["corrections"][0]["reason"]


# --- target shares ----------------------------------------------------------------------------


def test_target_shares_are_read_as_shares_or_percent(tmp_path):
    path = tmp_path / "shares.csv"
    path.write_text("feature;class;share\ngender;Female;25%\ngender;Male;0.75\n")
    found = read_reference(path, [task_of_scheme("gender", "gender2")])
    assert found["gender"].shares.tolist() == [0.75, 0.25]


def test_target_shares_may_be_rounded_and_have_a_blank_before_percent(tmp_path):
    path, races = tmp_path / "shares.csv", task_of_scheme("race", "utkface5")
    given = [f"race,{name},33 %" for name in races.classes[:3]]
    given += [f"race,{name},0\u00a0%" for name in races.classes[3:]]
    path.write_text("\n".join(["task,class,share", *given]))
    found = read_reference(path, [races])["race"].shares
    assert found == pytest.approx(np.array([1, 1, 1, 0, 0]) / 3)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("task,class\ngender,Male\n", "missing the column share"),
        ("task,class,share\nsex,Male,1\n", "'sex' is no task of the table"),
        ("task,class,share\ngender,Man,1\n", "'Man' is no class"),
        ("task,class,share\ngender,Male,1\n", "a class is missing or named twice"),
        ("task,class,share\ngender,Male,.5\ngender,Female,.2\n", "sum to 0.7"),
        ("task,class,share\ngender,Male,half\ngender,Female,.5\n", "shares must be numbers"),
        ("task,class,share\ngender,Male,1.5\ngender,Female,-.5\n", "shares must be numbers"),
    ],
)
def test_target_shares_that_cannot_be_used_are_refused(tmp_path, text, said):
    path = tmp_path / "shares.csv"
    path.write_text(text)
    with pytest.raises(SchemaError, match=said):
        read_reference(path, [task_of_scheme("gender", "gender2")])


def test_the_page_says_which_classes_are_off_target(tmp_path, unlabelled):
    shares = tmp_path / "shares.csv"
    shares.write_text("task,class,share\ngender,Male,0.5\ngender,Female,0.5\n")
    labels = labelled_sample(unlabelled)
    facts = composition_of(report(unlabelled, calibration=labels, reference=shares))
    assert facts["composition"][0]["reference"]["share"] == 0.5
    assert facts["corrections"][0]["reference"]["p_value"] < 0.001
    page = unlabelled.with_suffix(".html").read_text()
    assert "Against shares.csv, by the corrected shares: above target: Male by " in page
    assert "below target: Female by " in page


def test_labelled_tables_compare_their_annotated_shares(tmp_path):
    path, shares = tmp_path / "labelled.parquet", tmp_path / "shares.csv"
    rows_of().write_parquet(path)
    shares.write_text("task,class,share\ngender,Male,0.8\ngender,Female,0.2\n")
    facts = composition_of(report(path, reference=shares))
    assert facts["corrections"][0]["method"] == "annotated"
    assert facts["corrections"][0]["reference"]["p_value"] > 0.001
    assert "by the annotated shares" in path.with_suffix(".html").read_text()
    assert composition_of(report(path))["corrections"] == []
