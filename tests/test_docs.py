from __future__ import annotations

import inspect
import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from typer.models import CommandInfo

from faceaudit import cli
from faceaudit.images.formats import FORMATS
from faceaudit.models.bundle import load_bundle
from faceaudit.schema import BASE_FIELDS
from faceaudit.statuses import STATUSES
from scripts import readme, reference_results

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])


def source_of_commands() -> str:
    """The text of all modules of the command line."""
    modules = sorted(Path(cli.__file__).parent.glob("*.py"))
    return "\n".join(module.read_text(encoding="utf-8") for module in modules)


def test_the_generated_parts_of_the_readme_are_current() -> None:
    text = readme.README.read_text(encoding="utf-8")
    assert readme.filled(text) == text, "run python -m scripts.readme"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_of_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_options_in_pages_exist(page: Path) -> None:
    source = source_of_commands()
    known = {command.callback.__name__ for command in cli.app.registered_commands}  # type: ignore[union-attr]
    text = page.read_text(encoding="utf-8")
    for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL):
        for line in block.splitlines():
            found = re.match(r"faceaudit (\w+)(.*)", line.split("#")[0])
            if found:
                assert found[1] in known, line
                for option in re.findall(r"--([a-z-]+)", found[2]):
                    name = option.replace("-", "_")
                    assert re.search(rf"\b{name}_?:|--{option}\"", source), line


BRITISH = re.compile(
    r"labell|colour|\bgrey|centre|neighbour|licence|normalis|standardis|recognis|behaviour|"
    r"\banalyse|optimis|modelled|towards",
    re.IGNORECASE,
)


def prose_of(facts: object) -> Iterator[str]:
    """Every sentence in a JSON or TOML: its values, not its keys."""
    if isinstance(facts, Mapping):
        facts = list(facts.values())
    if isinstance(facts, list):
        for one in facts:
            yield from prose_of(one)
    elif isinstance(facts, str) and " " in facts:
        yield facts


def keys_of(facts: object) -> Iterator[str]:
    """Every key in a JSON."""
    if isinstance(facts, Mapping):
        yield from facts
        facts = list(facts.values())
    if isinstance(facts, list):
        for one in facts:
            yield from keys_of(one)


def read_by_users() -> Iterator[tuple[str, str]]:
    """Names and texts: pages, templates, cards, recipes, and the commands' help."""
    for page in PAGES:
        # Names in backticks are those of columns and keys.
        plain = re.sub(r"```.*?```|`[^`]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        yield page.name, plain
    for template in sorted((ROOT / "reports" / "templates").rglob("*.html")):
        text = re.sub(r"\{[{%].*?[%}]\}|<[^>]*>", "", template.read_text(encoding="utf-8"))
        yield template.name, text
    for card in sorted((ROOT / "faceaudit" / "models" / "bundles").glob("*/bundle.json")):
        yield card.parent.name, "\n".join(prose_of(json.loads(card.read_text(encoding="utf-8"))))
    for recipe in sorted((ROOT / "faceaudit" / "training" / "recipes").rglob("*.toml")):
        yield recipe.name, "\n".join(prose_of(tomllib.loads(recipe.read_text(encoding="utf-8"))))
    for schema in sorted((ROOT / "faceaudit" / "reporting").glob("*.schema.json")):
        keys = set(keys_of(json.loads(schema.read_text(encoding="utf-8"))))
        yield schema.name, "\n".join(sorted(keys - {"licence"}))  # the key of a model's sidecar
    yield "help", "\n".join(re.findall(r'"[^"]* [^"]*"', source_of_commands()))


def test_what_users_read_has_american_spelling() -> None:
    found = [
        (name, line)
        for name, text in read_by_users()
        for line in text.splitlines()
        if BRITISH.search(line)
    ]
    assert not found


def test_make_targets_in_pages_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        for target in re.findall(r"`make ([a-z-]+)`", page.read_text(encoding="utf-8")):
            assert target in targets, (page.name, target)


def test_every_command_and_option_has_help() -> None:
    for command in cli.app.registered_commands:
        assert command.callback is not None
        assert command.callback.__doc__
    source = source_of_commands()
    for options in re.findall(r"typer\.(?:Option|Argument)\((.*?)\)\]", source, re.DOTALL):
        assert "help=" in options, options


def test_the_document_of_reference_results_is_current() -> None:
    text = reference_results.DOCUMENT.read_text(encoding="utf-8")
    assert reference_results.document() == text, "run python -m scripts.reference_results"


@pytest.mark.parametrize("package", ["audit", "models", "pipeline", "training"])
def test_every_module_stands_in_the_architecture(package: str) -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    table = text.partition(f"| module of `{package}` |")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| (`[^|]+) \|", table, re.MULTILINE)
    named = {name.rstrip("/") for row in rows for name in re.findall(r"`([\w/]+)`", row)}
    folder = ROOT / "faceaudit" / package
    modules = {path.stem for path in folder.glob("*.py")} | {
        path.parent.name for path in folder.glob("*/__init__.py")
    }
    assert named == modules - {"__init__"}


def test_what_the_readme_says_of_the_bundle_is_what_its_card_says() -> None:
    bundle = load_bundle("fairface")
    card = bundle.card
    text = " ".join(readme.README.read_text(encoding="utf-8").split())
    assert "in several steps of which `faceaudit train fairface` is the first" in text
    training = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    steps = training.partition("## How the two bundles were made")[2].partition("## ")[0]
    last = card["recipe"]
    (stage,) = last["stages"]
    assert (stage["epochs"], stage["size"]) == (6, 128)
    assert "Six epochs at 128 pixels" in steps
    rates = (last["learning_rate"], last["trunk_learning_rate"], last["distillation"]["weight"])
    assert rates == (1.5e-3, 1e-3, 0.5)
    assert "at rates of 1.5e-3 and 1e-3" in steps
    assert f"at {bundle.input.size} pixels" in text
    assert [one["bundle"] for one in (card["start"], *card["teachers"])] == ["fairface"] * 3
    assert card["teachers"][0]["sha256"] == card["start"]["sha256"]
    assert {one["licence"] for one in card["teachers"]} == {bundle.licence}
    assert card["backbone"].replace("_", "-") in text.lower()
    assert card["weights"].startswith("imagenet")
    assert card["weights_licence"] in text


def test_the_steps_to_the_bundle_that_ships_name_every_script_that_reads_it() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    steps = text.partition("## Training the bundle that ships")[2]
    checked = [
        path.stem
        for path in sorted((ROOT / "scripts").glob("*.py"))
        if re.search(r"--check|rewrite\(", path.read_text(encoding="utf-8"))
    ]
    assert checked
    assert [name for name in checked if f"scripts.{name}" not in steps] == []
    for name in ("quantize", "distillation", "make_showcase", "recipes/fairface.toml"):
        assert name in steps
    title = "How the two bundles were made"
    assert f"## {title}" in (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    recipe = ROOT / "faceaudit" / "training" / "recipes" / "fairface.toml"
    assert title in recipe.read_text(encoding="utf-8")


@pytest.mark.parametrize("command", cli.app.registered_commands, ids=lambda c: c.callback.__name__)
def test_every_command_has_the_common_options(command: CommandInfo) -> None:
    assert command.callback is not None
    options = set(inspect.signature(command.callback).parameters)
    assert {"quiet", "verbose", "log_format"} <= options


def test_the_columns_and_status_values_of_a_table_are_all_described() -> None:
    text = (ROOT / "docs" / "table.md").read_text(encoding="utf-8")
    for field in BASE_FIELDS:
        assert f"`{field.name}`" in text, field.name
    for status, meaning in STATUSES.items():
        meaning = meaning.replace("--max-pixels", "`--max-pixels`")
        assert f"| `{status}` | {meaning} |" in text
    for known in FORMATS:
        assert known.name in text, known.name
