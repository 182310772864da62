"""Bringing labels to images: by path, by name, and not at all where it is not clear."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faceaudit.errors import LabelError
from faceaudit.labels.annotations import Names
from faceaudit.labels.join import Joined

NAMES = st.lists(
    st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=6)
    .map(str.strip)  # spaces around keys are not told apart
    .filter(bool),
    min_size=1,
)


def joined_genders(
    labels: Sequence[tuple[str, str | None]], images: list[str], folder: str | None = None
) -> tuple[list[str | None], str]:
    """Labels by image, and the notes as one text."""
    table = pl.DataFrame(labels, schema={"key": pl.String, "gender_true": pl.String}, orient="row")
    names = Names(images, lambda: iter(images))
    found = Joined("labels.csv", table, names, Path(folder) if folder else None)
    frame = found.of(images)
    return frame["gender_true"].to_list(), "; ".join(found.notes())


def test_by_path() -> None:
    labels = [("b/1.jpg", "Male"), ("a/1.jpg", "Female")]
    assert joined_genders(labels, ["a/1.jpg", "b/1.jpg"]) == (["Female", "Male"], "")


def test_by_name() -> None:
    labels = [("1.jpg", "Male"), ("2.jpg", "Female")]
    assert joined_genders(labels, ["b/2.jpg", "a/1.jpg"]) == (["Female", "Male"], "")


def test_key_that_begins_above_the_folder() -> None:
    labels = [("train/1.jpg", "Male"), ("val/1.jpg", "Female")]
    found, notes = joined_genders(labels, ["1.jpg"], "/data/faces/val")
    assert found == ["Female"]
    assert notes == "1 label has no image (for example 'train/1.jpg')"


def test_absolute_keys() -> None:
    labels = [("/data/faces/a/1.jpg", "Male"), ("/data/faces/b/1.jpg", "Female")]
    assert joined_genders(labels, ["b/1.jpg", "a/1.jpg"], "/data/faces")[0] == ["Female", "Male"]


def test_absolute_keys_of_another_machine() -> None:
    labels = [("/home/x/faces/a/1.jpg", "Male"), ("/home/x/faces/b/1.jpg", "Female")]
    assert joined_genders(labels, ["b/1.jpg", "a/1.jpg"], "/data")[0] == ["Female", "Male"]


def test_folders_that_differ_are_told() -> None:
    found, notes = joined_genders([("old/1.jpg", "Male")], ["new/1.jpg"])
    assert found == ["Male"]
    assert notes == (
        "1 image got labels by file name alone, the folders being others "
        "(for example 'new/1.jpg' from 'old/1.jpg')"
    )


def test_labels_of_another_split_are_refused() -> None:
    with pytest.raises(LabelError, match=r"labels\.csv: no label is of an image here.*val/1\.jpg"):
        joined_genders([("val/1.jpg", "Male")], ["1.jpg"], "/data/train")


def test_where_paths_fit_names_alone_do_not() -> None:
    labels = [("a/1.jpg", "Male"), ("b/2.jpg", "Female")]
    found, notes = joined_genders(labels, ["a/1.jpg", "a/2.jpg"])
    assert found == ["Male", None]
    assert "1 label has no image (for example 'b/2.jpg')" in notes
    assert "1 image has no label (for example 'a/2.jpg')" in notes


def test_one_name_in_two_folders_is_ambiguous() -> None:
    found, notes = joined_genders(
        [("1.jpg", "Male"), ("2.jpg", "Male")], ["a/1.jpg", "b/1.jpg", "2.jpg"]
    )
    assert found == [None, None, "Male"]
    assert notes == (
        "2 images were left without labels, because several images or labels have the same file "
        "name (for example 'a/1.jpg')"
    )


def test_the_exact_path_wins_over_the_same_name_elsewhere() -> None:
    found, _ = joined_genders([("1.jpg", "Male")], ["b/1.jpg", "1.jpg"])
    assert found == [None, "Male"]


def test_names_in_several_folders_of_the_labels() -> None:
    images = ["1.jpg", "2.jpg"]
    labels = [("a/1.jpg", "Male"), ("b/1.jpg", "Female"), ("a/2.jpg", "Male"), ("b/2.jpg", "Male")]
    found, notes = joined_genders(labels, images)
    assert found == [None, "Male"]
    assert "1 image was left without labels" in notes


def test_contradicting_labels_are_null_and_counted() -> None:
    labels = [
        ("1", "Male"),
        ("1", "Female"),
        ("2", "Male"),
        ("2", "Male"),
        ("3", None),
        ("3", "Male"),
    ]
    found, notes = joined_genders(labels, ["1", "2", "3"])
    assert found == [None, "Male", "Male"]
    assert notes == (
        "1 image has labels that contradict each other, which was left empty (for example '1')"
    )


def test_images_named_twice_get_the_same() -> None:
    assert joined_genders([("1", "Male")], ["1", "1"])[0] == ["Male", "Male"]


def test_no_images_get_no_labels() -> None:
    assert joined_genders([("1", "Male")], [])[0] == []


@pytest.mark.parametrize("labels", [[], [("", "Male"), (" ", "Female")]])
def test_labels_of_which_no_row_names_an_image_are_refused(labels: list[tuple[str, str]]) -> None:
    with pytest.raises(LabelError, match="no row of it names an image"):
        joined_genders(labels, ["1"])


@given(NAMES, st.randoms(use_true_random=False))
def test_every_image_has_one_row_in_its_place(names: list[str], chance: object) -> None:
    images = [f"a/{name}" for name in dict.fromkeys(names)]
    labels = [(image, f"label of {image}") for image in reversed(images)]
    assert joined_genders([*labels, ("z", "no")], images)[0] == [f"label of {i}" for i in images]


@given(NAMES)
def test_keys_by_name_find_images_in_one_folder(names: list[str]) -> None:
    unique = [name for name in dict.fromkeys(names) if name != "."]
    if unique:
        images = [f"deep/er/{name}" for name in unique]
        labels = [(name, f"label of {name}") for name in unique]
        assert joined_genders(labels, images, "/data")[0] == [f"label of {name}" for name in unique]


# --- sources that are larger than the sample --------------------------------------------------

PATHS = st.lists(st.sampled_from(["1.jpg", "2.jpg", "a", "b", "train"]), min_size=1, max_size=3)
TREES = st.lists(PATHS.map("/".join), min_size=1, max_size=12, unique=True)
KEYED = st.lists(st.tuples(PATHS.map("/".join), st.sampled_from(["Male", "Female"])), max_size=8)


def in_batches(
    labels: Sequence[tuple[str, str | None]], images: list[str], sample: int
) -> tuple[list[str | None], Joined]:
    """Labels asked for two images at a time, from a source that is walked."""
    table = pl.DataFrame(labels, schema={"key": pl.String, "gender_true": pl.String}, orient="row")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("faceaudit.labels.annotations.SAMPLE", sample)
        found = Joined(
            "labels.csv", table, Names(images[: sample + 1], lambda: iter(images)), Path("/data/b")
        )
    parts = [found.of(images[start : start + 2]) for start in range(0, len(images), 2)]
    assert all(part.schema == found.of([]).schema for part in parts)
    return pl.concat(parts)["gender_true"].to_list(), found


@settings(max_examples=80)
@given(KEYED, TREES, st.integers(1, 5))
def test_labels_by_batch_are_those_of_all_images_at_once(
    labels: list[tuple[str, str]], images: list[str], sample: int
) -> None:
    try:
        expected, at_once = in_batches(labels, images, 100)
    except LabelError:
        with pytest.raises(LabelError):
            in_batches(labels, images, sample)
        return
    found, by_batch = in_batches(labels, images, sample)
    keys = {key for key, _ in labels}
    first = [image for image in images[:sample] if expected[images.index(image)] is not None]
    if found != expected:
        # Paths alone count where all labels of the first images are found by them.
        assert set(first) <= keys
        assert all(got in (None, wanted) for got, wanted in zip(found, expected, strict=True))
        return
    assert sorted(by_batch.notes()) == sorted(at_once.notes()) or set(first) <= keys


def test_an_image_whose_name_comes_again_later_is_left_without_labels() -> None:
    images = ["a/1.jpg", "a/2.jpg", "b/1.jpg", "b/3.jpg"]
    labels = [("1.jpg", "Male"), ("2.jpg", "Female"), ("3.jpg", "Male")]
    found, joined = in_batches(labels, images, 1)
    assert found == [None, "Female", None, "Male"]
    assert joined.notes() == (
        "2 images were left without labels, because several images or labels have the same file "
        "name (for example 'a/1.jpg')",
    )


def test_folders_are_not_left_aside_where_a_later_image_has_them() -> None:
    images = ["a/1.jpg", "a/2.jpg", "b/1.jpg", "b/2.jpg"]
    found, _ = in_batches([("b/1.jpg", "Male"), ("b/2.jpg", "Female")], images, 2)
    assert found == [None, None, "Male", "Female"]


def test_labels_of_none_of_a_large_source_are_refused() -> None:
    with pytest.raises(LabelError, match="no label is of an image here"):
        in_batches([("x.jpg", "Male")], [f"{number}.jpg" for number in range(9)], 2)


def test_labels_of_the_last_images_only_are_taken() -> None:
    images = [f"{number}.jpg" for number in range(9)]
    assert in_batches([("8.jpg", "Male")], images, 2)[0] == [*[None] * 8, "Male"]


@pytest.mark.parametrize("written", ["caf\u00e9.jpg", "cafe\u0301.jpg"])
@pytest.mark.parametrize("named", ["caf\u00e9.jpg", "cafe\u0301.jpg"])
def test_accents_are_found_in_either_form_of_unicode(written: str, named: str) -> None:
    for folder in ("", "night/"):
        images = [f"{folder}{named}", "b.jpg"]
        assert joined_genders([(written, "Male"), ("b.jpg", "Female")], images) == (
            ["Male", "Female"],
            "",
        )


def test_where_both_forms_of_unicode_are_labeled_each_is_found_as_it_is() -> None:
    names = ["caf\u00e9.jpg", "cafe\u0301.jpg"]
    labels = [(names[0], "Male"), (names[1], "Female")]
    assert joined_genders(labels, names[::-1]) == (["Female", "Male"], "")
