"""The summary as Markdown."""

from __future__ import annotations

from dataclasses import replace

from faceaudit.reporting.format import interval, number
from faceaudit.reporting.markdown import escape, to_markdown
from faceaudit.reporting.run import report


def rows_of(text):
    return [line for line in text.splitlines() if line.startswith("|")]


def test_summary_holds_the_figures_of_the_audit(sample_subject):
    text = to_markdown(sample_subject)
    assert text.startswith("# Audit of demo-lite0\n")
    (one,) = [
        m.estimate
        for m in sample_subject.audit.metrics
        if (m.task, m.metric, m.subgroup) == ("race", "accuracy", {"gender": "Female"})
    ]
    (row,) = [row for row in rows_of(text) if row.startswith("| Female |") and "years" not in row][
        :1
    ]
    bounds = interval(one.low, one.high, "share", " to ")
    assert f"{number(one.value, 'share')} ({bounds})" in row
    assert "| Female, Middle Eastern (small) |" in text
    for heading in ("What was found", "Figures", "Who is missing", "Notes"):
        assert f"## {heading}" in text


def test_every_row_of_a_table_has_as_many_cells_as_its_header(sample_subject):
    blocks = [block for block in to_markdown(sample_subject).split("\n\n") if block[0] == "|"]
    assert len(blocks) >= 2
    for block in blocks:
        widths = {line.replace("\\|", "").count("|") for line in block.splitlines()}
        assert len(widths) == 1


def test_names_cannot_become_markup(brief_subject):
    text = to_markdown(replace(brief_subject, title="a | b <img src=x> `c`\n# d"))
    assert text.splitlines()[0] == "# a \\| b \\<img src=x\\> \\`c\\` \\# d"
    assert escape("x_y") == "x\\_y"


def test_summary_without_labels_is_short(unlabelled_subject):
    text = to_markdown(unlabelled_subject)
    assert "## Figures" not in text
    assert text.endswith("\n")


def test_summary_is_written_beside_the_table(tmp_path):
    table = tmp_path / "t.csv"
    table.write_text("gender_true,gender_pred\nMale,Male\nFemale,Male\nMale,Female\n")
    files = report(table, formats=["md"], replicates=100, verify="never")
    assert [path.name for path in files.paths] == ["t.md"]
    assert files.paths[0].read_text().startswith("# Audit of t.csv")


def test_verdicts_stand_with_limit_figure_and_faces_needed(tmp_path):
    table, policy = tmp_path / "t.csv", tmp_path / "policy.toml"
    rows = ["Male,Male\n"] * 40 + ["Female,Female\n"] * 30 + ["Female,Male\n"] * 5
    table.write_text("gender_true,gender_pred\n" + "".join(rows))
    policy.write_text(
        '[[rule]]\ntask = "gender"\nmetric = "accuracy"\nby = ["gender"]\nmeasure = "worst"\n'
        'at_least = 0.8\nowner = "the board"\nreason = "so decided"\n'
    )
    files = report(table, formats=["md"], replicates=100, verify="never", policy=policy)
    text = files.paths[0].read_text()
    (verdict,) = files.audit.verdicts
    assert "Of 1 rule, 1 cannot be decided." in text
    (row,) = [row for row in rows_of(text) if row.startswith("| Gender: accuracy, worst")]
    assert "| insufficient evidence | at least 80.0% | 85.7% (" in row
    assert f"| {verdict.n} | {verdict.n_needed:,} |" in row
