from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpusmith.model.packed import pack


@given(st.lists(st.lists(st.integers(0, 1000), min_size=1, max_size=20), min_size=1, max_size=20))
def test_packing_keeps_every_sequence_with_its_positions(sequences: list[list[int]]) -> None:
    packed = pack([np.array(sequence) for sequence in sequences])
    assert len(packed) == len(sequences)
    starts = packed.cu_seqlens.tolist()
    for sequence, start, stop in zip(sequences, starts, starts[1:], strict=False):
        assert packed.ids[start:stop].tolist() == sequence
        assert packed.positions[start:stop].tolist() == list(range(len(sequence)))
    assert packed.lengths.tolist() == [len(sequence) for sequence in sequences]


@pytest.mark.parametrize("sequences", [[], [np.array([1]), np.array([], dtype=np.int64)]])
def test_nothing_and_empty_sequences_are_refused(sequences: list[np.ndarray]) -> None:
    with pytest.raises(ValueError, match="at least one sequence and no empty one"):
        pack(sequences)
