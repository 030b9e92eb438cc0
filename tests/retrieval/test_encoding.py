from pathlib import Path

import numpy as np
import pytest
import torch

from corpusmith import environment
from corpusmith.corpus.shards import TokenShards
from corpusmith.errors import ArtefactError, RecipeError
from corpusmith.model.huggingface import load_checkpoint
from corpusmith.model.quantised import is_available
from corpusmith.recipe import parse_recipe
from corpusmith.retrieval.encoding import Encoding, EncodingConfig, choose_encoding, fidelity, make_retriever

needs_int8 = pytest.mark.skipif(
    not is_available(torch.device("cpu")), reason="this processor or this torch has no fast products of int8"
)


@pytest.fixture(scope="module")
def checkpoint(base_model: Path):
    return load_checkpoint(base_model)


def test_an_unknown_method_is_an_error_that_names_the_known_ones() -> None:
    with pytest.raises(RecipeError, match=r"encoding\.method: .*'float32'.*'bf16'"):
        parse_recipe({"encoding": {"method": "float16"}}, "test")
    with pytest.raises(RecipeError, match="did you mean 'method'"):
        parse_recipe({"encoding": {"methods": "bf16"}}, "test")


def test_float32_and_bf16_are_what_they_say(checkpoint, sentences: list[str]) -> None:
    exact, coarse = (make_retriever(checkpoint, method).encode(sentences) for method in ("float32", "bf16"))
    assert 1e-6 < np.abs(exact - coarse).max() < 0.02
    automatic = make_retriever(checkpoint).encode(sentences)
    assert np.array_equal(automatic, exact) or np.array_equal(automatic, coarse)


def test_how_vectors_were_computed_is_kept_beside_them(tmp_path: Path) -> None:
    assert Encoding.open(tmp_path) == Encoding("auto")
    Encoding("bf16", "It was asked for.").save(tmp_path)
    assert Encoding.open(tmp_path) == Encoding("bf16", "It was asked for.")
    (tmp_path / "encoding.json").write_text('{"arithmetic": 1}')
    with pytest.raises(ArtefactError, match=r"encoding\.json is damaged"):
        Encoding.open(tmp_path)


@needs_int8
def test_int8_vectors_of_the_default_model_stay_above_the_default_bound(sentences: list[str]) -> None:
    checkpoint = load_checkpoint("all-MiniLM-L6-v2")
    coarse, exact = (make_retriever(checkpoint, method).encode(sentences) for method in ("int8", "float32"))
    cosines = (coarse * exact).sum(axis=1)
    assert EncodingConfig().int8_cosine < cosines.min() < 0.9999


@needs_int8
def test_int8_is_used_only_where_the_passages_lose_no_more_than_the_recipe_allows(
    checkpoint, tiny_passages: TokenShards
) -> None:
    mean, low = fidelity(checkpoint, "int8", tiny_passages, np.arange(len(tiny_passages)))
    assert 0.9 < low < mean < 1
    between = EncodingConfig(method="int8", int8_cosine=(low + mean) / 2)
    refused = choose_encoding(between, checkpoint, tiny_passages, seed=0)
    assert refused.method == "auto"
    assert f"{low:.4f} or more on 95% of them, less than" in refused.reason
    used = choose_encoding(between.model_copy(update={"int8_cosine": low}), checkpoint, tiny_passages, seed=0)
    assert used.method == "int8"
    assert f"a cosine of {mean:.4f}" in used.reason


def test_where_the_processor_cannot_do_int8_the_default_arithmetic_stands_in_and_says_so(
    checkpoint, tiny_passages: TokenShards, sentences: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "has_native_int8", lambda: False)
    chosen = choose_encoding(EncodingConfig(method="int8"), checkpoint, tiny_passages, seed=0)
    assert (chosen.method, chosen.reason.count("int8 is not used")) == ("auto", 1)
    automatic, served = (make_retriever(checkpoint, method).encode(sentences) for method in ("auto", "int8"))
    assert np.array_equal(automatic, served)
