"""Builds whose training begins with another vocabulary or another shape than the base's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.test_pipeline import STAGE, digests, recipe_for

from corpusmith.artefact import read_manifest
from corpusmith.errors import ModelError, RecipeError
from corpusmith.model.huggingface import load_checkpoint
from corpusmith.pipeline import build
from corpusmith.pipeline.plan import make_plan
from corpusmith.pipeline.settle import decide_growth, decide_vocabulary, settle, wanted_shape
from corpusmith.recipe import parse_recipe, read_recipe
from corpusmith.search import load
from corpusmith.vocabulary.config import AutoConfig

REPLACED = {"vocabulary": {"kind": "replace", "size": 400}, "transfer": {"kind": "subword"}}


@pytest.mark.parametrize(
    "vocabulary", [{"kind": "extend", "pieces": 30, "minimum_count": 2}, {"kind": "replace", "size": 400}]
)
def test_a_model_over_another_vocabulary_is_trained_and_searches(
    base_model: Path, documents: Path, tmp_path: Path, vocabulary: dict
) -> None:
    from sentence_transformers import SentenceTransformer

    start = {"vocabulary": vocabulary, "transfer": {"kind": "subword"}}
    result = build(documents, recipe=recipe_for(base_model, start=start), out=tmp_path / "out")
    base, model = load_checkpoint(base_model), load_checkpoint(tmp_path / "out" / "model")
    assert model.tokenizer.size == model.encoder.config.vocabulary_size != base.tokenizer.size
    facts = read_manifest(tmp_path / "out" / "steps" / "vocabulary").facts
    assert facts["entries"] == model.tokenizer.size
    assert facts["tokens_saved"] > 0
    done = "extended" if vocabulary["kind"] == "extend" else "replaced"
    verdict = " ".join(result.summary["verdict"])
    assert f"the adapted model alone ({done} vocabulary, trained) scores " in verdict
    assert f"The {done} vocabulary cuts the documents into {facts['tokens_saved']:.1%} fewer tokens than" in verdict
    searcher = load(tmp_path / "out")
    assert searcher.search("blood pressure", k=3)
    exported = SentenceTransformer(str(tmp_path / "out" / "model"), device="cpu")
    np.testing.assert_allclose(exported.encode(["blood"]), searcher.encode(["blood"]), atol=2e-2)  # bf16, perhaps


def test_a_grown_model_is_trained_and_searches(base_model: Path, documents: Path, tmp_path: Path) -> None:
    start = {"layers": 4, "hidden_size": 64, "growth": [{"kind": "fpi"}, {"kind": "stack"}]}
    result = build(documents, recipe=recipe_for(base_model, start=start), out=tmp_path / "out")
    assert any("alone (shape L4-H64, trained) scores " in sentence for sentence in result.summary["verdict"])
    config = load_checkpoint(tmp_path / "out" / "model").encoder.config
    assert (config.layers, config.hidden_size, config.intermediate_size) == (4, 64, 128)
    assert load(tmp_path / "out").search("blood pressure", k=3)


def test_a_learned_operator_is_charged_for_what_it_learns_from(
    base_model: Path, documents: Path, tmp_path: Path
) -> None:
    start = REPLACED | {"layers": 4, "growth": [{"kind": "ligo", "steps": 2}]}
    build(documents, recipe=recipe_for(base_model, start=start), out=tmp_path / "out")
    grown = read_manifest(tmp_path / "out" / "steps" / "growth")
    assert grown.cost["flops"] > 0
    assert grown.facts["layers"] == 4


def test_a_second_build_makes_nothing_again(base_model: Path, documents: Path, tmp_path: Path) -> None:
    recipe = recipe_for(base_model, start=REPLACED | {"layers": 4, "growth": [{"kind": "stack"}]})
    build(documents, recipe=recipe, out=tmp_path / "out")
    before = digests(tmp_path / "out")
    build(documents, recipe=recipe, out=tmp_path / "out")
    assert digests(tmp_path / "out") == before
    assert all(step["reused"] for step in make_plan([documents], recipe, tmp_path / "out"))


def test_stages_after_the_first_keep_the_vocabulary(base_model: Path, documents: Path, tmp_path: Path) -> None:
    masked = {"objective": {"kind": "masked_language"}, "training": {"batch_tokens": 1024, "evaluations": 0}}
    recipe = recipe_for(base_model, stages=[masked, STAGE], start=REPLACED)
    build(documents, recipe=recipe, out=tmp_path / "out")
    sizes = {load_checkpoint(tmp_path / "out" / "steps" / f"stage-{i}" / "model").tokenizer.size for i in (1, 2)}
    assert sizes == {load_checkpoint(tmp_path / "out" / "model").tokenizer.size}


def test_what_is_left_open_is_decided_by_the_documents_and_written_down(
    base_model: Path, documents: Path, tmp_path: Path
) -> None:
    recipe = recipe_for(base_model, start="auto")
    assert recipe.start.is_open
    settled = settle(recipe, [documents])
    assert not settled.start.is_open
    assert "tokens a word" in settled.start.reason
    result = build(documents, recipe=recipe, out=tmp_path / "out")
    assert read_recipe(tmp_path / "out" / "recipe.toml") == settled
    assert any(settled.start.reason in sentence for sentence in result.summary["verdict"])


def test_a_vocabulary_of_another_language_is_replaced_and_a_familiar_one_kept(
    documents: Path, sentences: list[str], tmp_path: Path
) -> None:
    minilm = load_checkpoint("all-MiniLM-L6-v2")
    recipe = parse_recipe({"stages": [STAGE], "start": "auto"}, "test")
    words = ["Rechtsverordnung", "Bundesministerium", "Zustimmung", "Geltungsbereich", "Vorschriften", "Anwendung"]
    rng = np.random.default_rng(0)
    (tmp_path / "laws.txt").write_text("\n\n".join(" ".join(rng.choice(words, 40)) for _ in range(200)))
    (tmp_path / "plain.txt").write_text("\n\n".join(["This is what the people say when they have the time."] * 200))
    chosen = {
        name: decide_vocabulary(AutoConfig(), recipe, [tmp_path / f"{name}.txt"], minilm)[0].kind
        for name in ("laws", "plain")
    }
    assert chosen == {"laws": "replace", "plain": "keep"}


@pytest.mark.parametrize(
    ("wanted", "kinds"),
    [
        ({}, ()),
        ({"layers": 3}, ("identity",)),
        ({"layers": 1}, ("choose_layers",)),
        ({"hidden_size": 64}, ("fpi",)),
        ({"hidden_size": 16, "layers": 4}, ("slice_width", "identity")),
        ({"hidden_size": 64, "layers": 1}, ("choose_layers", "fpi")),
    ],
)
def test_operators_follow_from_the_two_shapes(base_model: Path, wanted: dict, kinds: tuple[str, ...]) -> None:
    config = load_checkpoint(base_model).encoder.config
    start = recipe_for(base_model, start={"growth": "auto"} | wanted).start
    assert tuple(options.kind for options in decide_growth(config, wanted_shape(config, start))) == kinds


@pytest.mark.parametrize(
    ("start", "said"),
    [
        ({"layers": 4}, "no operator makes it"),
        ({"growth": [{"kind": "stack"}]}, "no other shape"),
        ({"vocabulary": {"kind": "extended"}}, "did you mean 'extend'"),
        ({"vocabulary": {"kind": "replace", "sizes": 3}}, "did you mean 'size'"),
    ],
)
def test_a_start_that_makes_no_sense_is_refused(base_model: Path, start: dict, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        recipe_for(base_model, start=start)


def test_a_changed_base_wants_a_stage(base_model: Path) -> None:
    with pytest.raises(RecipeError, match="no stage trains it"):
        recipe_for(base_model, stages=False, start=REPLACED)


@pytest.mark.parametrize(
    ("start", "said"),
    [
        ({"layers": 4, "hidden_size": 64, "growth": [{"kind": "stack"}]}, "add an operator that changes it"),
        ({"layers": 4, "growth": [{"kind": "stack"}, {"kind": "stack"}]}, "nothing to change"),
        ({"layers": 5, "growth": [{"kind": "stack"}]}, "multiple of 2"),
    ],
)
def test_operators_that_do_not_make_the_shape_are_named(
    base_model: Path, documents: Path, tmp_path: Path, start: dict, said: str
) -> None:
    with pytest.raises((RecipeError, ModelError), match=said):
        build(documents, recipe=recipe_for(base_model, start=start), out=tmp_path / "out")
