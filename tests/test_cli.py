from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import faceaudit
from faceaudit import cli
from faceaudit.audit.policy import STARTER
from faceaudit.cli import parsing
from faceaudit.cli.logs import start_logging
from faceaudit.errors import EXIT_INSUFFICIENT, EXIT_RULE_FAILED, EXIT_TEMPORARY, UsageError
from faceaudit.models.bundle import Bundle
from faceaudit.showcase.run import PREDICTIONS


def run(*arguments: str | Path, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "faceaudit.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        **options,  # type: ignore[call-overload]
    )


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['faceaudit', '--help']\n"
        "from faceaudit import cli\n"
        "try: cli.main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'polars', 'pyarrow', 'numpy', 'cv2', 'matplotlib', 'onnxruntime',"
        " 'sklearn', 'PIL', 'jinja2', 'scipy'}\n"
        "print('HEAVY', sorted(heavy & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "HEAVY []" in found.stdout
    for command in ("predict", "report", "prepare", "train", "demo"):
        assert command in found.stdout


def test_report_and_predict_never_import_torch(specimens: Path, tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "import faceaudit\n"
        f"faceaudit.predict({str(specimens)!r}, {str(tmp_path / 'out.parquet')!r})\n"
        f"faceaudit.report({str(tmp_path / 'out.parquet')!r})\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert (tmp_path / "out.html").is_file()
    assert (tmp_path / "out.json").is_file()


ALONE = """
import socket, sys

class Absent:
    "Finds none of the extras, as where they are not installed."

    def find_spec(self, name, path=None, target=None):
        extras = {"torch", "torchvision", "timm", "safetensors", "onnx", "onnxscript", "optuna"}
        extras.add("tomli_w")
        if name.partition(".")[0] in extras:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

def offline(*given, **named):
    raise OSError("there is no network")

sys.meta_path.insert(0, Absent())
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = offline
for module in ("torch", "onnx"):
    try:
        __import__(module)
    except ModuleNotFoundError:
        continue
    raise SystemExit(f"{module} could be imported")
from faceaudit.cli import main
sys.argv[0] = "faceaudit"
main()
"""


@pytest.mark.parametrize(
    ("arguments", "written"),
    [
        (["report", PREDICTIONS, "-o", "r.html", "--policy", STARTER], ["r.html", "r.json"]),
        (["tally", PREDICTIONS, "t.tally"], ["t.tally"]),
        (["compare", PREDICTIONS, PREDICTIONS, "-o", "c.html", "--mode", "drift"], ["c.html"]),
        (["sample", PREDICTIONS, "-o", "s.csv"], ["s.csv"]),
        (["check", PREDICTIONS, "--policy", STARTER, "-o", "v.json"], ["v.json"]),
    ],
    ids=lambda given: given[0],
)
def test_tables_are_audited_without_a_network_and_without_torch(
    arguments: list[str | Path], written: list[str], tmp_path: Path
) -> None:
    found = subprocess.run(
        [sys.executable, "-c", ALONE, *map(str, arguments)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode in {0, EXIT_INSUFFICIENT, EXIT_RULE_FAILED}, found.stderr
    assert "Traceback" not in found.stderr
    assert all((tmp_path / name).stat().st_size for name in written)


def test_every_public_function_is_a_command() -> None:
    functions = {name for name in faceaudit.__all__ if name != "__version__"}
    commands = {command.callback.__name__ for command in cli.app.registered_commands}  # type: ignore[union-attr]
    assert functions == commands
    for name in functions:
        assert callable(getattr(faceaudit, name))
    with pytest.raises(AttributeError, match="no attribute 'forecast'"):
        _ = faceaudit.forecast


def test_version() -> None:
    assert run("--version").stdout.strip() == f"faceaudit {faceaudit.__version__}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["predict", "no/such/folder", "out.parquet"], "no/such/folder"),
        (["predict", ".", "out.csv"], "Parquet file"),
        (["predict", ".", "out.parquet", "--model", "resnet"], "no model is called 'resnet'"),
        (["predict", ".", "out.parquet", "--max-pixels", "many"], "give a count"),
        (["predict", ".", "out.parquet", "--max-failures", "few"], "10 or 2%"),
        (["predict", ".", "out.parquet", "--age-bins", "5,10"], "starting at 0"),
        (["predict", ".", "out.parquet", "--log-format", "xml"], "text, json"),
        (["report", "no.parquet"], "no.parquet"),
        (["report", "no.parquet", "--map", "race"], "NAME=VALUE"),
        (["train", "nonesuch", "--data", "."], "no recipe is called 'nonesuch'"),
        (["prepare", ".", "out", "--detector", "haar"], "no image|no detector"),
        (["predict", "no\nsuch\x1b", "out.parquet"], r"no\nsuch\x1b: there is no such file"),
        (["predict"], "faceaudit.cli predict: Missing argument 'images' (see --help)"),
        (["prdict", "."], "No such command 'prdict'. Did you mean 'predict'?"),
        (["predict", ".", "out.parquet", "--colour"], "No such option: --colour"),
        (["predict", ".", "out.parquet", "--limit", "0"], "greater than or equal to 1"),
        (["predict", ".", "out.parquet", "--part-rows", "9"], "give a folder for parts, such as"),
    ],
)
def test_what_a_user_can_fix_is_one_line_and_exit_2(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    found = run(*arguments, cwd=tmp_path)
    assert found.returncode == 2
    lines = found.stderr.strip().splitlines()
    assert len(lines) == 1, found.stderr
    assert lines[0].startswith("Error: ")
    assert any(part in lines[0] for part in message.split("|"))


def test_no_command_is_exit_2_and_the_help() -> None:
    found = run()
    assert (found.returncode, found.stderr) == (2, "")
    assert "Usage: " in found.stdout
    assert "report" in found.stdout


def test_a_log_line_is_one_line_whatever_the_names(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    logger = logging.getLogger("faceaudit")
    for name in ("handlers", "propagate", "level"):
        monkeypatch.setattr(logger, name, getattr(logger, name))
    monkeypatch.setattr(logger, "handlers", [])
    start_logging(quiet=False, verbose=False, log_format="text")
    logger.info("read %s", "caf\u00e9\n\x1b[31m\udcff.jpg")
    assert capsys.readouterr().err == "read caf\u00e9\\n\\x1b[31m\\udcff.jpg\n"


def test_predict_says_what_it_did_and_gates_on_failures(
    specimens: Path, random_bundle: Bundle, tmp_path: Path
) -> None:
    model = ["--model", random_bundle.graph.parent]
    out = tmp_path / "out.parquet"
    found = run("predict", specimens, out, *model, "--max-failures", "50%")
    assert found.returncode == 0, found.stderr
    assert "13 images, 9 faces" in found.stdout
    assert "2 unreadable" in found.stdout
    gated = run("predict", specimens, out, *model, "--max-failures", "2")
    assert gated.returncode == 4
    assert "4 of 13 images failed" in gated.stderr
    assert out.is_file()
    assert run("predict", specimens, out, *model, "--quiet").stdout == ""


def test_log_lines_can_be_json(specimens: Path, random_bundle: Bundle, tmp_path: Path) -> None:
    found = run(
        "predict", specimens, tmp_path / "out.parquet", "--model", random_bundle.graph.parent,
        "--log-format", "json", "--limit", "2",
    )  # fmt: skip
    records = [json.loads(line) for line in found.stderr.splitlines()]
    assert any("labels" in record["message"] for record in records)


def test_an_interrupted_command_exits_75_and_writes_no_table(
    specimens: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    data = (specimens / "hopper.jpg").read_bytes()
    for number in range(3000):
        (folder / f"{number}.jpg").write_bytes(data)
    out = tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, "-m", "faceaudit.cli", "prepare", folder, out],
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not list(out.glob("crops/*/*.jpg")) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 75, errors
    assert "Error: interrupted by SIGTERM" in errors
    assert "Traceback" not in errors
    assert [path.name for path in out.iterdir()] == ["crops"]


def test_counts_and_shares() -> None:
    assert parsing.parse_count("--max-pixels", "2.5k") == 2500
    assert parsing.parse_auto("--workers", "auto") is None
    assert parsing.parse_pairs("--columns", ["age_pred=yhat"]) == {"age_pred": "yhat"}
    with pytest.raises(UsageError, match="at least 1"):
        parsing.parse_count("--workers", "0")


def test_a_part_of_a_worker_is_refused() -> None:
    with pytest.raises(UsageError, match=r"--workers 1\.5: give a whole number"):
        parsing.parse_auto("--workers", "1.5")


def test_an_absurd_count_is_refused() -> None:
    with pytest.raises(UsageError, match="at most"):
        parsing.parse_auto("--batch-size", "1e19")


def test_options_with_lists_may_be_given_once_or_several_times() -> None:
    assert parsing.split_names(["gender, race", "site"]) == ["gender", "race", "site"]
    assert parsing.split_names("gender,race") == ["gender", "race"]
    assert parsing.split_names(None) == []
    assert parsing.parse_map(["race=utkface5,gender=gender2", "age=x"]) == {
        "race": "utkface5",
        "gender": "gender2",
        "age": "x",
    }
    with pytest.raises(UsageError, match="--columns a=y: a is given twice"):
        parsing.parse_pairs("--columns", ["a=x", "a=y"])


def test_report_takes_every_feature_and_column_that_is_named(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    rows = [
        f"{g},{g if n % 3 else 'Male'},{s},{n % 2}"
        for n in range(40)
        for g in ("Male", "Female")
        for s in ("a", "b")
    ]
    table.write_text("gender_true,guess,site,shift\n" + "\n".join(rows) + "\n")
    found = run(
        "report", table, "--columns", "gender_pred=guess", "--by", "gender", "--by", "site",
        "--within", "shift", "--suppress-below", "5", "--format", "json,md", "--verify", "never",
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    facts = json.loads((tmp_path / "t.json").read_text())
    assert facts["options"]["by"] == ["gender", "site"]
    assert facts["options"]["within"] == "shift"
    held = [one for one in facts["disparities"] if one["within"] == {"shift": "1"}]
    assert {tuple(one["by"]) for one in held} == {("gender",), ("site",), ("gender", "site")}
    assert (tmp_path / "t.md").exists()


def test_an_interruption_in_a_finalizer_is_not_lost(tmp_path: Path) -> None:
    program = """
import os, signal, sys, time
from faceaudit import cli

class Closing:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)

def work():
    closing = Closing()
    del closing
    try:
        time.sleep(30)
    except Exception:
        pass

cli.app = lambda standalone_mode: work()
cli.main()
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=25, check=False
    )
    assert done.returncode == EXIT_TEMPORARY
    assert done.stderr == (
        "Error: interrupted by SIGINT; nothing half-written was left; run again\n"
    )
