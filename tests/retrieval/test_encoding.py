from pathlib import Path

import numpy as np
import pytest

from corpusmith.errors import ArtefactError, RecipeError
from corpusmith.model.huggingface import load_checkpoint
from corpusmith.recipe import parse_recipe
from corpusmith.retrieval.encoding import Encoding, make_retriever


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
