from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpusmith.model.checkpoint import Checkpoint
from corpusmith.model.huggingface import load_checkpoint
from corpusmith.retrieval.encoding import make_retriever
from corpusmith.retrieval.sentences import LONGEST, SHORTEST, Sentences, encode_sentences
from corpusmith.vocabulary.sentence_ends import sentence_ends
from corpusmith.vocabulary.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def checkpoint(base_model: Path) -> Checkpoint:
    return load_checkpoint(str(base_model))


def of_tokens(tokenizer: Tokenizer, lengths: list[int]) -> np.ndarray:
    """Sentences of so many tokens, the stop counted, end to end."""
    stop = int(tokenizer.encode(["."])[0][-1])
    word = int(tokenizer.encode(["the"])[0][0])
    return np.array([token for length in lengths for token in [word] * (length - 1) + [stop]], dtype=np.uint32)


def test_stops_end_sentences_and_short_ones_go_with_the_next(checkpoint: Checkpoint) -> None:
    passages = [of_tokens(checkpoint.tokenizer, lengths) for lengths in ([10, 3, 12, 9, 4], [5], [], [130, 20])]
    found = Sentences(passages, checkpoint.tokenizer, limit=1000)
    assert found.first.tolist() == [0, 4, 5, 5, 9]
    lengths = [len(ids) for ids in found.tokens(0, len(found))]
    assert lengths == [10, 15, 9, 4, 5, 43, 43, 44, 20]
    assert [len(ids) for ids in found.tokens(3, 6)] == lengths[3:6]
    assert found.tokens(4, 4) == []


@given(st.lists(st.lists(st.integers(1, 150), max_size=8), max_size=6), st.integers(1, 300), st.data())
def test_sentences_are_what_the_model_reads_cut_in_pieces(
    checkpoint: Checkpoint, lengths: list[list[int]], limit: int, data: st.DataObject
) -> None:
    passages = [of_tokens(checkpoint.tokenizer, of_passage) for of_passage in lengths]
    found = Sentences(passages, checkpoint.tokenizer, limit)
    everything = found.tokens(0, len(found))
    assert len(everything) == len(found)
    is_end = sentence_ends(checkpoint.tokenizer)
    for number, passage in enumerate(passages):
        parts = everything[found.first[number] : found.first[number + 1]]
        assert np.concatenate([passage[:0], *parts]).tolist() == passage[:limit].tolist()
        assert all(0 < len(part) <= LONGEST for part in parts)
        assert all(len(part) >= SHORTEST for part in parts[:-1])
        assert all(is_end[part[-1]] for part in parts[:-1] if len(part) < LONGEST // 2)
    start = data.draw(st.integers(0, len(found)))
    stop = data.draw(st.integers(start, len(found)))
    part = found.tokens(start, stop)
    assert [ids.tolist() for ids in part] == [ids.tolist() for ids in everything[start:stop]]


def test_vectors_are_those_of_the_sentences_alone(checkpoint: Checkpoint, sentences: list[str], tmp_path: Path) -> None:
    retriever = make_retriever(checkpoint, "float32")
    texts = [" ".join(sentences[start : start + 3]) for start in range(0, 9, 3)]
    found = Sentences(checkpoint.tokenizer.encode(texts), checkpoint.tokenizer, checkpoint.max_tokens)
    encode_sentences(found, retriever, tmp_path / "vectors.npy", None, tmp_path)
    vectors = np.load(tmp_path / "vectors.npy")
    assert vectors.dtype == np.float16
    assert vectors.shape == (len(found), retriever.dimension)
    alone = retriever.encode_tokens(len(found), found.tokens)
    assert vectors == pytest.approx(alone, abs=1e-3)
