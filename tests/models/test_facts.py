"""Sidecars: every key is read, and every mistake in one is one line that says what would work."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from faceaudit.errors import BundleError
from faceaudit.models.bundle import bundle_from_facts, facts_of, load_bundle
from faceaudit.models.facts import ACTIVATIONS, KEYS, Output, read_outputs
from faceaudit.schema import SCHEMES

FACTS: dict[str, Any] = {
    "name": "theirs",
    "licence": "MIT",
    "training_data": "their faces",
    "input": {
        "size": 112, "layout": "NCHW", "color": "BGR", "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5], "range": 1,
    },
    "crop": {"align": "similarity", "margin": 0.1, "offset": 0},
    "tasks": [
        {
            "name": "race", "scheme": "fairface4", "classes": [*SCHEMES["fairface4"]],
            "output": "logits[0:4]", "activation": "softmax",
        },
        {
            "name": "gender", "scheme": "gender2", "classes": ["Female", "Male"],
            "output": "logits[4]", "activation": "sigmoid",
        },
        {
            "name": "age", "scheme": "value", "classes": [], "output": "logits[5]",
            "activation": "value", "scale": 50, "shift": 50,
        },
    ],
    "sha256": hashlib.sha256(b"a graph").hexdigest(),
    "card": {"anything": "else"},
}  # fmt: skip


def write(folder: Path, facts: Any, name: str = "theirs") -> str:
    (folder / f"{name}.onnx").write_bytes(b"a graph")
    (folder / f"{name}.json").write_text(json.dumps(facts))
    return str(folder / f"{name}.onnx")


def changed(place: str, value: Any) -> dict[str, Any]:
    """The facts with another value at a place such as ``tasks.0.output``; ``...`` leaves it out."""
    facts = copy.deepcopy(FACTS)
    *path, last = [int(key) if key.isdigit() else key for key in place.split(".")]
    parent: Any = facts
    for key in path:
        parent = parent[key]
    if value is ...:
        del parent[last]
    else:
        parent[last] = value
    return facts


def test_all_facts_are_read_and_written_again(tmp_path: Path) -> None:
    bundle = load_bundle(write(tmp_path, FACTS))
    assert bundle.input.color == "BGR"
    assert [task.columns for task in bundle.tasks] == [slice(0, 4), slice(4, 5), slice(5, 6)]
    assert {task.tensor for task in bundle.tasks} == {"logits"}
    assert (bundle.tasks[2].scale, bundle.tasks[2].shift) == (50, 50)
    assert bundle.card == {"card": {"anything": "else"}}
    again = json.loads(json.dumps(facts_of(bundle)))
    assert bundle_from_facts(again, bundle.graph) == bundle
    assert "scale" not in again["tasks"][0]


def test_a_graph_called_model_may_have_a_sidecar_of_its_name(tmp_path: Path) -> None:
    assert load_bundle(write(tmp_path, FACTS, "model")).name == "theirs"


def test_weights_that_lie_beside_a_graph_with_a_sidecar_are_none_of_its_own(
    tmp_path: Path,
) -> None:
    (tmp_path / "weights.safetensors").write_bytes(b"of another bundle")
    assert load_bundle(write(tmp_path, FACTS)).name == "theirs"


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        ("name", ..., r"name: is missing$"),
        ("licence", 3, r"licence: is 3; give a text"),
        ("input", "112", r"input: is '112'; give an object with the keys size, layout"),
        ("input.size", ..., r"input\.size: is missing"),
        ("input.size", 112.5, r"input\.size: is 112\.5; give a number of pixels from 8 to 4096"),
        ("input.size", True, r"input\.size: is True"),
        ("input.layout", "NHCW", r"input\.layout: is 'NHCW'; give one of: NCHW, NHWC"),
        ("input.color", "rgb", r"input\.color: is 'rgb'; give one of: RGB, BGR"),
        ("input.color", "gray", r"input\.mean: is \[0\.5, 0\.5, 0\.5\]; give one number in a list"),
        ("input.colour", "RGB", r"input\.colour: is no fact; choose from: size, layout, color"),
        ("input.mean", 0.5, r"input\.mean: is 0\.5; give three numbers, one per channel"),
        ("input.std", [1, 0, 1], r"input\.std: is \[1, 0, 1\]; give numbers other than 0"),
        ("input.range", 0, r"input\.range: is 0; give a number above 0"),
        ("crop", ..., r"crop: is missing"),
        ("crop.align", "yes", r"crop\.align: is 'yes'; give one of: similarity, none"),
        ("crop.margin", "wide", r"crop\.margin: is 'wide'; give a number above -0\.5"),
        ("tasks", [], r"tasks: is \[\]; give a list of objects, one per task"),
        ("tasks.0", "race", r"tasks\[0\]: is 'race'; give an object with the keys name, scheme"),
        ("tasks.0.name", "emotion", r"tasks\[0\]\.name: is 'emotion'; give one of: gender, race"),
        ("tasks.1.name", "race", r"tasks: 'race' stands there twice"),
        ("tasks.0.scheme", "fairface8", r"is 'fairface8'; give one of: .*fairface7.*, custom"),
        ("tasks.0.classes", ["White", "Black"], r"those of fairface4 in any order \(White, Black"),
        ("tasks.0.classes", ["a", "a"], r"a list of at least two different names"),
        ("tasks.0.output", 3, r"tasks\[0\]\.output: is 3; give the name of an output"),
        ("tasks.0.output", "logits[0:7]", r"'logits\[0:7\]' are 7 columns; task race .* takes 4"),
        ("tasks.0.output", "logits[3:1]", r"'logits\[3:1\]' are 0 columns"),
        ("tasks.1.activation", "tanh", r"is 'tanh'; give one of for task gender: softmax, sigm"),
        ("tasks.0.activation", "years", r"is 'years'; give one of for task race: softmax"),
        ("tasks.0.activation", "sigmoid", r"two of them, as the activation is sigmoid"),
        ("tasks.0.scale", 2, r"tasks\[0\]\.scale: is for activation 'value' only"),
        ("tasks.2.classes", ["0-2"], r"none, as an age in years has no classes"),
        ("tasks.2.scale", "50", r"tasks\[2\]\.scale: is '50'; give a number"),
        ("tasks.2.activation", "softmax", r"give one of for task age: years, none, value"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_that_names_the_key(
    tmp_path: Path, place: str, value: Any, words: str
) -> None:
    with pytest.raises(BundleError, match=words) as found:
        load_bundle(write(tmp_path, changed(place, value)))
    assert str(found.value).startswith(f"{tmp_path / 'theirs.json'}: ")
    assert "\n" not in str(found.value)


def test_a_key_that_is_nearly_right_is_named(tmp_path: Path) -> None:
    facts = {"license" if key == "licence" else key: value for key, value in FACTS.items()}
    with pytest.raises(BundleError, match=r"licence: is missing \(there is 'license'\)"):
        load_bundle(write(tmp_path, facts))


def test_a_hash_that_is_missing_is_told(tmp_path: Path) -> None:
    facts = {key: value for key, value in FACTS.items() if key != "sha256"}
    with pytest.raises(BundleError, match=f"sha256: is missing; .* is {FACTS['sha256']}$"):
        load_bundle(write(tmp_path, facts))


def test_a_hash_of_another_file_is_noticed(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="damaged or do not belong together"):
        load_bundle(write(tmp_path, changed("sha256", "0" * 64)))


def test_facts_that_are_no_object_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"the facts: is \[\]; give an object with the keys name"):
        load_bundle(write(tmp_path, []))


def task(**facts: Any) -> Output:
    return read_outputs([{"output": "y", **facts}])[0]


def test_the_scheme_follows_from_the_classes_and_the_classes_from_the_scheme() -> None:
    ours = {"name": "race", "activation": "softmax"}
    assert task(**ours, scheme="fairface7").classes == SCHEMES["fairface7"]
    assert task(**ours, classes=[*SCHEMES["fairface4"]]).scheme == "fairface4"
    assert task(**ours, classes=["a", "b"]).scheme == "custom"
    with pytest.raises(ValueError, match=r"classes: is missing; give the classes in the order"):
        task(**ours)
    groups = {"name": "age_group", "activation": "softmax"}
    assert task(**groups, scheme="dj5").classes[0] == "0-14"
    assert task(**groups, classes=["0-17", "18+"]).scheme == "custom"


def test_years_may_be_given_by_the_first_and_the_last() -> None:
    ages = {"name": "age", "activation": "years"}
    assert task(**ages, classes="0-80").classes == tuple(map(str, range(81)))
    assert task(**ages, classes=[16, 17, 18]).classes == ("16", "17", "18")
    for wrong in ("80-0", [3, 2, 1], ["young", "old"], None, [1], "0-151"):
        with pytest.raises(ValueError, match="years that ascend"):
            task(**ages, classes=wrong)


def test_years_and_age_groups_of_their_own_contradict() -> None:
    both = [
        {"name": "age", "classes": "0-99", "output": "a", "activation": "years"},
        {"name": "age_group", "scheme": "dj5", "output": "b", "activation": "softmax"},
    ]
    with pytest.raises(ValueError, match="age groups follow from years; leave one out"):
        read_outputs(both)


def test_columns_are_read_off_the_name() -> None:
    for name, tensor, columns in (
        ("y", "y", slice(None)),
        ("y[2:4]", "y", slice(2, 4)),
        ("dense/Softmax:0", "dense/Softmax:0", slice(None)),
        ("dense/Softmax:0[0:2]", "dense/Softmax:0", slice(0, 2)),
    ):
        found = task(name="gender", scheme="gender2", activation="softmax", output=name)
        assert (found.tensor, found.columns) == (tensor, columns)


def places(value: Any, prefix: str = "") -> Iterator[str]:
    """Every place in the facts."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items:
        yield f"{prefix}{key}"
        if isinstance(inner, dict | list):
            yield from places(inner, f"{prefix}{key}.")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12)
    | st.sampled_from([*ACTIVATIONS, "logits[", "logits[9:]", "0-100", "fairface9", "NHWC"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)  # fmt: skip


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.sampled_from(sorted(places(FACTS))), value=JSON | st.just(...))
def test_any_value_at_any_place_is_taken_or_one_line(
    tmp_path: Path, place: str, value: Any
) -> None:
    try:
        bundle = load_bundle(write(tmp_path, changed(place, value)))
    except BundleError as error:
        message = str(error)
    else:
        message = "taken"
        assert {output.name for output in bundle.tasks} <= {"gender", "race", "age", "age_group"}
        assert all(output.widths for output in bundle.tasks)
    assert len(message.splitlines()) == 1


def test_every_key_is_in_the_example() -> None:
    assert set(FACTS) - {"card"} == set(KEYS[""])
    assert set(FACTS["input"]) == set(KEYS["input"])
    assert set(FACTS["crop"]) == set(KEYS["crop"])
    assert set().union(*FACTS["tasks"]) == set(KEYS["tasks"])
