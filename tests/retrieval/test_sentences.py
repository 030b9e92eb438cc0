from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpusmith.model.huggingface import load_checkpoint
from corpusmith.retrieval.encoding import make_retriever
from corpusmith.retrieval.sentences import Sentences, encode_sentences

TEXTS = [
    "The court dismissed the appeal. It was late. Costs were awarded against the appellant.",
    "",
    "Fig. 3",
    "One sentence, alone in its passage.",
    "The claim was allowed in part. This sentence has no end",
]


def passages(texts: list[str]) -> Callable[[int, int], list[str]]:
    return lambda start, stop: texts[start:stop]


def test_short_single_and_distant_sentences_are_left_out() -> None:
    found = Sentences(passages(TEXTS), len(TEXTS), limit=100)
    assert found.first.tolist() == [0, 2, 2, 2, 2, 4]
    assert found.between(0, 4) == [
        "The court dismissed the appeal.",
        "Costs were awarded against the appellant.",
        "The claim was allowed in part.",
        "This sentence has no end",
    ]
    near = Sentences(passages(TEXTS), len(TEXTS), limit=8)
    assert near.between(0, len(near)) == ["The claim was allowed in part.", "This sentence has no end"]


@given(st.lists(st.lists(st.sampled_from(["a b c d e.", "no.", "f g h i", "x y z w v u."])).map(" ".join)), st.data())
def test_any_part_is_what_all_of_them_have_there(texts: list[str], data: st.DataObject) -> None:
    found = Sentences(passages(texts), len(texts), limit=12)
    everything = found.between(0, len(found))
    assert len(everything) == len(found)
    for text, start, stop in zip(texts, found.first, found.first[1:], strict=False):
        assert all(sentence in text for sentence in everything[start:stop])
    start = data.draw(st.integers(0, len(found)))
    stop = data.draw(st.integers(start, len(found)))
    assert found.between(start, stop) == everything[start:stop]


def test_vectors_are_those_of_the_sentences_alone(base_model: Path, sentences: list[str], tmp_path: Path) -> None:
    retriever = make_retriever(load_checkpoint(str(base_model)), "float32")
    texts = [" ".join(sentences[start : start + 3]) for start in range(0, 9, 3)]
    found = Sentences(passages(texts), len(texts), limit=100)
    encode_sentences(found, retriever, tmp_path / "vectors.npy", None, tmp_path)
    vectors = np.load(tmp_path / "vectors.npy")
    assert vectors.dtype == np.float16
    assert vectors == pytest.approx(retriever.encode_documents(found.between(0, len(found))), abs=1e-3)
