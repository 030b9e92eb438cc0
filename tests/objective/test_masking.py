from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpusmith.corpus.shards import TokenShards
from corpusmith.errors import ModelError
from corpusmith.objective.config import MaskedLanguageConfig
from corpusmith.objective.data import TrainingData
from corpusmith.objective.masking import Masking

CLS, SEP, MASK, FIRST_ORDINARY, SIZE = 1, 2, 3, 4, 60
TOKENIZER = SimpleNamespace(
    mask=MASK,
    size=SIZE,
    special_ids=np.arange(FIRST_ORDINARY),
    is_word_start=np.arange(SIZE) % 3 != 0,  # every third piece goes on the word before it
)

batches = st.lists(
    st.lists(st.integers(FIRST_ORDINARY, SIZE - 1), max_size=30).map(lambda ids: [CLS, *ids, SEP]),
    min_size=1,
    max_size=8,
)


def mask(sequences, draws=None, **options):
    ids, lengths = np.concatenate(sequences), np.array([len(s) for s in sequences])
    draws = np.random.default_rng(0).random((len(ids), 3)) if draws is None else draws
    masking = Masking(MaskedLanguageConfig(**options), TOKENIZER)
    return ids, lengths, masking(ids, lengths, draws)


@given(batches, st.floats(0.05, 0.95), st.booleans())
def test_special_tokens_are_never_hidden_and_targets_are_what_stood_there(sequences, rate, whole_words):
    ids, _, masked = mask(sequences, masking_rate=rate, whole_words=whole_words)
    assert (ids[masked.places] >= FIRST_ORDINARY).all()
    assert (masked.targets == ids[masked.places]).all()
    untouched = np.setdiff1d(np.arange(len(ids)), masked.places)
    assert (masked.ids[untouched] == ids[untouched]).all()


@given(batches, st.floats(0.05, 0.95))
def test_each_sequence_hides_its_share_and_at_least_one_token(sequences, rate):
    _, lengths, masked = mask(sequences, masking_rate=rate)
    sequence = np.repeat(np.arange(len(lengths)), lengths)
    hidden = np.bincount(sequence[masked.places], minlength=len(lengths))
    for length, count in zip(lengths - 2, hidden, strict=True):
        assert count == (max(1, round(rate * length)) if length else 0)


@given(batches, st.floats(0.05, 0.95))
def test_whole_words_are_hidden_or_left_whole(sequences, rate):
    ids, lengths, masked = mask(sequences, masking_rate=rate, whole_words=True)
    is_hidden = np.zeros(len(ids), dtype=bool)
    is_hidden[masked.places] = True
    starts = set((np.cumsum(lengths) - lengths).tolist())
    for place in range(1, len(ids)):
        goes_on = ids[place] >= FIRST_ORDINARY and ids[place - 1] >= FIRST_ORDINARY and ids[place] % 3 == 0
        if goes_on and place not in starts:
            assert is_hidden[place] == is_hidden[place - 1]


@given(batches, st.integers(1, 7), st.booleans())
def test_a_batch_masked_in_parts_is_masked_like_the_whole(sequences, cut, whole_words):
    draws = np.random.default_rng(1).random((sum(map(len, sequences)), 3))
    cut = min(cut, len(sequences))
    _, _, whole = mask(sequences, draws, whole_words=whole_words)
    border = sum(map(len, sequences[:cut]))
    parts = [mask(sequences[:cut], draws[:border], whole_words=whole_words)[2].ids]
    if sequences[cut:]:
        parts.append(mask(sequences[cut:], draws[border:], whole_words=whole_words)[2].ids)
    assert (np.concatenate(parts) == whole.ids).all()


def test_hidden_tokens_are_replaced_in_the_shares_asked_for():
    sequences = [[CLS, *np.random.default_rng(2).integers(FIRST_ORDINARY, SIZE, 400), SEP] for _ in range(20)]
    ids, _, masked = mask(sequences, masking_rate=0.5, mask_share=0.6, random_share=0.3)
    found = masked.ids[masked.places]
    assert np.mean(found == MASK) == pytest.approx(0.6, abs=0.03)
    changed = (found != MASK) & (found != ids[masked.places])
    assert np.mean(changed) == pytest.approx(0.3 * (1 - 1 / (SIZE - FIRST_ORDINARY)), abs=0.03)
    assert found[changed].min() >= FIRST_ORDINARY


def test_a_tokenizer_without_a_mask_token_is_refused_by_name():
    with pytest.raises(ModelError, match="no mask token"):
        Masking(MaskedLanguageConfig(), SimpleNamespace(mask=None))


PASSAGES = [np.random.default_rng(number).integers(FIRST_ORDINARY, SIZE, 30).tolist() for number in range(40)]
COMMON, RARE = 7, 8  # stand in all of these passages, and in three


def weighty_data() -> TrainingData:
    texts = [[COMMON, *text[:20], *([RARE] if number < 3 else [])] for number, text in enumerate(PASSAGES)]
    offsets = np.concatenate([[0], np.cumsum([len(text) for text in texts])])
    shards = TokenShards(np.concatenate(texts).astype(np.uint16), offsets)
    return TrainingData(shards, np.arange(len(texts)), np.arange(len(texts)))


@given(batches, st.floats(0.05, 0.95), st.booleans())
def test_by_importance_the_rate_is_as_exact_and_special_tokens_stay(sequences, rate, whole_words):
    ids, lengths = np.concatenate(sequences), np.array([len(s) for s in sequences])
    draws = np.random.default_rng(0).random((len(ids), 3))
    options = {"masking_rate": rate, "whole_words": whole_words}
    masked = [
        Masking(MaskedLanguageConfig(choose=choose, **options), TOKENIZER, weighty_data())(ids, lengths, draws)
        for choose in ("random", "importance")
    ]
    sequence = np.repeat(np.arange(len(lengths)), lengths)
    by_chance, weighed = (np.bincount(sequence[m.places], minlength=len(lengths)) for m in masked)
    assert (ids[masked[1].places] >= FIRST_ORDINARY).all()
    if whole_words:
        words = np.bincount(sequence, ~TOKENIZER.is_word_start[ids], minlength=len(lengths))
        assert (np.abs(by_chance - weighed) <= 1 + words).all()
    else:
        assert (by_chance == weighed).all()


def test_weightier_tokens_are_hidden_more_often_in_proportion_to_their_weight():
    masking = Masking(MaskedLanguageConfig(choose="importance", masking_rate=0.1), TOKENIZER, weighty_data())
    sequence = [CLS, COMMON, *[COMMON + 1 + i for i in range(9)], SEP]  # RARE is among the nine
    ids, lengths = np.tile(sequence, 20_000), np.full(20_000, 12)
    masked = masking(ids, lengths, np.random.default_rng(0).random((len(ids), 3)))
    weights = masking.terms.bm25(np.array(sequence), np.array([12]))[1:-1]
    hidden = np.bincount(masked.places % 12, minlength=12)[1:-1] / 20_000
    assert hidden == pytest.approx(weights / weights.sum(), abs=0.015)
    assert hidden[1] > 20 * hidden[0]


def test_a_word_weighs_as_much_as_its_weightiest_piece():
    config = MaskedLanguageConfig(choose="importance", masking_rate=0.01, whole_words=True)
    masking = Masking(config, TOKENIZER, weighty_data())
    ids, lengths = np.tile([CLS, RARE, 9, COMMON, SEP], 4000), np.full(4000, 5)  # 9 goes on the word before it
    masked = masking(ids, lengths, np.random.default_rng(0).random((len(ids), 3)))
    weights = masking.terms.bm25(ids[:5], lengths[:1])
    word = max(weights[1:3])
    assert np.mean(ids[masked.places] == RARE) > 0
    assert np.sum(ids[masked.places] == RARE) == np.sum(ids[masked.places] == 9)
    assert np.sum(ids[masked.places] == RARE) / 4000 == pytest.approx(word / (word + weights[3]), abs=0.02)


@given(batches, st.integers(1, 7))
def test_a_batch_masked_by_importance_in_parts_is_masked_like_the_whole(sequences, cut):
    masking = Masking(MaskedLanguageConfig(choose="importance", whole_words=True), TOKENIZER, weighty_data())
    ids, lengths = np.concatenate(sequences), np.array([len(s) for s in sequences])
    draws = np.random.default_rng(1).random((len(ids), 3))
    border = int(lengths[:cut].sum())
    parts = [masking(ids[:border], lengths[:cut], draws[:border]).ids]
    if sequences[cut:]:
        parts.append(masking(ids[border:], lengths[cut:], draws[border:]).ids)
    assert (np.concatenate(parts) == masking(ids, lengths, draws).ids).all()


def test_importance_without_texts_to_count_is_one_clear_sentence():
    with pytest.raises(ModelError, match="cannot choose what it hides by importance"):
        Masking(MaskedLanguageConfig(choose="importance"), TOKENIZER)


@pytest.mark.parametrize(("progress", "rate", "share"), [(0.0, 0.2, 0.9), (0.5, 0.35, 0.6), (1.0, 0.5, 0.3)])
def test_rate_and_corruption_move_in_a_straight_line(progress, rate, share):
    config = MaskedLanguageConfig(masking_rate=0.2, final_rate=0.5, mask_share=0.9, final_mask_share=0.3)
    masking = Masking(config, TOKENIZER)
    ids = np.array([CLS, *np.random.default_rng(2).integers(FIRST_ORDINARY, SIZE, 8000), SEP])
    masked = masking(ids, np.array([len(ids)]), np.random.default_rng(3).random((len(ids), 3)), progress)
    assert masking.rate(progress) == pytest.approx(rate)
    assert len(masked.places) == round(rate * 8000)
    assert np.mean(masked.ids[masked.places] == MASK) == pytest.approx(share, abs=0.03)


def test_the_strategy_begins_when_it_is_to_begin():
    options = {"choose": "importance", "whole_words": True}
    late = Masking(MaskedLanguageConfig(strategy_from=0.4, **options), TOKENIZER, weighty_data())
    always = Masking(MaskedLanguageConfig(**options), TOKENIZER, weighty_data())
    never = Masking(MaskedLanguageConfig(), TOKENIZER)
    ids, lengths = np.array([CLS, *PASSAGES[0], SEP]), np.array([32])
    draws = np.random.default_rng(0).random((32, 3))
    assert (late(ids, lengths, draws, 0.39).places == never(ids, lengths, draws).places).all()
    assert (late(ids, lengths, draws, 0.4).places == always(ids, lengths, draws).places).all()
    assert not np.array_equal(never(ids, lengths, draws).places, always(ids, lengths, draws).places)


def test_an_objective_that_does_not_tell_the_progress_cannot_have_a_curriculum():
    masking = Masking(MaskedLanguageConfig(final_rate=0.5), TOKENIZER)
    with pytest.raises(ModelError, match="leave out final_rate"):
        masking(np.array([CLS, 9, SEP]), np.array([3]), np.zeros((3, 3)))
