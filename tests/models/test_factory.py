"""Networks of the user's own code: ``package.module:factory``."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from faceaudit.errors import BundleError, FaceauditError
from faceaudit.models.factory import by_name, hash_of_network
from faceaudit.models.load import load_model
from faceaudit.models.standalone import export
from faceaudit.pipeline.scores import scores_of
from faceaudit.runtimes import open_runtime
from faceaudit.runtimes.preprocess import prepare

CROPS = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)

CODE = """
import numpy as np
import torch
from torch import nn

FACTS = {
    "name": "ours",
    "licence": "none",
    "training_data": "none",
    "input": {"size": 16, "color": "BGR", "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.4]},
    "crop": {"align": "none", "margin": 0.0},
    "tasks": [
        {"name": "race", "scheme": "fairface4", "output": "RACE", "activation": "softmax"},
        {"name": "gender", "scheme": "gender2", "output": "GENDER", "activation": "sigmoid"},
        {"name": "age", "output": "AGE", "activation": "value"},
    ],
}

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.conv = nn.Conv2d(3, 4, 3, stride=2)
        self.norm = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(0.9)
        self.fc = nn.Linear(4 * 7 * 7, 6)

    def forward(self, x):
        x = self.drop(torch.relu(self.norm(self.conv(x))))
        return self.fc(x.view(x.size(0), -1))

def facts(race="output[0:4]", gender="output[4]", age="output[5]", **more):
    outputs = {"RACE": race, "GENDER": gender, "AGE": age}
    tasks = [{**task, "output": outputs[task["output"]]} for task in FACTS["tasks"]]
    return {**FACTS, "tasks": tasks, **more}

def make():
    return Net(), facts()
"""

Write = Callable[[str], str]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Writes a module of another name each time into the current folder; names its function."""
    monkeypatch.chdir(tmp_path)
    path, written = list(sys.path), []

    def save(more: str = "") -> str:
        name = f"mine_{tmp_path.name.replace('-', '_')}_{len(written)}"
        written.append(name)
        (tmp_path / f"{name}.py").write_text(CODE + textwrap.dedent(more))
        return f"{name}:make"

    yield save
    sys.path[:] = path
    for name in written:
        sys.modules.pop(name, None)


def test_a_network_of_the_current_folder_runs_with_its_facts(write: Write) -> None:
    bundle = load_model(write(""))
    assert [task.name for task in bundle.tasks] == ["race", "gender", "age"]
    assert not bundle.network.training
    runner = open_runtime(bundle, device="cpu")
    assert runner.facts()["runtime"] == "torch"
    found = runner.infer(CROPS)["output"]
    images = torch.from_numpy(prepare(CROPS, bundle.input))
    with torch.inference_mode():
        wanted = bundle.network(images).numpy()
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_the_hash_is_of_the_tensors_and_the_card_has_that_of_the_code(write: Write) -> None:
    name = write("")
    first = load_model(name)
    assert load_model(name).sha256 == first.sha256
    changed = first.network
    with torch.no_grad():
        changed.fc.bias[0] += 1e-6
    assert hash_of_network(changed, name) != first.sha256
    assert first.card["factory"] == name
    assert len(first.card["code_sha256"]) == 64
    json.dumps(dict(first.card))


@pytest.mark.parametrize(
    ("returned", "outputs"),
    [
        ("{'race': y[:, :4], 'gender': y[:, 4], 'age': y[:, 5:]}", ("race", "gender", "age")),
        ("(y[:, :4], y[:, 4:5], y[:, 5])", ("0", "1", "2")),
        ("[y[:, :4, None, None], y[:, 4:]]", ("0", "1[0:1]", "1[1]")),
        ("namedtuple('Out', 'race rest')(y[:, :4], y[:, 4:])", ("race", "rest[0]", "rest[1:2]")),
    ],
)
def test_outputs_may_be_a_dict_or_a_tuple(
    write: Write, returned: str, outputs: tuple[str, str, str]
) -> None:
    plain = open_runtime(load_model(write("")), device="cpu").infer(CROPS)["output"]
    more = f"""
        from collections import namedtuple
        class Other(Net):
            def forward(self, x):
                y = super().forward(x)
                return {returned}
        def make():
            return Other(), facts(*{outputs!r})
    """
    bundle = load_model(write(more))
    found = scores_of(open_runtime(bundle, device="cpu").infer(CROPS), bundle.tasks, (0, 18))
    assert found.age is not None
    np.testing.assert_allclose(found.age, np.clip(plain[:, 5], 0, 120), atol=1e-5)
    np.testing.assert_array_equal(found.probs["race"].argmax(1), plain[:, :4].argmax(1))
    np.testing.assert_array_equal(found.probs["gender"].argmax(1), plain[:, 4] > 0)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("def make(): return Net()", r"returned a Net; return a torch\.nn\.Module and a dict"),
        ("def make(): return None", r"returned None; return a torch\.nn\.Module"),
        ("def make(): return facts(), Net()", r"returned a dict first, no torch\.nn\.Module"),
        ("def make(): return Net(), 'facts'", r"returned a str second, no dict of facts"),
        ("def make(): return 1 / 0", r"raised ZeroDivisionError: division by zero \(mine.*py, li"),
        ("def make(path): return Net()", r"raised TypeError: make\(\) missing 1 required"),
        ("def make(): raise SystemExit(3)", r"raised SystemExit: 3"),
        ("def make(): return Net(), facts(input={})", r"its facts: input\.size: is missing"),
        ("def make(): return Net(), facts(notes=torch.ones(2))", r"its facts: .*not JSON"),
        ("def make(): return Net(), facts(sha256='0' * 64)", r"tensors is [0-9a-f]{64}, its facts"),
        ("def make(): return nn.LazyLinear(3), facts()", r"bias has no values yet; load them"),
        ("def make(): return nn.Linear(3, 3, device='meta'), facts()", r"has no values yet"),
        ("make = 3", r"'make' is no function"),
        ("del make\ndef made(): pass", r"'make' is not in mine.*; did you mean 'made'\?"),
        ("import nothing_of_this_name", r"raised ModuleNotFoundError: No module named 'nothing_of"),
        ("def broken(", r"raised SyntaxError: .*\(mine.*py, line \d+\)"),
        ("raise RuntimeError('two\\nlines')", r"raised RuntimeError: two \(mine"),
    ],
)
def test_a_factory_that_fails_is_one_line(write: Write, more: str, words: str) -> None:
    name = write(more)
    with pytest.raises(BundleError, match=words) as found:
        load_model(name)
    assert str(found.value).startswith(f"--model {name}: ")
    assert "\n" not in str(found.value)


def test_a_module_that_is_not_there_is_one_line(write: Write) -> None:
    write("")
    with pytest.raises(BundleError, match=r"there is no module 'nowhere' in /.* or among the pac"):
        load_model("nowhere.models:make")


def test_a_network_may_take_gray_images(write: Write) -> None:
    more = """
        def make():
            torch.manual_seed(0)
            gray = {"size": 16, "color": "gray", "mean": [0.5], "std": [0.2]}
            tasks = [{"name": "age", "output": "output", "activation": "value"}]
            net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(2 * 14 * 14, 1))
            return net, facts(input=gray, tasks=tasks)
    """
    name = write(more)
    bundle = load_model(name)
    found = open_runtime(bundle, device="cpu").infer(CROPS)["output"]
    with torch.inference_mode():
        wanted = bundle.network(torch.from_numpy(prepare(CROPS, bundle.input))).numpy()
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
    exported = open_runtime(export(name, "gray.onnx"), device="cpu").infer(CROPS)["age"]
    np.testing.assert_allclose(exported, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("forward", "words"),
    [
        ("y[:, :5]", r"output 'output\[5\]': 'output' is 2x5, too few columns"),
        ("{'race': y, 'gender': 3}", r"has no output 'output'; its outputs are race"),
        ("'text'", r"its network returned a str; return a tensor, a tuple of tensors or a dict"),
        ("{'a': 1}", r"its network returned no tensor"),
        ("y.mean(0)", r"an output is 6 for \d+ images; one row each"),
        ("y.mean()", r"an output is a single number for \d+ images"),
        ("y / 0", r"output 'output\[0:4\]' is not finite on random pixels"),
        ("y @ x", r"fails on 2 images of 16x16 pixels \("),
    ],
)
def test_a_network_that_does_not_fit_its_facts_is_one_line(
    write: Write, forward: str, words: str
) -> None:
    more = f"""
        class Other(Net):
            def forward(self, x):
                y = super().forward(x)
                return {forward}
        def make():
            return Other(), facts()
    """
    bundle = load_model(write(more))
    with pytest.raises(FaceauditError, match=words) as found:
        open_runtime(bundle, device="cpu")
    assert "\n" not in str(found.value)


def test_classes_that_do_not_fit_the_output_are_one_line(write: Write) -> None:
    bundle = load_model(write("def make(): return Net(), facts(race='output')"))
    words = r"output 'output' is 2x6; task race with activation softmax of 4 classes takes 4"
    with pytest.raises(BundleError, match=words):
        open_runtime(bundle, device="cpu")


def test_logits_that_are_said_to_be_probabilities_are_one_line(write: Write) -> None:
    more = "FACTS['tasks'][0]['activation'] = 'none'"
    with pytest.raises(BundleError, match=r"are no probabilities .* use softmax or sigmoid"):
        open_runtime(load_model(write(more)), device="cpu")


def test_outputs_of_no_tensor_and_of_none_are_told_apart() -> None:
    assert set(by_name((torch.ones(1), "text"), "m:f")) == {"0"}
    with pytest.raises(BundleError, match="returned None"):
        by_name(None, "m:f")


def test_onnx_runtime_does_not_run_a_network(write: Write) -> None:
    with pytest.raises(FaceauditError, match="runs in torch"):
        open_runtime(load_model(write("")), device="cpu", runtime="onnxruntime")


def test_an_exported_network_answers_alike_without_torch(write: Write, tmp_path: Path) -> None:
    name = write("")
    written = export(name, tmp_path / "ours.onnx")
    assert [task.output for task in written.tasks] == ["race", "gender", "age"]
    assert written.network is None
    assert {node.op_type for node in onnx.load(tmp_path / "ours.onnx").graph.node} >= {"Conv"}
    plain = open_runtime(load_model(name), device="cpu").infer(CROPS)["output"]
    found = open_runtime(written, device="cpu").infer(CROPS)
    for task, columns in (("race", [0, 1, 2, 3]), ("gender", [4]), ("age", [5])):
        np.testing.assert_allclose(found[task], plain[:, columns], rtol=1e-4, atol=1e-5)


def test_a_network_that_tracing_cannot_follow_is_not_exported(write: Write) -> None:
    more = """
        class Other(Net):
            def forward(self, x):
                return super().forward(x) * (2 if float(x.sum()) > 0 else 1)
        def make():
            return Other(), facts()
    """
    with pytest.raises(BundleError, match="its graph answers differently for race"):
        export(write(more), "ours.onnx")
    assert not Path("ours.onnx").exists()
