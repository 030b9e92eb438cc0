"""Builds whose training begins with another vocabulary or another shape than the base's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.test_pipeline import STAGE, digests, recipe_for

from corpusmith.artefact import read_manifest
from corpusmith.errors import CorpusError, ModelError, RecipeError
from corpusmith.model.huggingface import load_checkpoint
from corpusmith.pipeline import build
from corpusmith.pipeline.chain import Silent
from corpusmith.pipeline.plan import make_plan
from corpusmith.pipeline.settle import (
    decide_growth,
    decide_vocabulary,
    learner_for,
    settle,
    settle_measured,
    shapes_on_the_way,
    wanted_shape,
)
from corpusmith.pipeline.vocabulary import survey_vocabulary
from corpusmith.recipe import parse_recipe, read_recipe, to_toml
from corpusmith.search import load
from corpusmith.vocabulary.config import AutoConfig, ExtendConfig, ReplaceConfig
from corpusmith.vocabulary.decide import decide
from corpusmith.vocabulary.make import make_tokenizer

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
    report = (tmp_path / "out" / "report.html").read_text()
    assert "The most improved words" in report
    assert f"{facts['fertility']['gains'][0]['fertility']['tokens_per_word']:.2f}</td>" in report
    done = "extended" if vocabulary["kind"] == "extend" else "replaced"
    verdict = " ".join(result.summary["verdict"])
    assert f"the adapted model alone ({done} vocabulary, trained) scores " in verdict
    assert f"The vocabulary has {facts['entries']} entries and cuts the passages into" in verdict
    searcher = load(tmp_path / "out")
    assert searcher.search("blood pressure", k=3)
    exported = SentenceTransformer(str(tmp_path / "out" / "model"), device="cpu")
    np.testing.assert_allclose(exported.encode(["blood"]), searcher.encode(["blood"]), atol=2e-2)  # bf16, perhaps


def test_a_start_that_nothing_was_trained_on_leaves_the_search_to_the_base(
    base_model: Path, documents: Path, tmp_path: Path
) -> None:
    start = REPLACED | {"hidden_size": 64, "growth": [{"kind": "fpi"}]}
    recipe = recipe_for(base_model, start=start, budget={"minutes": 0.1})
    result = build(documents, recipe=recipe, out=tmp_path / "out")
    assert "Model: base. Its new start was not trained, and is only a beginning." in result.summary["verdict"]
    base, model = load_checkpoint(base_model), load_checkpoint(tmp_path / "out" / "model")
    assert (model.tokenizer.size, model.encoder.config) == (base.tokenizer.size, base.encoder.config)
    assert load(tmp_path / "out").search("blood pressure", k=3)


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


def test_a_general_text_that_changed_is_read_again_and_one_that_is_gone_ends_the_plan(
    base_model: Path, documents: Path, sentences: list[str], tmp_path: Path
) -> None:
    general = tmp_path / "general.txt"
    general.write_text("\n\n".join(sentences))
    vocabulary = {"kind": "extend", "pieces": 5, "choose": "balanced", "general": str(general), "balanced_size": 600}
    transfer = {"kind": "wechsel", "general": str(general), "fewest": 1}
    recipe = recipe_for(base_model, start={"vocabulary": vocabulary, "transfer": transfer})
    build(documents, recipe=recipe, out=tmp_path / "out")

    def reused() -> set[str]:
        return {step["step"] for step in make_plan([documents], recipe, tmp_path / "out") if step["reused"]}

    assert "vocabulary" in reused()
    general.write_text("\n\n".join(sentences[:-2]))
    assert "vocabulary" not in reused()
    general.unlink()
    with pytest.raises(CorpusError, match=r"no such file or folder: .*general\.txt"):
        make_plan([documents], recipe, tmp_path / "out")


def test_a_vocabulary_that_needs_more_tokens_says_so(base_model: Path, documents: Path, tmp_path: Path) -> None:
    class Told(Silent):
        said = ""

        def say(self, text: str) -> None:
            self.said += text

    told, start = Told(), {"vocabulary": {"kind": "replace", "algorithm": "bytes"}, "transfer": {"kind": "mean"}}
    build(documents, recipe=recipe_for(base_model, start=start), out=tmp_path / "out", watcher=told)
    saved = read_manifest(tmp_path / "out" / "steps" / "vocabulary").facts["tokens_saved"]
    assert saved < 0
    assert f"261 entries need {-saved:.1%} more tokens for the corpus" in told.said


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
    assert "fewer than the 50,000 that new pieces" in settled.start.reason
    result = build(documents, recipe=recipe, out=tmp_path / "out")
    assert read_recipe(tmp_path / "out" / "recipe.toml") == settled
    assert any(settled.start.reason in sentence for sentence in result.summary["verdict"])


def test_a_shape_that_the_base_has_is_no_other_shape(base_model: Path, documents: Path, tmp_path: Path) -> None:
    settled = settle(recipe_for(base_model, start={"layers": 2, "hidden_size": 32, "growth": "auto"}), [documents])
    assert not settled.start.changes_shape
    assert settled.start.reason == "the base has the shape wanted"
    (tmp_path / "recipe.toml").write_text(to_toml(settled))
    assert read_recipe(tmp_path / "recipe.toml") == settled


def test_a_vocabulary_of_another_language_is_extended_and_a_familiar_one_kept(
    documents: Path, sentences: list[str], tmp_path: Path
) -> None:
    minilm = load_checkpoint("all-MiniLM-L6-v2")
    recipe = parse_recipe({"stages": [STAGE], "start": "auto"}, "test")
    words = ["Rechtsverordnung", "Bundesministerium", "Zustimmung", "Geltungsbereich", "Vorschriften", "Anwendung"]
    rng = np.random.default_rng(0)
    (tmp_path / "laws.txt").write_text("\n\n".join(" ".join(rng.choice(words, 40)) for _ in range(1500)))
    (tmp_path / "plain.txt").write_text("\n\n".join(["This is what the people say when they have the time."] * 5000))
    chosen = {
        name: decide_vocabulary(AutoConfig(), recipe, [tmp_path / f"{name}.txt"], minilm)[0].kind
        for name in ("laws", "plain")
    }
    assert chosen == {"laws": "extend", "plain": "keep"}


def test_a_corpus_too_small_to_learn_pieces_from_keeps_its_vocabulary(tmp_path: Path) -> None:
    minilm = load_checkpoint("all-MiniLM-L6-v2")
    recipe = parse_recipe({"stages": [STAGE], "start": "auto"}, "test")
    (tmp_path / "laws.txt").write_text("Die Rechtsverordnung bedarf der Zustimmung des Bundesministeriums.\n\n" * 10)
    options, reason = decide_vocabulary(AutoConfig(), recipe, [tmp_path / "laws.txt"], minilm)
    assert options.kind == "keep"
    assert "fewer than the 50,000" in reason


AMHARIC = "የሰው ልጅ ሁሉ ሲወለድ ነጻና በክብርና በመብትም እኩልነት ያለው ነው።"
"""The first sentence of the Universal Declaration of Human Rights."""


@pytest.mark.parametrize("lines", [40, 8000])
def test_a_script_that_the_base_has_never_seen_gets_a_byte_level_vocabulary(lines: int, tmp_path: Path) -> None:
    minilm = load_checkpoint("all-MiniLM-L6-v2")
    recipe = parse_recipe({"stages": [STAGE], "start": "auto"}, "test")
    (tmp_path / "rights.txt").write_text("\n\n".join([AMHARIC] * lines))
    options, reason = decide_vocabulary(AutoConfig(), recipe, [tmp_path / "rights.txt"], minilm)
    assert options == ReplaceConfig(algorithm="bpe")
    assert "100.0% of the words are unknown" in reason
    tokenizer = make_tokenizer(options, minilm.tokenizer, [AMHARIC] * 10, 0)
    (ids,) = tokenizer.encode([AMHARIC])
    assert tokenizer.unk not in ids
    assert tokenizer.decode(ids) == AMHARIC


def test_the_reason_gives_the_numbers_of_what_was_really_learned(tmp_path: Path) -> None:
    minilm = load_checkpoint("all-MiniLM-L6-v2")
    recipe = parse_recipe({"stages": [STAGE], "start": "auto", "corpus": {"passage_words": 400}}, "test")
    words = ["Rechtsverordnung", "Zustimmung", "the", "of", "and", "to", "in", "was", "is", "for", "he", "on"]
    rng = np.random.default_rng(0)
    (tmp_path / "mixed.txt").write_text("\n\n".join(" ".join(rng.choice(words, 40)) for _ in range(1500)))
    decision = decide(learner_for(AutoConfig(), recipe, [tmp_path / "mixed.txt"], minilm))
    assert decision.options.kind == "extend"
    assert f"{decision.new_rows} more pieces save" in decision.reason
    assert 2 <= decision.new_rows <= 10
    assert "of a passage of 400 words" in decision.reason
    assert "beyond the 254 tokens that the model reads, with the new vocabulary" in decision.reason
    assert decision.corpus_tokens == pytest.approx(1500 * 40 * (10 + 10) / 12, rel=0.5)


def test_the_command_and_a_build_measure_alike(documents: Path, base_model: Path) -> None:
    recipe = recipe_for(base_model, start="auto")
    _, decision = survey_vocabulary([documents], recipe, ExtendConfig(pieces=3), ReplaceConfig(size=300))
    assert decision == settle_measured(recipe, [documents]).decision


def test_a_large_corpus_is_not_taken_for_the_part_of_it_that_is_read(
    documents: Path, base_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("corpusmith.pipeline.settle.READ_CHARACTERS", 2000)
    base = load_checkpoint(base_model)
    sample = learner_for(AutoConfig(), recipe_for(base_model, start="auto"), [documents], base).sample
    assert sample.characters < 3000
    assert sample.total_characters == pytest.approx((documents / "notes.jsonl").stat().st_size, rel=0.1)


def test_of_a_large_corpus_no_more_is_counted_than_the_documents_that_are_wanted(
    documents: Path, base_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("corpusmith.pipeline.settle.READ_CHARACTERS", 1000)
    base = load_checkpoint(base_model)
    recipe = recipe_for(base_model, start="auto")
    whole, half = (
        learner_for(AutoConfig(), wanted, [documents], base).sample.total_characters
        for wanted in (recipe, recipe.with_overrides({"corpus.maximum_documents": 60}))
    )
    assert 0.3 * whole < half < 0.7 * whole


@pytest.mark.parametrize(
    ("wanted", "kinds"),
    [
        ({}, ()),
        ({"layers": 3}, ("identity",)),
        ({"layers": 1}, ("choose_layers",)),
        ({"hidden_size": 64}, ("fpi",)),
        ({"hidden_size": 16, "layers": 4}, ("slice_width", "identity")),
        ({"hidden_size": 64, "layers": 1}, ("choose_layers", "fpi")),
        ({"hidden_size": 16, "intermediate_size": 128}, ("slice_width", "fpi")),
    ],
)
def test_operators_follow_from_the_two_shapes(base_model: Path, wanted: dict, kinds: tuple[str, ...]) -> None:
    config = load_checkpoint(base_model).encoder.config
    start = recipe_for(base_model, start={"growth": "auto"} | wanted).start
    shape = wanted_shape(config, start)
    operators = decide_growth(config, shape)
    assert tuple(options.kind for options in operators) == kinds
    assert [config, *shapes_on_the_way(operators, config, shape)][-1] == shape


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"hidden_size": 64}, "is made by fpi, which keeps what the model computes"),
        ({"hidden_size": 64, "layers": 3}, "is made by fpi and identity, which keep what the model computes"),
        ({"hidden_size": 48}, "fpi does not keep what the model computes (hidden_size = 64 would)"),
        ({"layers": 1}, "choose_layers does not keep what the model computes"),
        ({"layers": 4, "growth": [{"kind": "stack"}]}, "stack does not keep what the model computes"),
    ],
)
def test_the_reason_says_whether_operators_keep_what_the_model_computes(
    base_model: Path, wanted: dict, said: str
) -> None:
    recipe = recipe_for(base_model, start={"growth": "auto"} | wanted)
    settled = settle(recipe, [])
    assert said in settled.start.reason
    assert settle(settled, []) == settled


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"heads": 1}, "head_size is 16, and 32 is wanted; ask for more heads"),
        (
            {"hidden_size": 96, "heads": 5},
            "5 heads do not divide a hidden size of 96 evenly; set .* to 4 or 6",
        ),
        ({"hidden_size": 37}, "a hidden size of 37 cannot be divided into heads.*a multiple of 16, such as 48"),
        ({"hidden_size": 27, "heads": 3}, "which they do not divide evenly"),
        ({"layers": 5, "growth": [{"kind": "stack"}]}, "multiple of 2"),
    ],
)
def test_a_shape_that_operators_cannot_make_ends_the_plan(base_model: Path, wanted: dict, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        settle(recipe_for(base_model, start={"growth": "auto"} | wanted), [])


@pytest.mark.parametrize(("width", "heads"), [(24, 2), (13, 1), (32, 2), (40, 2), (64, 4)])
def test_the_heads_of_another_width_are_such_as_can_be_made(base_model: Path, width: int, heads: int) -> None:
    base = load_checkpoint(base_model).encoder.config
    start = settle(recipe_for(base_model, start={"growth": "auto", "hidden_size": width}), []).start
    assert wanted_shape(base, start).heads == heads


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


class Listener(Silent):
    """Remembers what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text.strip())


def test_what_a_model_does_not_read_is_said_kept_and_reported(
    base_model: Path, sentences: list[str], tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text(" ".join(sentences * 3))
    listener = Listener()
    recipe = recipe_for(base_model, stages=False, search={"model": "auto"})
    built = build(tmp_path / "notes.txt", recipe=recipe, out=tmp_path / "out", watcher=listener)
    facts = read_manifest(tmp_path / "out" / "steps" / "tokens").facts
    assert facts["beyond"] > 0.3
    assert "corpus.passage_words = " in facts["note"]
    assert facts["note"] in listener.said
    assert facts["note"] in built.summary["verdict"]
