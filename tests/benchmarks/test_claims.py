"""The claims harness on a corpus and a model made on the spot, and the page that is written from its results."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from benchmarks.claims import objectives, table
from benchmarks.claims.objectives import Form, Harness, cut_collection, fresh_model, mechanics_of
from benchmarks.claims.table import CLAIMS, Claim, citation_of, source_of, verdict
from tests.examples import ROOT, load_script, write_documents, write_queries

from corpusmith.growth.registry import GROWTH
from corpusmith.model.huggingface import load_checkpoint
from corpusmith.objective.registry import OBJECTIVES
from corpusmith.objective.starbucks import spread
from corpusmith.vocabulary.transfer.registry import TRANSFERS

WITHOUT_CLAIM = {"reranking", "pretrained_distillation", "self_attention_distillation"}
"""Kinds that serve other claims and have none of their own: what a student learns from its teacher is no matter of one
start for all."""


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """scripts/systems.py."""
    return load_script("systems")


@pytest.fixture(scope="module")
def data(sentences: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with one collection: 90 documents, 70 train and 15 test queries."""
    folder = tmp_path_factory.mktemp("data")
    collection = folder / "retrieval" / "tiny"
    collection.mkdir(parents=True)
    write_documents(collection / "corpus.jsonl", sentences, 90, "Notes and case {}".format, drawn=4)
    write_queries(collection, {"train": 70, "test": 15}, lambda i: f"number {i} case")
    return folder


TINY = Form("quick", ("tiny",), ("tiny",), None, 2, 3e9, 2e9, 10)


@pytest.fixture(scope="module")
def harness(data: Path, base_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Harness:
    work = tmp_path_factory.mktemp("work")
    recipe = {"pairs": {"per_document": 2, "candidates": 4, "depth": 20}}
    return Harness(data, work, TINY, str(base_model), work / "results", recipe)


def claim(name: str) -> Claim:
    return next(entry for entry in CLAIMS if entry.name == name)


@pytest.fixture(scope="module")
def measured(harness: Harness) -> dict:
    return harness.measure(claim("retromae"))


def test_the_verdict_follows_from_the_interval_alone() -> None:
    assert verdict(0.001, 0.2) == "confirmed here"
    assert verdict(-0.2, -0.001) == "contradicted here"
    assert verdict(-0.1, 0.2) == verdict(0.0, 0.2) == "not distinguishable here"


def test_every_objective_has_a_claim() -> None:
    assert {entry.kind for entry in CLAIMS} | WITHOUT_CLAIM >= set(OBJECTIVES)


@pytest.mark.parametrize("registry", [OBJECTIVES, TRANSFERS, GROWTH])
def test_every_method_has_a_file_that_cites_its_paper(registry: dict[str, tuple[str, str]]) -> None:
    for kind, (module, _) in registry.items():
        assert (ROOT / source_of(module)).is_file()
        assert "20" in citation_of(module), kind


def test_names_of_claims_differ() -> None:
    assert len({entry.name for entry in CLAIMS}) == len(CLAIMS)


def test_a_claim_on_what_is_not_there_is_left_out_with_the_reason() -> None:
    missing = Claim("x", "", {"kind": "matryoshka", "objective": {"kind": "telepathy"}}, None)
    assert "telepathy" in missing.hindrance()
    assert "depth_of_thought" in Claim("x", "", {"kind": "retromae", "depth_of_thought": 3}, None).hindrance()
    assert not claim("retromae").hindrance()


def test_a_claim_is_measured_in_both_settings_at_equal_compute(measured: dict) -> None:
    assert set(measured["results"]) == {"zero-shot", "fine-tuned"}
    for setting, flops in (("zero-shot", 3e9), ("fine-tuned", 5e9)):
        found = measured["results"][setting]
        entry = found["collections"]["tiny"]
        assert entry["queries"] == 15
        for cost in entry["cost"].values():
            assert cost["flops"] == pytest.approx(flops, rel=0.3)
        pooled, single = found["pooled"]["dense"], entry["ways"]["dense"]
        assert pooled["difference"] == pytest.approx(single["difference"])
        assert single["difference"] == pytest.approx(np.mean(single["by_seed"]), abs=1e-4)
        assert len(single["by_seed"]) == 2
    decided = measured["results"]["fine-tuned"]["pooled"]["dense"]
    assert measured["verdict"] == verdict(decided["low"], decided["high"])
    assert {"own_vector_loss", "others_vector_loss", "holds"} <= set(measured["mechanics"])


def test_a_claim_that_was_measured_with_these_settings_is_not_measured_again(harness: Harness, measured: dict) -> None:
    assert harness.is_done(claim("retromae"))
    assert not harness.is_done(claim("masked_language"))
    others = Harness(harness.data, harness.work, TINY, "another", harness.results, harness.recipe)
    assert not others.is_done(claim("retromae"))
    written = json.loads((harness.results / "retromae.json").read_text())
    assert written["parts"][harness.part]["settings"] == json.loads(json.dumps(measured["settings"]))


def test_the_page_shows_what_was_measured(
    script: ModuleType, harness: Harness, measured: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table, "RESULTS", harness.results)
    page = script.page()
    assert f"| **{measured['verdict']}** |" in page
    assert f"{measured['decided_by']['difference']:+.4f}" in page
    assert "src/corpusmith/objective/retromae.py" in page
    assert f"| [masked_language](#masked_language) | the start | zero-shot |  | {script.NOT_MEASURED} |" in page


def test_the_page_in_docs_is_the_one_that_the_results_give(script: ModuleType) -> None:
    assert script.PAGE.read_text(encoding="utf-8") == script.page(), "look at it, then: make docs"


def test_an_objective_on_pairs_is_fine_tuned_on_the_judged_ones(harness: Harness) -> None:
    entry = claim("contrastive")
    zero = harness.recipe_of(entry, entry.objective, "zero-shot", {})
    tuned = harness.recipe_of(entry, entry.objective, "fine-tuned", {})
    assert (zero.pairs.source, len(zero.stages)) == ("corpus", 1)
    assert (tuned.pairs.source, len(tuned.stages)) == ("labels", 1)
    assert harness.recipe_of(entry, None, "fine-tuned", {}).stages == ()
    plain = claim("masked_language")
    kinds = [stage.objective.kind for stage in harness.recipe_of(plain, plain.objective, "fine-tuned", {}).stages]
    assert kinds == ["masked_language", "contrastive"]


@pytest.mark.parametrize("name", ["contrastive", "masked_language"])
def test_mechanical_checks_answer_after_training(name: str, harness: Harness) -> None:
    found = harness.mechanics(claim(name))
    assert isinstance(found["holds"], bool)
    assert all(np.isfinite(value) for value in found.values())


def test_every_mechanical_check_belongs_to_a_claim() -> None:
    folder = ROOT / "benchmarks" / "claims" / "mechanics"
    checks = {mechanics_of(entry).rpartition(".")[2] for entry in CLAIMS} - {""} | WITHOUT_CLAIM
    helpers = {path.stem for path in folder.glob("*.py") if "def check(" not in path.read_text()}
    assert {path.stem for path in folder.glob("*.py")} <= checks | helpers


def test_models_cut_to_sizes_are_measured(harness: Harness) -> None:
    found = harness.measure(claim("matryoshka"))
    ways = found["results"]["zero-shot"]["collections"]["tiny"]["ways"]
    assert next(iter(ways)) == found["decided_by"]["way"] == "mean of the cut sizes"
    assert "1 layers, 8 dimensions" in ways


def test_starbucks_is_measured_at_the_sizes_that_it_trains() -> None:
    measured = [(round(6 * layers), round(384 * width)) for layers, width in claim("starbucks").sizes]
    assert measured[::-1] == spread(6, 384)


def test_rerankers_are_measured_by_the_order_they_give(harness: Harness) -> None:
    found = harness.measure(claim("prop"))
    assert set(found["results"]) == {"fine-tuned"}
    assert found["decided_by"]["way"] == "reranked"


def test_the_product_of_scores_is_set_against_the_better_of_the_two(harness: Harness) -> None:
    found = harness.measure(claim("lexicon"))
    assert found["decided_by"]["way"] == "product"


def test_a_cut_collection_keeps_what_queries_ask_for(data: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    shutil.copytree(data / "retrieval" / "tiny", whole)
    cut_collection(whole, tmp_path / "cut", 87)
    kept = [json.loads(line)["_id"] for line in (tmp_path / "cut" / "corpus.jsonl").open()]
    assert len(kept) == 87
    assert {f"d{i}" for i in range(85)} <= set(kept)
    assert (tmp_path / "cut" / "qrels" / "test.tsv").is_file()


def test_a_fresh_start_is_a_model_of_random_weights(
    base_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objectives, "BASE", str(base_model))
    monkeypatch.setattr(objectives, "FRESH", {"hidden_size": 16, "layers": 1, "heads": 2, "intermediate_size": 32})
    fresh_model(tmp_path / "fresh")
    fresh, base = load_checkpoint(tmp_path / "fresh"), load_checkpoint(base_model)
    assert fresh.tokenizer.fingerprint == base.tokenizer.fingerprint
    assert fresh.encoder.config.layers == 1
