"""The gate from outside: `check`, `report --policy`, exit codes, JSON, and the page."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import faceaudit
from faceaudit import cli
from faceaudit.audit.policy import STARTER
from faceaudit.errors import EXIT_ORDER, InputError, UsageError, first_exit
from faceaudit.reporting.check import summary
from faceaudit.reporting.json_report import SCHEMA_FILE
from faceaudit.showcase.run import PREDICTIONS
from faceaudit.storage import write_starter

Run = Callable[..., "Ended"]
HOSTILE = '<script>alert("1")</script>'
RULE: dict[str, Any] = {
    "task": "gender",
    "metric": "accuracy",
    "measure": "overall",
    "at_least": 0.6,
    "owner": f"A {HOSTILE}",
    "reason": f"B {HOSTILE}",
}
PASS = RULE
FAIL = {**RULE, "at_least": 0.99}
UNDECIDED = {**RULE, "at_least": 0.8}


def toml_of(*rules: dict[str, Any]) -> str:
    return "\n".join(
        "[[rule]]\n" + "\n".join(f"{key} = {json.dumps(value)}" for key, value in rule.items())
        for rule in rules
    )


@pytest.fixture
def table(tmp_path: Path) -> Path:
    rows = 120 * ["Male,Male,A"] + 20 * ["Male,Female,A"] + 40 * ["Female,Female,B"]
    rows += 12 * ["Female,Male,B"]
    path = tmp_path / "t.csv"
    path.write_text("gender_true,gender_pred,site\n" + "\n".join(rows) + "\n")
    return path


@dataclass(frozen=True)
class Ended:
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Ended]:
    """Run a command in this process."""

    def ran(*arguments: str | Path) -> Ended:
        monkeypatch.setattr(sys, "argv", ["faceaudit", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        code = ended.value.code
        return Ended(code if isinstance(code, int) else 0, *capsys.readouterr())

    return ran


@pytest.mark.parametrize(
    ("rules", "codes"),
    [
        ((PASS,), [0]),
        ((PASS, UNDECIDED), [3]),
        ((PASS, FAIL), [10]),
        ((UNDECIDED, FAIL, PASS), [10, 3]),
    ],
)
def test_exit_codes_follow_the_verdicts(
    table: Path, rules: tuple[dict[str, Any], ...], codes: list[int]
) -> None:
    found = faceaudit.check(table, {"rule": list(rules)}, replicates=100)
    assert found.exit_codes == codes
    assert found.exit_code == codes[0]
    assert json.loads(found.to_json())["exit_codes"] == codes


def test_where_several_codes_apply_the_contracts_order_decides() -> None:
    assert first_exit([4, 3, 10, 1, 75, 2]) == 2
    assert sorted([4, 3, 10, 1, 75, 2], key=EXIT_ORDER.index) == [2, 75, 1, 10, 3, 4]
    assert first_exit([]) == 0


def test_command_prints_the_verdicts_and_ends_with_their_code(
    run: Run, table: Path, tmp_path: Path
) -> None:
    policy = tmp_path / "p.toml"
    policy.write_text(toml_of(PASS, FAIL, UNDECIDED))
    found = run("check", table, "--policy", policy, "-o", tmp_path / "v.json")
    assert found.returncode == 10, found.stderr
    assert "1 pass, 1 fail, 1 insufficient evidence; exit code 10" in found.stdout
    assert f"owner: A {HOSTILE}; reason: B {HOSTILE}" in found.stdout
    printed = run("check", table, "--policy", policy, "--format", "json")
    assert printed.stdout == (tmp_path / "v.json").read_text()
    assert printed.returncode == 10


def test_command_and_function_find_the_same(run: Run, table: Path, tmp_path: Path) -> None:
    policy = tmp_path / "p.toml"
    policy.write_text(toml_of(PASS, UNDECIDED))
    printed = run("check", table, "--policy", policy, "--format", "json")
    assert printed.returncode == 3
    assert printed.stdout == faceaudit.check(table, policy).to_json()


def test_starter_policy_is_written_once_and_runs(run: Run, tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    assert run("check", "--init", policy).stdout.strip() == str(policy)
    again = run("check", "--init", policy)
    assert (again.returncode, again.stderr.count("\n")) == (2, 1)
    assert "exists already" in again.stderr
    found = faceaudit.check(PREDICTIONS, policy, replicates=100)
    assert len(found.verdicts) >= 5
    assert "insufficient" in summary(found.verdicts)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("check",), "give a table and --policy FILE"),
        (("check", "TABLE"), "give a table and --policy FILE"),
        (("check", "TABLE", "--policy", "none.toml"), "none.toml: the policy cannot be read"),
        (("check", "TABLE", "--policy", "BAD"), "no key of"),
        (("check", "TABLE", "--policy", "BAD", "--format", "csv"), "no value of --format"),
        (("report", "TABLE", "--policy", "BAD"), "no key of"),
    ],
)
def test_what_cannot_work_is_one_line_and_exit_2(
    run: Run, table: Path, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    bad = tmp_path / "bad.toml"
    bad.write_text(toml_of({**PASS, "treshold": 1}))
    names = {"TABLE": table, "BAD": bad}
    found = run(*(names.get(one, one) for one in arguments))
    assert found.returncode == 2
    assert message in found.stderr
    assert found.stderr.startswith("Error: ")
    assert found.stderr.count("\n") == 1


def test_a_folder_is_no_place_for_verdicts(table: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a folder; give the name of a file"):
        faceaudit.check(table, {"rule": [PASS]}, output=tmp_path)


def test_a_policy_that_is_not_there_names_what_writes_one(table: Path) -> None:
    with pytest.raises(InputError, match="check --init"):
        faceaudit.check(table, "none.toml")


def test_starter_is_not_written_over_a_file(table: Path) -> None:
    with pytest.raises(UsageError, match="exists already"):
        write_starter(table, STARTER)


def test_tallies_are_checked_like_their_table(table: Path, tmp_path: Path) -> None:
    kept = tmp_path / "t.tally"
    faceaudit.tally(table, kept, by=["site"])
    rule = {**RULE, "by": ["site"], "measure": "worst", "at_least": 0.5}
    one = faceaudit.check(table, {"rule": [rule]})
    other = faceaudit.check(kept, {"rule": [rule]})
    assert one.verdicts == other.verdicts
    other_rows, other_kept = tmp_path / "other.csv", tmp_path / "other.tally"
    other_rows.write_text(table.read_text() + "\n")
    faceaudit.tally(other_rows, other_kept, by=["site"])
    doubled = faceaudit.check([kept, other_kept], {"rule": [rule]})
    assert doubled.verdicts[0].n == 2 * one.verdicts[0].n


def test_check_never_imports_torch(table: Path, tmp_path: Path) -> None:
    policy = tmp_path / "p.toml"
    policy.write_text(toml_of(PASS))
    code = (
        "import sys, faceaudit\n"
        f"faceaudit.check({str(table)!r}, {str(policy)!r})\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# --- the report ---------------------------------------------------------------------------------


def test_report_with_a_policy_ends_with_its_code_and_writes_both_files(
    run: Run, table: Path, tmp_path: Path
) -> None:
    policy = tmp_path / "p.toml"
    policy.write_text(toml_of(PASS, FAIL))
    found = run("report", table, "--policy", policy, "--verify", "never", "--replicates", "100")
    assert found.returncode == 10
    assert "1 pass, 1 fail, 0 insufficient evidence" in found.stderr
    facts = json.loads((tmp_path / "t.json").read_text())
    assert [one["outcome"] for one in facts["verdicts"]] == ["pass", "fail"]
    assert facts["exit_codes"] == [10]
    assert (tmp_path / "t.html").is_file()


def test_report_finds_what_check_finds_and_leaves_the_figures_alone(
    table: Path, tmp_path: Path
) -> None:
    rule = {**RULE, "by": ["site"], "measure": "difference", "at_most": 0.4}
    rules = {"rule": [{key: value for key, value in rule.items() if key != "at_least"}, PASS]}
    options: dict[str, Any] = {"verify": "never", "formats": ("json",)}
    ruled = faceaudit.report(table, policy=rules, output=tmp_path / "a.json", **options)
    plain = faceaudit.report(table, output=tmp_path / "b.json", **options)
    assert ruled.audit.verdicts == faceaudit.check(table, rules).verdicts
    assert ruled.audit.metrics == plain.audit.metrics
    assert ruled.audit.by == plain.audit.by
    assert plain.exit_code == 0
    schema = json.loads(SCHEMA_FILE.read_text())
    for name in ("a.json", "b.json"):
        jsonschema.validate(json.loads((tmp_path / name).read_text()), schema)


@pytest.mark.parametrize(
    ("provenance", "told"),
    [
        ("predicted", "The labels are model-labeled, not annotated: another model predicted it."),
        ("self-reported", "The labels are self-reported, not annotated: the persons shown said it"),
        ("annotated", None),
    ],
)
def test_whose_labels_a_verdict_rests_on_is_told(
    table: Path, tmp_path: Path, provenance: str, told: str | None
) -> None:
    found = faceaudit.check(table, {"rule": [PASS]}, provenance=provenance)
    facts = json.loads(found.to_json())
    assert facts["labels"] == {"format": None, "provenance": provenance}
    for text in (found.to_text(), "\n".join(facts["notes"])):
        assert told in text if told else "The labels are" not in text
    faceaudit.tally(table, tmp_path / "t.tally", provenance=provenance)
    again = faceaudit.check(tmp_path / "t.tally", {"rule": [PASS]})
    assert json.loads(again.to_json())["labels"] == facts["labels"]


def test_a_gate_without_labels_names_no_provenance(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("image,gender_pred\n" + "a.jpg,Male\n" * 40)
    rule = {"metric": "failure_rate", "measure": "overall", "at_most": 0.5}
    found = faceaudit.check(
        tmp_path / "t.csv",
        {"rule": [{**rule, "owner": "A", "reason": "B"}]},
        provenance="predicted",
    )
    assert json.loads(found.to_json())["labels"] == {"format": None, "provenance": None}
    assert "The labels are" not in found.to_text()


def test_a_gate_tells_how_many_subgroups_an_exception_is_about(table: Path) -> None:
    gone, there = (
        {"subgroup": {"site": site}, "approved_by": "C", "reason": "D", "expires": "2020-01-01"}
        for site in ("south", "B")
    )
    rule = {**PASS, "by": ["site"], "measure": "worst", "exception": [gone, there]}
    found = faceaudit.check(table, {"rule": [rule]}).to_text()
    assert "south (0 subgroups) expired on 2020-01-01, approved by C: D" in found
    assert "B (1 subgroup) expired on 2020-01-01" in found


def test_page_tells_every_verdict_in_words_and_escapes_them(table: Path, tmp_path: Path) -> None:
    exempt = {
        "subgroup": {"site": "B"}, "approved_by": f"C {HOSTILE}", "reason": f"D {HOSTILE}",
        "expires": "2020-01-01",
    }  # fmt: skip
    by_site = {**UNDECIDED, "by": ["site"], "measure": "worst", "exception": [exempt]}
    rules = {"rule": [PASS, FAIL, by_site]}
    files = faceaudit.report(table, policy=rules, verify="never", replicates=100)
    page = files.paths[0].read_text()
    assert HOSTILE not in page
    for name in "ABCD":
        assert f"{name} &lt;script&gt;" in page
    for words in ("<span>pass</span>", "<span>fail</span>", "<span>insufficient evidence</span>"):
        assert words in page
    assert "Of 3 rules, 1 fails, 1 cannot be decided and 1 passes." in page
    assert "Exception expired" in page
    assert page.index('id="summary"') < page.index('id="verdicts"') < page.index('id="performance"')


def test_what_is_suppressed_is_not_told_by_a_verdict_and_its_outcome_stays(
    tmp_path: Path,
) -> None:
    table = tmp_path / "t.csv"
    rows = 200 * ["Male,Male,A"] + 200 * ["Female,Female,B"] + 7 * ["Male,Female,C"]
    table.write_text("gender_true,gender_pred,site\n" + "\n".join(rows) + "\n")
    by_site = {**RULE, "by": ["site"], "measure": "worst", "min_n": 1, "at_least": 0.9}
    rules = {
        "rule": [
            by_site,
            {**by_site, "min_n": 30},
            {**RULE, "within": {"site": "C"}, "min_n": 1, "at_least": 0.99},
            {**RULE, "within": {"site": "C"}, "min_n": 30, "at_least": 0.5},
        ]
    }
    options: dict[str, Any] = {"by": ["site"], "policy": rules, "verify": "never"}
    plain = faceaudit.report(table, output=tmp_path / "plain.html", **options)
    hidden = faceaudit.report(table, output=tmp_path / "few.html", suppress_below=10, **options)
    assert "C: 7 faces, fewer than 30" in (tmp_path / "plain.json").read_text()
    outcomes = ["fail", "insufficient", "fail", "insufficient"]
    assert [v.outcome for v in plain.audit.verdicts] == outcomes
    assert [v.outcome for v in hidden.audit.verdicts] == outcomes
    assert hidden.exit_code == plain.exit_code == 10
    facts = json.loads((tmp_path / "few.json").read_text())
    jsonschema.validate(facts, json.loads(SCHEMA_FILE.read_text()))
    for one in facts["verdicts"]:
        assert {"site": "C"} not in [*one["subgroups"], *one["small"]]
        assert "7 faces" not in one["explanation"]
    assert (facts["verdicts"][0]["value"], facts["verdicts"][0]["n"]) == (None, None)
    # How many faces are needed would tell how many of the seven were right.
    assert plain.audit.verdicts[3].n_needed is not None
    assert (facts["verdicts"][3]["n_needed"], facts["verdicts"][3]["n"]) == (None, None)
    assert "7 faces" not in (tmp_path / "few.html").read_text()
    gate = faceaudit.check(table, rules, suppress_below=10)
    assert gate.verdicts[0].n is None
    assert "7 faces" not in gate.to_text() + gate.to_json()
    assert gate.exit_code == 10


def test_page_without_a_policy_has_no_verdicts(table: Path) -> None:
    page = faceaudit.report(table, verify="never", replicates=100).paths[0].read_text()
    assert 'id="verdicts"' not in page


@pytest.mark.parametrize(
    "rule",
    [
        {"metric": "failure_rate", "measure": "overall", "at_most": 0.5},
        {"task": "gender", "metric": "predicted_share", "class": "Male", "by": ["site"],
         "measure": "each", "at_least": 0.1, "at_most": 0.99},
        {"task": "gender", "metric": "equalized_odds", "class": "Male", "by": ["site"],
         "measure": "difference", "at_most": 0.9},
        {"task": "gender", "metric": "recall", "class": "Male", "within": {"site": "A"},
         "measure": "overall", "at_least": 0.1},
        {"task": "gender", "metric": "accuracy", "by": ["site"], "within": ["gender"],
         "measure": "ratio", "at_least": 0.1},
        {"task": "gender", "metric": "accuracy", "by": ["site"], "measure": "equivalent",
         "at_most": 0.1},
    ],
    ids=lambda rule: f"{rule['metric']}-{rule['measure']}",
)  # fmt: skip
def test_every_kind_of_rule_is_on_the_page(table: Path, rule: dict[str, Any]) -> None:
    rules = {"rule": [{"owner": "A", "reason": "B", **rule}]}
    files = faceaudit.report(table, policy=rules, verify="never", replicates=100)
    page = files.paths[0].read_text()
    section = page[page.index('<section id="verdicts"') : page.index('<section id="performance"')]
    assert "Of 1 rule, 1" in section
    assert "None" not in section
