from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpusmith.errors import ModelError
from corpusmith.objective.config import MaskedLanguageConfig
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
