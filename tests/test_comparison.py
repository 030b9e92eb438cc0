"""Recipes compared at equal cost: what is shared is made once, and what is said is what was measured."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from tests.examples import write_documents, write_queries

import corpusmith
from corpusmith.artefact import read_manifest
from corpusmith.errors import EvaluationError, RecipeError
from corpusmith.pipeline.chain import Silent
from corpusmith.pipeline.comparison import Comparison, at_budget, compare, named_recipes
from corpusmith.recipe import Recipe, parse_recipe
from corpusmith.report.base import ComparisonSummary
from corpusmith.training.budget import BudgetConfig, parse_budget

TRAINING = {"batch_tokens": 512, "evaluations": 0, "keep_best": False, "max_epochs": 100, "learning_rate": 1e-3}
PLAIN = {"objective": {"kind": "masked_language"}, "training": TRAINING}
RETROMAE = {"objective": {"kind": "retromae"}, "training": TRAINING}
PAIRS = {"objective": {"kind": "contrastive"}, "training": TRAINING}
BUDGET = "4e9 flops"


def recipe(base: Path, *stages: dict, **options: object) -> Recipe:
    content = {
        "model": {"base": str(base)},
        "pairs": {"per_document": 2, "candidates": 4, "depth": 20},
        "heldout": {"share": 0.5},
        "stages": list(stages),
        **options,
    }
    return parse_recipe(content, "test")


@pytest.fixture(scope="module")
def documents(sentences: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BEIR folder: 100 documents of five sentences, 70 judged train and 20 test queries."""
    folder = tmp_path_factory.mktemp("documents")

    def title(i: int) -> str:
        return f"Notes on {sentences[i % 24].split()[1]} and case {i}"

    write_documents(folder / "corpus.jsonl", sentences, 100, title)
    write_queries(folder, {"train": 70, "test": 20}, lambda i: f"number {i} case")
    return folder


@pytest.fixture(scope="module")
def compared(base_model: Path, documents: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("compared") / "out"
    recipes = {"plain": recipe(base_model, PLAIN), "retromae": recipe(base_model, RETROMAE)}
    compare(documents, recipes=recipes, budget=BUDGET, out=out, seeds=2)
    return out


def summary_of(out: Path) -> ComparisonSummary:
    return json.loads((out / "compare.json").read_text())


def steps(out: Path, name: str) -> list[Path]:
    return sorted((out / "steps").glob(f"{name}-*"))


def test_what_runs_have_in_common_is_made_once(compared: Path) -> None:
    for name in ("corpus", "tokens", "heldout", "lexical", "base"):
        assert len(steps(compared, name)) == 1, name
    assert len(steps(compared, "stage-1")) == len(steps(compared, "trained")) == 4
    assert len(steps(compared, "measures")) == 5  # and the start
    assert not list(compared.rglob("checkpoints"))


def test_recipes_spend_the_same(compared: Path) -> None:
    plain, retromae = summary_of(compared)["recipes"]
    for entry in (plain, retromae):
        assert entry["flops"] == pytest.approx(4e9, rel=0.1)
    assert plain["tokens"] > 1.2 * retromae["tokens"]
    assert not [note for note in summary_of(compared)["notes"] if "100%" in note]


def test_scores_are_averaged_over_seeds_before_recipes_are_compared(compared: Path) -> None:
    summary = summary_of(compared)
    dense, fused = summary["evaluations"]
    assert (dense["queries"], dense["seeds"], dense["baseline"]) == (20, 2, "plain")
    assert dense["systems"][0]["name"] == "BM25"
    per_query = {name: np.array(values) for name, values in summary["per_query"]["dense"].items()}
    assert per_query["plain"].shape == (2, 20)
    assert np.any(per_query["plain"][0] != per_query["plain"][1])
    (comparison,) = dense["comparisons"]
    difference = per_query["retromae"].mean(axis=0) - per_query["plain"].mean(axis=0)
    assert comparison["difference"] == pytest.approx(difference.mean(), abs=1e-5)
    assert comparison["low"] <= comparison["difference"] <= comparison["high"]
    assert summary["recipes"][0]["by_seed"]["dense"] == pytest.approx(
        per_query["plain"].mean(axis=1).tolist(), abs=1e-5
    )
    spread = summary["recipes"][0]["spread"]["dense"]
    assert spread == pytest.approx(per_query["plain"].mean(axis=1).std(ddof=1), abs=1e-5)
    assert fused["systems"][-1]["key"] == "retromae"


def test_the_markdown_holds_every_recipe_with_its_effect(compared: Path) -> None:
    text = (compared / "compare.md").read_text()
    assert "| retromae |" in text
    assert "against the first recipe" in text
    assert "4.00e+09 FLOPs" in text


def test_the_same_comparison_does_nothing_twice(compared: Path, base_model: Path, documents: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in compared.rglob("manifest.json")}
    first = summary_of(compared)
    recipes = {"plain": recipe(base_model, PLAIN), "retromae": recipe(base_model, RETROMAE)}
    again = compare(documents, recipes=recipes, budget=BUDGET, out=compared, seeds=2).summary
    assert {path: path.stat().st_mtime_ns for path in compared.rglob("manifest.json")} == before
    assert again["per_query"] == first["per_query"]


class Interrupting(Silent):
    """Ends everything when a step begins for the second time."""

    def __init__(self, step: str) -> None:
        self.step, self.begun = step, 0

    def start(self, step: str, note: str, *, reused: bool) -> None:
        self.begun += step == self.step
        if self.begun == 2:
            raise KeyboardInterrupt


def test_an_interrupted_comparison_goes_on_to_the_same_figures(
    compared: Path, base_model: Path, documents: Path, tmp_path: Path
) -> None:
    recipes = {"plain": recipe(base_model, PLAIN), "retromae": recipe(base_model, RETROMAE)}
    whole = {"recipes": recipes, "budget": BUDGET, "out": tmp_path / "out", "seeds": 2}
    with pytest.raises(KeyboardInterrupt):
        compare(documents, **whole, watcher=Interrupting("trained"))
    made = {path.name for path in (tmp_path / "out" / "steps").iterdir() if not path.name.startswith(".")}
    assert made
    assert made < {path.name for path in (compared / "steps").iterdir()}
    assert compare(documents, **whole).summary["per_query"] == summary_of(compared)["per_query"]


def test_a_stage_behind_another_leaves_that_one_as_it_is(
    compared: Path, base_model: Path, documents: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(compared, out)
    tuned = PAIRS | {"budget": {"flops": 2e9}}
    labels = {"pairs": {"source": "labels", "candidates": 4, "depth": 20}}
    recipes = {
        "plain": recipe(base_model, PLAIN, tuned, **labels),
        "retromae": recipe(base_model, RETROMAE, tuned, **labels),
    }
    summary = compare(documents, recipes=recipes, budget=BUDGET, out=out, seeds=1).summary
    assert [path.name for path in steps(out, "stage-1")] == [path.name for path in steps(compared, "stage-1")]
    assert len(steps(out, "stage-2")) == 2
    assert summary["recipes"][0]["flops"] == pytest.approx(6e9, rel=0.1)
    assert not summary["notes"]


def test_the_untrained_model_is_a_recipe_too(base_model: Path, documents: Path, tmp_path: Path) -> None:
    recipes = {"start": recipe(base_model), "plain": recipe(base_model, PLAIN), "pairs": recipe(base_model, PAIRS)}
    summary = compare(
        documents, recipes=recipes, budget=BUDGET, out=tmp_path / "out", seeds=1, split="held-out"
    ).summary
    assert summary["evaluations"][0]["name"].startswith("held-out report")
    assert summary["recipes"][0]["steps"] == 0
    assert summary["recipes"][0]["spread"]["dense"] is None
    assert [note for note in summary["notes"] if "people's questions" in note and note.startswith("pairs trains on")]


def test_examples_that_are_used_up_are_no_equal_cost_and_said_so(
    base_model: Path, documents: Path, tmp_path: Path
) -> None:
    short = PLAIN | {"training": TRAINING | {"max_epochs": 1}}
    recipes = {"plain": recipe(base_model, PLAIN), "short": recipe(base_model, short)}
    notes = compare(documents, recipes=recipes, budget="2e10 flops", out=tmp_path / "out", seeds=1).summary["notes"]
    assert any(note.startswith("short spent ") and "max_epochs" in note for note in notes)


def test_seeds_train_differently_and_share_the_rest(base_model: Path) -> None:
    first, second = (
        at_budget(recipe(base_model, PLAIN, RETROMAE, seed=5), BudgetConfig(tokens=100), s) for s in (0, 1)
    )
    assert first.seed == second.seed == 5
    assert [stage.seed for stage in second.stages] == [6, 6]
    assert [stage.budget for stage in first.stages] == [BudgetConfig(tokens=50)] * 2


@pytest.mark.parametrize(
    ("second", "options", "sentence"),
    [
        ({"corpus": {"passage_words": 90}}, {}, "another corpus than first"),
        ({"seed": 3}, {}, "another seed than first"),
        ({}, {"split": "dev"}, r"no qrels/dev\.tsv \(there are: test, train\)"),
        ({"pairs": {"source": "labels"}}, {"split": "train"}, "second trains on the queries of the split 'train'"),
        ({}, {"seeds": 0}, "two recipes or more"),
        ({}, {"budget": "5 parsecs"}, "no budget: '5 parsecs'"),
    ],
)
def test_what_cannot_be_compared_is_one_sentence(
    second: dict, options: dict, sentence: str, base_model: Path, documents: Path, tmp_path: Path
) -> None:
    recipes = {"first": recipe(base_model, PAIRS), "second": recipe(base_model, PAIRS, **second)}
    with pytest.raises(RecipeError, match=sentence):
        compare(documents, recipes=recipes, out=tmp_path / "out", **{"budget": BUDGET, "seeds": 1, **options})
    assert not (tmp_path / "out").exists()


def test_recipes_without_training_are_nothing_to_compare(base_model: Path, documents: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="nothing to compare"):
        Comparison([documents], {"a": recipe(base_model), "b": recipe(base_model)}, parse_budget(BUDGET), tmp_path, [0])


def test_a_corpus_of_too_few_held_out_queries_is_one_sentence(base_model: Path, notes: Path, tmp_path: Path) -> None:
    recipes = {"a": recipe(base_model, PLAIN), "b": recipe(base_model, RETROMAE)}
    with pytest.raises(EvaluationError, match="held-out queries, fewer than the 20"):
        compare(notes / "corpus.jsonl", recipes=recipes, budget=BUDGET, out=tmp_path / "out")
    assert not steps(tmp_path / "out", "stage-1")


def test_recipes_are_called_by_their_files_or_presets(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.toml").write_text("")
    paths = [str(tmp_path / folder / "x.toml") for folder in ("a", "b")]
    assert list(named_recipes([paths[0], "default"])) == ["x", "default"]
    assert list(named_recipes(paths)) == paths
    with pytest.raises(RecipeError, match="two of the recipes are called 'default'"):
        named_recipes(["default", "default"])


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("5 minutes", BudgetConfig(minutes=5)),
        ("1 minute", BudgetConfig(minutes=1)),
        ("2e6 tokens", BudgetConfig(tokens=2_000_000)),
        ("30e15 FLOPs", BudgetConfig(flops=3e16)),
        ("1,000  tokens", BudgetConfig(tokens=1000)),
    ],
)
def test_a_budget_is_read_as_people_write_it(text: str, budget: BudgetConfig) -> None:
    assert parse_budget(text) == budget


@pytest.mark.parametrize("text", ["", "5", "minutes", "-1 minutes", "0 tokens", "nan flops", "inf tokens", "5 hours"])
def test_what_is_no_budget_is_refused(text: str) -> None:
    with pytest.raises(RecipeError, match="'5 minutes', '2e6 tokens' or '5e13 flops'"):
        parse_budget(text)


def test_the_chain_of_a_run_is_whole(compared: Path) -> None:
    (corpus,) = steps(compared, "corpus")
    for stage in steps(compared, "stage-1"):
        manifest = read_manifest(stage)
        assert set(manifest.parents) == {"tokens", "heldout", "base"}
        assert manifest.seed == read_manifest(corpus).seed == 0


def test_compare_is_exported() -> None:
    assert corpusmith.compare is compare
