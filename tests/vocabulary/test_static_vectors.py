from __future__ import annotations

import numpy as np
import pytest

from corpusmith.vocabulary import static_vectors as module
from corpusmith.vocabulary.static_vectors import mutual_information, sampled, static_vectors


def drawn_sequences(seed: int = 0) -> list[np.ndarray]:
    """Texts of 3 topics of 4 symbols each; symbols 12 and 13 stand in all of them, 14 in none."""
    rng = np.random.default_rng(seed)
    topics = rng.integers(3, size=300)
    return [np.append(4 * topic + rng.integers(4, size=6), rng.integers(12, 14, size=2)) for topic in topics]


def test_symbols_of_like_company_have_like_vectors() -> None:
    vectors = static_vectors(drawn_sequences(), 15, 5, 4, 3, np.random.default_rng(0))
    cosines = vectors @ vectors.T
    for symbol in range(12):
        topic = slice(4 * (symbol // 4), 4 * (symbol // 4) + 4)
        others = np.delete(np.arange(12), np.arange(12)[topic])
        assert cosines[symbol, topic].min() > cosines[symbol, others].max() + 0.3
    np.testing.assert_allclose(np.linalg.norm(vectors[:14], axis=1), 1.0, atol=1e-5)


def test_the_same_texts_give_the_same_bytes() -> None:
    one, other = (static_vectors(drawn_sequences(), 15, 5, 4, 3, np.random.default_rng(0)) for _ in range(2))
    assert one.tobytes() == other.tobytes()


def test_rare_symbols_have_no_vector_and_are_no_company() -> None:
    sequences = [*drawn_sequences(), np.array([14, 0, 14, 1])]
    vectors = static_vectors(sequences, 15, 5, 4, 3, np.random.default_rng(0))
    assert not vectors[14].any()
    assert mutual_information(sequences, 15, 4, 3)[[14]].nnz == 0
    assert mutual_information(sequences, 15, 4, 3)[:, [14]].nnz == 0


def test_information_is_what_its_formula_says() -> None:
    window, found = 2, np.zeros((3, 3))
    sequences = [np.array([0, 1, -1, 2]), np.array([0, 1, 0, 2]), np.array([2])]
    for sequence in sequences:
        for i, a in enumerate(sequence):
            for j, b in enumerate(sequence):
                if 0 < abs(i - j) <= window and a >= 0 and b >= 0:
                    found[a, b] += (window + 1 - abs(i - j)) / window
    smoothed = found.sum(axis=0) ** 0.75
    with np.errstate(divide="ignore"):
        expected = np.log(found / (found.sum(axis=1)[:, None] * smoothed / smoothed.sum())).clip(min=0)
    assert (expected > 0).any()
    np.testing.assert_allclose(mutual_information(sequences, 3, window, 1).toarray(), expected, rtol=1e-5)


def test_how_many_pairs_are_counted_at_a_time_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = mutual_information(drawn_sequences(), 15, 4, 3).toarray()
    monkeypatch.setattr(module, "CHUNK_TOKENS", 7)
    np.testing.assert_allclose(mutual_information(drawn_sequences(), 15, 4, 3).toarray(), whole, rtol=1e-6)


@pytest.mark.parametrize("sequences", [[], [np.array([], dtype=np.int64)], [np.array([1])], [np.array([1, 1, 1])]])
def test_too_little_text_gives_no_vectors_and_no_error(sequences: list[np.ndarray]) -> None:
    vectors = static_vectors(sequences, 3, 5, 4, 2, np.random.default_rng(0))
    assert vectors.shape[0] == 3
    assert not vectors.any()


def test_a_sample_is_read_until_it_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_TOKENS", 5)
    monkeypatch.setattr(module, "TEXTS_AT_ONCE", 2)
    texts = ["a b", "c d", "e f", "g h", "i j", "k l"]
    found = list(sampled(texts, lambda batch: [np.array(text.split()) for text in batch], np.random.default_rng(0)))
    assert len(found) == 4
    assert {" ".join(words) for words in found} < set(texts)
