"""What one transfer does and the others do not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import nnls
from scipy.sparse import csr_array

from corpusmith.errors import CorpusError
from corpusmith.model.packed import pack
from corpusmith.vocabulary.carry import carry
from corpusmith.vocabulary.tokenizer import Tokenizer
from corpusmith.vocabulary.transfer.base import TransferInput
from corpusmith.vocabulary.transfer.config import (
    DistillationConfig,
    MeanConfig,
    OfaConfig,
    RandomConfig,
    SubwordConfig,
    WechselConfig,
)
from corpusmith.vocabulary.transfer.convex import fitted, nearest_in_hull
from corpusmith.vocabulary.transfer.correspondence import matching_pieces, ordinary_ids
from corpusmith.vocabulary.transfer.distillation import aligned
from corpusmith.vocabulary.transfer.ofa import leading
from corpusmith.vocabulary.transfer.registry import build_transfer
from corpusmith.vocabulary.transfer.words import alignment, word_space


@pytest.fixture
def given(makers: Any, old_words: Tokenizer, new_words: Tokenizer, sentences: list[str]) -> TransferInput:
    return TransferInput(makers.checkpoint(old_words), new_words, sentences, np.random.default_rng(3))


def new_rows(given: TransferInput) -> np.ndarray:
    return np.flatnonzero(matching_pieces(given.source.tokenizer, given.target) < 0)


def test_random_vectors_spread_as_fresh_weights_do(given: TransferInput) -> None:
    drawn = build_transfer(RandomConfig(keep_shared=False)).embed(given)[len(given.target.special_ids) :]
    assert drawn.std() == pytest.approx(0.3, rel=0.05)
    assert abs(drawn.mean()) < 0.02


def test_the_mean_is_that_of_ordinary_pieces(given: TransferInput) -> None:
    expected = given.vectors[ordinary_ids(given.source.tokenizer)].mean(axis=0)
    vectors = build_transfer(MeanConfig()).embed(given)[new_rows(given)]
    np.testing.assert_allclose(vectors, np.repeat(expected[None], len(vectors), axis=0), atol=1e-6)


def test_draws_around_the_mean_have_the_covariance_asked_for(makers: Any, old_words: Tokenizer) -> None:
    source = makers.checkpoint(old_words)
    with torch.no_grad():  # vectors that are far from spread alike in all directions
        source.encoder.token_embedding.weight.mul_(torch.linspace(0.1, 2.0, 32)).add_(1.0)
    given = TransferInput(source, makers.word_piece([f"new{i}" for i in range(5000)]), [], np.random.default_rng(0))
    old = given.vectors[ordinary_ids(old_words)]
    drawn = build_transfer(MeanConfig(covariance=0.5)).embed(given)[new_rows(given)]
    np.testing.assert_allclose(drawn.mean(axis=0), old.mean(axis=0), atol=0.03)
    difference = np.cov(drawn.T) - 0.5 * np.cov(old.T, bias=True)
    assert np.linalg.norm(difference) < 0.1 * np.linalg.norm(np.cov(old.T))


def test_subword_vectors_are_plain_means_of_the_old_pieces(given: TransferInput) -> None:
    vectors = build_transfer(SubwordConfig()).embed(given)
    for word in ("arteries", "antibiotics"):
        number = given.target.backend.token_to_id(word)
        ids = given.source.tokenizer.encode([word])[0]
        assert len(ids) > 1
        np.testing.assert_allclose(vectors[number], given.vectors[ids].mean(axis=0), atol=1e-6)


def test_ofa_makes_new_pieces_of_the_leading_directions_alone(given: TransferInput) -> None:
    rows = new_rows(given)
    whole = build_transfer(OfaConfig(fewest=1, dimensions=8)).embed(given)[rows]
    low = build_transfer(OfaConfig(fewest=1, dimensions=8, rank=3)).embed(
        TransferInput(given.source, given.target, given.texts, np.random.default_rng(3))
    )[rows]
    assert np.linalg.matrix_rank(low, tol=1e-3) == 3
    assert np.linalg.matrix_rank(whole, tol=1e-3) > 20


def test_leading_directions_are_those_of_the_singular_values() -> None:
    vectors = np.random.default_rng(0).standard_normal((30, 6)).astype(np.float32)
    u, s, v = np.linalg.svd(vectors, full_matrices=False)
    np.testing.assert_allclose(leading(vectors, 2), (u[:, :2] * s[:2]) @ v[:2], atol=1e-5)
    assert leading(vectors, None) is vectors
    assert leading(vectors, 6) is vectors


def two_languages(rng: np.random.Generator) -> tuple[list[str], list[str], list[list[str]]]:
    """Texts in two languages, about different draws of the same 40 subjects. A subject has two words, which the other
    language spells backwards, and three names, which it does not."""
    subjects = [[f"w{i}thing", f"w{i}stuff", f"Name{i}a", f"Name{i}b", f"Name{i}c"] for i in range(40)]
    texts = [" ".join(rng.choice(subjects[i % 40], 8)) for i in range(2400)]
    foreign = [" ".join(w if w[0] == "N" else w[::-1] for w in text.split()) for text in texts[1200:]]
    return texts[:1200], foreign, subjects


def test_wechsel_finds_words_of_like_meaning_across_languages(makers: Any, tmp_path: Path) -> None:
    general, texts, subjects = two_languages(np.random.default_rng(0))
    (tmp_path / "general.txt").write_text("\n\n".join(general))
    words = [word for subject in subjects for word in subject[:2]]
    source = makers.checkpoint(makers.word_piece(words))
    target = makers.word_piece([word[::-1] for word in words])
    config = WechselConfig(dimensions=40, general=str(tmp_path / "general.txt"))
    weights = build_transfer(config).weights(TransferInput(source, target, texts, np.random.default_rng(0)))
    best = weights[5:].toarray()[:, 5:].argmax(axis=1)
    assert (best // 2 == np.arange(80) // 2).mean() > 0.9


def test_an_alignment_undoes_a_rotation() -> None:
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice([f"word{i}" for i in range(60)], 8)) for _ in range(300)]
    space = word_space(texts, WechselConfig(dimensions=10), rng)
    rotation = np.linalg.qr(rng.standard_normal((10, 10)))[0]
    turned = type(space)(space.words[::-1], space.counts[::-1], (space.vectors @ rotation)[::-1])
    np.testing.assert_allclose(turned.vectors @ alignment(turned, space), space.vectors[::-1], atol=1e-4)


def test_a_general_text_that_cannot_serve_is_named(given: TransferInput, tmp_path: Path) -> None:
    config = WechselConfig(fewest=1, general=str(tmp_path / "none.txt"))
    with pytest.raises(CorpusError, match=r"none\.txt"):
        build_transfer(config).embed(given)
    (tmp_path / "none.txt").write_text("Ganz andere Worte.\n")
    with pytest.raises(CorpusError, match="have 1 words in common, too few to compare"):
        build_transfer(config).embed(given)


def test_points_of_the_hull_are_found_and_others_come_nearest() -> None:
    rng = np.random.default_rng(0)
    corners = rng.standard_normal((12, 4)).astype(np.float32)
    inside = rng.dirichlet(np.ones(12), 5) @ corners
    outside = 3 * rng.standard_normal((5, 4))
    wanted = np.concatenate([inside, outside]).astype(np.float32)
    weights = nearest_in_hull(corners, wanted, 1000).toarray()
    np.testing.assert_allclose(weights.sum(axis=1), 1.0)
    assert weights.min() >= 0
    assert np.abs(weights[:5] @ corners - inside).max() < 0.05
    for row, point in zip(weights[5:], outside, strict=True):
        heavy = np.concatenate([corners.T, np.full((1, 12), 1e3)])  # a heavy last row makes the weights sum to 1
        best = nnls(heavy, np.append(point, 1e3))[0] @ corners
        assert np.linalg.norm(row @ corners - point) < np.linalg.norm(best - point) + 0.02


def test_what_company_asks_of_a_piece_is_where_a_shared_one_with_that_company_stands() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((200, 6)).astype(np.float32)
    company = csr_array(vectors @ rng.standard_normal((6, 40)) + rng.standard_normal(40))
    corners, wanted = fitted(vectors, company, company[:20])
    distances = np.linalg.norm(corners[None] - wanted[:, None], axis=2)
    assert distances.argmin(axis=1).tolist() == list(range(20))


@pytest.fixture
def extended(makers: Any, old_words: Tokenizer) -> Tokenizer:
    """The old tokenizer with some of the long words behind its pieces."""
    pieces = [old_words.backend.id_to_token(i) for i in range(5, old_words.size)]
    return makers.word_piece([*pieces, "arteries", "aircraft", "insulin", "contract", "##ment"])


def test_distilled_pieces_are_read_as_their_old_pieces_were(
    makers: Any, old_words: Tokenizer, extended: Tokenizer, sentences: list[str]
) -> None:
    source = makers.checkpoint(old_words)
    texts = [text for text in sentences if len(extended.encode([text])[0]) < len(old_words.encode([text])[0])]
    assert len(texts) >= 4

    def read(checkpoint: Any) -> torch.Tensor:
        tokenizer = checkpoint.tokenizer
        packed = pack([tokenizer.with_specials(ids, 64) for ids in tokenizer.encode(texts)])
        return checkpoint.encoder(packed)[packed.cu_seqlens[:-1].long()].detach()

    def error(config: Any) -> float:
        carried = carry(source, extended, build_transfer(config), sentences, np.random.default_rng(0))
        return float((read(carried) - read(source)).square().mean())

    assert error(DistillationConfig(steps=100, batch=8, context=30)) < 0.7 * error(SubwordConfig())


def test_occurrences_are_where_borders_agree(makers: Any) -> None:
    source = makers.checkpoint(makers.word_piece(["ab", "##cd", "##c", "##d", "##ef", "x", "abcde", "##f"]))
    target = makers.word_piece(["abcd", "##cdef", "##bcd", "x", "##ef"])
    given = TransferInput(source, target, ["x abcd x", "xcdef", "xbcd abcdef"], np.random.default_rng(0))
    wanted = matching_pieces(source.tokenizer, target) < 0
    found = sorted(
        (target.backend.id_to_token(piece), [source.tokenizer.backend.id_to_token(i) for i in ids[own]])
        for piece, own, ids in aligned(given, wanted)
    )
    assert found == [("##cdef", ["##cd", "##ef"]), ("abcd", ["ab", "##cd"])]


def test_byte_level_occurrences_are_found_behind_spaces(
    makers: Any, old_bytes: Tokenizer, new_bytes: Tokenizer, sentences: list[str]
) -> None:
    given = TransferInput(makers.checkpoint(old_bytes), new_bytes, sentences, np.random.default_rng(0))
    wanted = matching_pieces(old_bytes, new_bytes) < 0
    found = [
        (new_bytes.backend.id_to_token(piece), old_bytes.decode(ids[own])) for piece, own, ids in aligned(given, wanted)
    ]
    assert len(found) > 30
    assert all(piece.replace("Ġ", " ").strip() == text.strip() for piece, text in found)
