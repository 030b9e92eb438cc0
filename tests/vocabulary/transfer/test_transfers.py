"""What every transfer must do, and what several of them do by the same mechanism."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from corpusmith.vocabulary.transfer.base import MixingTransfer, TransferInput
from corpusmith.vocabulary.transfer.config import (
    ConvexConfig,
    DistillationConfig,
    FocusConfig,
    MeanConfig,
    OfaConfig,
    RandomConfig,
    SubwordConfig,
    TransferConfig,
    WechselConfig,
)
from corpusmith.vocabulary.transfer.correspondence import matching_pieces, special_matches
from corpusmith.vocabulary.transfer.registry import TRANSFERS, build_transfer
from corpusmith.vocabulary.transfer.words import piece_vectors

CONFIGS = [
    RandomConfig(),
    RandomConfig(keep_shared=False),
    MeanConfig(),
    MeanConfig(covariance=1.0),
    SubwordConfig(),
    WechselConfig(fewest=1, dimensions=8),
    FocusConfig(fewest=1, dimensions=8),
    OfaConfig(fewest=1, dimensions=8),
    OfaConfig(fewest=2, dimensions=8, rank=5),
    ConvexConfig(fewest=1, steps=8),
    DistillationConfig(occurrences=3, context=4, steps=4, batch=8),
]
MIXING = [config for config in CONFIGS if isinstance(build_transfer(config), MixingTransfer)]


def name(config: Any) -> str:
    return "-".join(
        [config.kind, *(f"{key}={value}" for key, value in config.model_dump(exclude_defaults=True).items())]
    )


@pytest.fixture(params=["words", "bytes"])
def given(request: pytest.FixtureRequest, makers: Any, sentences: list[str]) -> TransferInput:
    old, new = (request.getfixturevalue(f"{age}_{request.param}") for age in ("old", "new"))
    return TransferInput(makers.checkpoint(old), new, sentences, np.random.default_rng(3))


@pytest.mark.parametrize("config", CONFIGS, ids=name)
def test_every_entry_gets_a_finite_vector_and_the_same_one_again(config: Any, given: TransferInput) -> None:
    before = given.vectors.copy()
    vectors = build_transfer(config).embed(given)
    assert vectors.shape == (given.target.size, given.vectors.shape[1])
    assert vectors.dtype == np.float32
    assert np.isfinite(vectors).all()
    assert (vectors != 0).any(axis=1).all()
    again = TransferInput(given.source, given.target, given.texts, np.random.default_rng(3))
    assert build_transfer(config).embed(again).tobytes() == vectors.tobytes()
    assert np.array_equal(given.vectors, before)


@pytest.mark.parametrize("config", CONFIGS, ids=name)
def test_shared_pieces_keep_their_vectors_bit_by_bit(config: Any, given: TransferInput) -> None:
    transfer = build_transfer(config)
    same = matching_pieces(given.source.tokenizer, given.target)
    assert (same < 0).sum() > 20
    vectors = transfer.embed(given)
    kept = same if transfer.keeps_shared else special_matches(same, given.target)
    assert vectors[kept >= 0].tobytes() == given.vectors[kept[kept >= 0]].tobytes()
    others = np.flatnonzero((kept < 0) & (same >= 0))
    assert transfer.keeps_shared == (len(others) == 0)
    if config.kind == "wechsel":  # mixes anew what a word of the corpus tells of, and no more
        told = piece_vectors(TransferInput(given.source, given.target, given.texts, np.random.default_rng(3)), config)
        is_told = told[1][others].any(axis=1)
        assert 20 < is_told.sum() < len(others)
        assert vectors[others[~is_told]].tobytes() == given.vectors[same[others[~is_told]]].tobytes()
        others = others[is_told]
    assert not (vectors[others] == given.vectors[same[others]]).all(axis=1).any()


@pytest.mark.parametrize("config", MIXING, ids=name)
def test_mixtures_are_means_with_weights_that_sum_to_one(config: Any, given: TransferInput) -> None:
    weights = build_transfer(config).weights(given)
    assert weights.shape == (given.target.size, len(given.vectors))
    sums = weights.sum(axis=1)
    np.testing.assert_allclose(sums[np.diff(weights.indptr) > 0], 1.0)
    assert weights.data.min() > 0
    assert (np.diff(weights.indptr) > 0).mean() > 0.9


@pytest.mark.parametrize("config", CONFIGS, ids=name)
def test_without_a_corpus_there_are_vectors_all_the_same(config: Any, given: TransferInput) -> None:
    vectors = build_transfer(config).embed(TransferInput(given.source, given.target, [], given.rng))
    assert np.isfinite(vectors).all()
    if isinstance(build_transfer(config), MixingTransfer) and config.kind != "ofa":
        np.testing.assert_array_equal(vectors, build_transfer(SubwordConfig()).embed(given))


@pytest.mark.parametrize("config", MIXING, ids=name)
def test_pieces_of_a_script_that_the_base_never_saw_are_told_apart(config: Any, makers: Any) -> None:
    unseen = ["ሰው", "ልጅ", "ሁሉ", "ነጻ"]
    source = makers.checkpoint(makers.word_piece(["cow", "horse", "sheep", "goat"]))
    target = makers.word_piece(["cow", "horse", *unseen])
    given = TransferInput(source, target, [], np.random.default_rng(0))
    vectors = build_transfer(config).embed(given)[[target.backend.token_to_id(word) for word in unseen]]
    apart = np.linalg.norm(vectors[:, None] - vectors[None], axis=2) + np.eye(len(unseen))
    assert apart.min() > 0.1 * np.linalg.norm(given.vectors, axis=1).mean()


COMPANY = [
    WechselConfig(dimensions=6, neighbours=3),
    FocusConfig(dimensions=6),
    OfaConfig(dimensions=6, neighbours=3),
    ConvexConfig(steps=3),
]
ANIMALS, TOOLS = ["cow", "horse", "sheep", "goat"], ["saw", "axe", "knife", "chisel"]


@pytest.mark.parametrize("config", COMPANY, ids=name)
def test_a_new_piece_is_mixed_of_those_whose_company_it_keeps(config: Any, makers: Any) -> None:
    rng = np.random.default_rng(0)
    scenes = ((ANIMALS, ["grass", "field", "milk", "farm"]), (TOOLS, ["wood", "shop", "cut", "steel"]))
    words = [word for scene in scenes for group in scene for word in group]
    texts = []
    for number in range(400):
        things, places = scenes[number % 2]
        texts.append(" ".join([*rng.choice(places, 2), rng.choice(things), *rng.choice(places, 2)]))
    source = makers.checkpoint(makers.word_piece([word for word in words if word not in ("goat", "chisel")]))
    target = makers.word_piece(words[::-1])
    weights = build_transfer(config).weights(TransferInput(source, target, texts, rng))
    for new, kin, strangers in (("goat", ANIMALS, TOOLS), ("chisel", TOOLS, ANIMALS)):
        row = weights[[target.backend.token_to_id(new)]].toarray()[0]
        share = {
            word: row[source.tokenizer.backend.token_to_id(word)] for word in {*kin, *strangers} - {"goat", "chisel"}
        }
        assert sum(share[word] for word in kin if word in share) > 0.6, share
        assert sum(share[word] for word in strangers if word in share) < 0.05, share


def test_all_transfers_are_tested_and_options_name_them() -> None:
    assert {config.kind for config in CONFIGS} == set(TRANSFERS)
    adapter = TypeAdapter(TransferConfig)
    for kind in TRANSFERS:
        assert adapter.validate_python({"kind": kind}).kind == kind
    with pytest.raises(ValidationError, match="temperature"):
        adapter.validate_python({"kind": "wechsel", "temperature": 0})
