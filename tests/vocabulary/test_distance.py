from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
import tokenizers

from corpusmith.vocabulary.config import ReplaceConfig
from corpusmith.vocabulary.distance import distance_from_general, divergence
from corpusmith.vocabulary.tokenizer import Tokenizer
from corpusmith.vocabulary.train import train_tokenizer

GENERAL = "The town was founded in the nineteenth century, and the river that flows through it gave it its name. "
LEGAL = "Die Rechtsverordnung bedarf der Zustimmung des Bundesrates; das Nähere regelt ein Gesetz. "


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [([0.5, 0.5], [0.5, 0.5], 0.0), ([1.0, 0.0], [0.0, 1.0], 1.0), ([1.0, 0.0], [0.5, 0.5], 0.311278)],
)
def test_the_divergence_is_none_for_the_same_and_one_for_what_shares_nothing(
    first: list[float], second: list[float], expected: float
) -> None:
    assert divergence(np.array(first), np.array(second)) == pytest.approx(expected, abs=1e-6)


def test_another_language_is_further_away_than_the_one_of_the_vocabulary(minilm: Tokenizer) -> None:
    near, far = (distance_from_general(minilm, [text] * 100) for text in (GENERAL, LEGAL))
    assert near is not None
    assert far is not None
    assert near < far <= 1


def zipfian(words: int) -> list[str]:
    """Texts of made-up words that occur by Zipf's law."""
    letters = "abcdefghij"
    names = ["".join(letters[int(digit)] for digit in f"{number:04}") for number in range(words)]
    return [" ".join(names[: max(2, words // rank)]) for rank in range(1, 200)] * 3


@pytest.mark.parametrize("algorithm", ["wordpiece", "bpe", "unigram"])
def test_every_kind_of_vocabulary_remembers_what_it_was_learned_from(algorithm: str, minilm: Tokenizer) -> None:
    texts = zipfian(1500)
    options = ReplaceConfig.model_validate({"algorithm": algorithm, "size": 6000})
    own = train_tokenizer(options, minilm, texts)
    reversed_ranks = [" ".join(reversed(texts[0].split()[-1200:]))] * 20
    near, far = (distance_from_general(own, each) for each in (texts, reversed_ranks))
    assert near is not None
    assert far is not None
    assert near < far


def test_nothing_is_told_of_few_words_or_by_a_small_vocabulary(
    minilm: Tokenizer, source: Callable[[str], Tokenizer]
) -> None:
    assert distance_from_general(minilm, [GENERAL]) is None
    assert distance_from_general(minilm, []) is None
    assert distance_from_general(source("bpe"), [GENERAL] * 100) is None


def test_merges_written_as_one_text_are_read_too(minilm: Tokenizer) -> None:
    own = train_tokenizer(ReplaceConfig(algorithm="bpe", size=6000), minilm, zipfian(1500))
    content = json.loads(own.backend.to_str())
    content["model"]["merges"] = [" ".join(merge) for merge in content["model"]["merges"]]
    older = Tokenizer(tokenizers.Tokenizer.from_str(json.dumps(content)), own.settings, own.special_tokens)
    assert distance_from_general(older, zipfian(1500)) == distance_from_general(own, zipfian(1500))
