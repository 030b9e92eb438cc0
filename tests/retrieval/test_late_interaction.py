from pathlib import Path

import numpy as np
import pytest
import torch

from corpusmith.model.checkpoint import Checkpoint
from corpusmith.model.huggingface import load_checkpoint
from corpusmith.model.packed import pack
from corpusmith.retrieval import late_interaction
from corpusmith.retrieval.encoding import Method, make_retriever
from corpusmith.retrieval.late_interaction import LateInteraction


@pytest.fixture(scope="module")
def checkpoint(base_model: Path) -> Checkpoint:
    return load_checkpoint(str(base_model))


@pytest.fixture
def late(checkpoint: Checkpoint, sentences: list[str]) -> LateInteraction:
    texts = [*sentences, ""]
    return LateInteraction(make_retriever(checkpoint, "float32"), lambda rows: [texts[row] for row in rows])


def plain(checkpoint: Checkpoint, query: str, passage: str) -> float:
    """The definition, text by text."""
    states = []
    for ids in checkpoint.tokenizer.encode([query, passage]):
        with torch.inference_mode():
            found = checkpoint.encoder(pack([checkpoint.tokenizer.with_specials(ids, checkpoint.max_tokens)]))
        states.append(torch.nn.functional.normalize(found, dim=-1)[1:-1])
    return float((states[0] @ states[1].T).amax(dim=1).mean())


def test_scores_are_the_means_of_the_best_cosines(
    late: LateInteraction, checkpoint: Checkpoint, sentences: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(late_interaction, "PASSAGES_AT_ONCE", 3)
    queries = ["blood and heart", "the court"]
    rows = np.array([[0, 7, 3, 12], [7, 0, -1, -1]])
    scores = late.scores(queries, rows)
    assert scores.dtype == np.float32
    for query, of_query, found in zip(queries, rows, scores, strict=True):
        for row, score in zip(of_query, found, strict=True):
            expected = plain(checkpoint, query, sentences[row]) if row >= 0 else 0
            assert score == pytest.approx(expected, abs=1e-4)


def test_a_passage_holds_its_own_words(late: LateInteraction, sentences: list[str]) -> None:
    scores = late.scores(sentences[:4], np.tile(np.arange(4), (4, 1)))
    assert (scores.argmax(axis=1) == np.arange(4)).all()
    assert np.diag(scores) == pytest.approx(np.ones(4), abs=1e-4)


def test_what_has_no_tokens_scores_nothing(late: LateInteraction, sentences: list[str]) -> None:
    assert late.scores(["", "blood"], np.array([[0], [len(sentences)]])).tolist() == [[0], [0]]
    assert late.scores([], np.zeros((0, 5), dtype=np.int64)).shape == (0, 5)
    assert late.scores(["blood \udcff"], np.array([[-1, 2]]))[0, 0] == 0


@pytest.mark.parametrize(("method", "package"), [("onnx", "onnxruntime"), ("openvino", "openvino")])
def test_other_runtimes_score_as_this_one_does(
    late: LateInteraction, checkpoint: Checkpoint, sentences: list[str], method: Method, package: str
) -> None:
    pytest.importorskip(package)
    other = LateInteraction(make_retriever(checkpoint, method), lambda rows: [sentences[row] for row in rows])
    rows = np.arange(6).reshape(2, 3)
    assert other.scores(sentences[:2], rows) == pytest.approx(late.scores(sentences[:2], rows), abs=0.02)
