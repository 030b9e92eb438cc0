from __future__ import annotations

from types import SimpleNamespace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from corpusmith.model.cross_encoder import join, joined_lengths

CLS, SEP = 1, 2
TOKENIZER = SimpleNamespace(cls=CLS, sep=SEP)


@given(st.integers(0, 40), st.integers(0, 40), st.integers(8, 60))
def test_the_passage_is_cut_first_and_the_query_beyond_half_of_the_room(query_length, passage_length, max_tokens):
    query, passage = np.arange(100, 100 + query_length), np.arange(200, 200 + passage_length)
    found = join(query, passage, TOKENIZER, max_tokens).tolist()
    assert len(found) == joined_lengths(np.array(query_length), np.array(passage_length), max_tokens)
    assert (found[0], found[-1], found.count(SEP)) == (CLS, SEP, 2)
    border = found.index(SEP)
    words, text = found[1:border], found[border + 1 : -1]
    assert words == query[: len(words)].tolist()
    assert text == passage[: len(text)].tolist()
    room = max_tokens - 3
    if query_length + passage_length <= room:
        assert (len(words), len(text)) == (query_length, passage_length)
    else:
        assert len(words) + len(text) == room
        assert len(words) == min(query_length, max(room // 2, room - passage_length))
