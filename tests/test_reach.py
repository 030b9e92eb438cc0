"""How much of the passages a model does not read."""

from __future__ import annotations

import numpy as np
import pytest

from corpusmith.corpus.config import CorpusConfig
from corpusmith.pipeline.reach import advice, fitting_words, share_beyond


@pytest.mark.parametrize(("lengths", "share"), [([100, 50], 0.0), ([200, 100], 1 / 3), ([], 0.0), ([0], 0.0)])
def test_what_lies_beyond_is_counted_by_passage(lengths: list[int], share: float) -> None:
    assert share_beyond(np.array(lengths, dtype=np.int64), 100) == pytest.approx(share)


def test_passages_as_short_as_advised_are_read() -> None:
    lengths = np.full(100, 427)  # 180 words of German law
    words = fitting_words(lengths, 254, 180)
    assert words == 100
    assert share_beyond(lengths * words / 180, 254) < 0.02
    assert fitting_words(np.full(10, 100_000), 254, 180) == 20


def test_the_mend_is_named_where_much_is_out_of_reach_and_nothing_is_said_elsewhere() -> None:
    said = advice(np.full(100, 427), 256, CorpusConfig())
    assert said.startswith("41% of the passages' tokens lie beyond the 254 that the model reads")
    assert "corpus.passage_words = 100 cuts" in said
    assert advice(np.full(100, 260), 256, CorpusConfig()) == ""
    far = advice(np.full(100, 2000), 256, CorpusConfig())
    assert "corpus.passage_words = 20 and corpus.overlap_words = 10" in far
    assert CorpusConfig(passage_words=20, overlap_words=10)
