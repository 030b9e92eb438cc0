"""The pages under docs/ say what is so: generated parts are current, code blocks run, recipes are valid, links lead
somewhere."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from types import ModuleType
from typing import get_args

import pytest
from tests.examples import ROOT, load_script

from corpusmith.artefact import FORMAT
from corpusmith.cli import app
from corpusmith.growth.registry import GROWTH
from corpusmith.objective.registry import OBJECTIVES, ObjectiveConfig
from corpusmith.recipe import parse_recipe, presets
from corpusmith.vocabulary.transfer.registry import TRANSFERS

PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    """scripts/reference.py."""
    return load_script("reference")


def blocks(page: str, language: str) -> list[str]:
    """The fenced code blocks of a page in this language, a regular expression."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def command_names() -> set[str]:
    """All commands of the command line."""
    return {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}


def test_the_recipes_schema_is_the_one_that_its_reference_shows(reference: ModuleType) -> None:
    page = (ROOT / "docs" / "recipe.md").read_text(encoding="utf-8")
    assert reference.replace_generated(page, reference.recipe_reference()) == page, "look at it, then: make docs"


def test_commands_and_their_options_are_those_that_the_reference_shows(reference: ModuleType) -> None:
    page = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    assert reference.replace_generated(page, reference.command_reference()) == page, "look at it, then: make docs"


def test_the_reference_explains_every_option_and_every_command(reference: ModuleType) -> None:
    rows = [line.split(" | ") for line in reference.recipe_reference().splitlines() if line.startswith("| `")]
    assert len(rows) > 50
    assert not [row[0] for row in rows if len(row[-1].strip(" |")) < 5]
    assert set(re.findall(r"^## (\S+)$", reference.command_reference(), re.MULTILINE)) == command_names()


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_commands_that_a_page_names_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    fenced = "".join(blocks(str(page.relative_to(ROOT)), r"\w*"))
    named = re.findall(r"^(?:\$ )?corpusmith (\w+)", fenced, re.MULTILINE) + re.findall(r"`corpusmith\s+(\w+)", text)
    assert set(named) <= command_names()


def test_every_kind_of_objective_has_options_and_a_row_in_the_table_of_kinds() -> None:
    kinds = {config.model_fields["kind"].default for config in get_args(get_args(ObjectiveConfig)[0])}
    assert kinds == set(OBJECTIVES)
    table = (ROOT / "docs" / "recipe.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(\w+)` \|[^|]+\|[^|]+\|$", table, re.MULTILINE)) >= kinds


def test_the_recipe_on_the_recipe_page_is_valid() -> None:
    (recipe,) = blocks("docs/recipe.md", "toml")
    assert parse_recipe(tomllib.loads(recipe), "docs/recipe.md").stages[0].objective.kind == "retromae"


def test_the_recipe_on_the_page_of_starts_is_valid() -> None:
    (recipe,) = blocks("docs/starts.md", "toml")
    start = parse_recipe(tomllib.loads(recipe), "docs/starts.md").start
    assert start.changes_vocabulary
    assert start.changes_shape


def test_every_kind_of_start_has_a_row_on_its_page() -> None:
    page = (ROOT / "docs" / "starts.md").read_text(encoding="utf-8")
    kinds = set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))
    assert kinds - {"kind"} == {*GROWTH, *TRANSFERS}


def test_every_preset_is_listed_on_the_recipe_page() -> None:
    page = (ROOT / "docs" / "recipe.md").read_text(encoding="utf-8")
    for name, recipe in presets().items():
        assert f"{name:<12} {recipe.description}" in page


def test_the_worked_objective_trains(tiny_data, tiny_checkpoint, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    namespace = {"data": tiny_data, "checkpoint": tiny_checkpoint(), "folder": folder}
    for block in blocks("docs/objectives.md", "python"):
        exec(compile(block, "docs/objectives.md", "exec"), namespace)
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
    assert all(0 <= line["accuracy"] <= 1 for line in lines if "loss" in line)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if not target.startswith(("http://", "https://")):
            name, _, heading = target.partition("#")
            linked = page.parent / name if name else page
            assert linked.exists(), target
            assert not heading or heading in headings(linked), target


def headings(page: Path) -> set[str]:
    """The anchors that a page's headings get on the usual hosts."""
    found = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_of_the_source_that_a_page_names_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for name in re.findall(r"`((?:src|tests|benchmarks|scripts|docs)/[\w/.-]+\.\w+)`", text):
        assert (ROOT / name).exists(), name
    for name in re.findall(
        r"`((?:corpus|evaluation|growth|index|model|objective|pipeline|report|retrieval|training|vocabulary)/[\w/]+\.py)`",
        text,
    ):
        assert (ROOT / "src" / "corpusmith" / name).exists(), name


def test_the_format_of_manifests_is_the_one_documented() -> None:
    assert f"| `format` | {FORMAT};" in (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
