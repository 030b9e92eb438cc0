"""Texts in batches of bounded length."""

from __future__ import annotations

from corpusmith.corpus.batches import text_batches


def test_batches_hold_no_more_texts_and_characters_than_asked_for() -> None:
    texts = ["aa", "b", "", "c" * 9, "dd", "ee", "f"]
    found = list(text_batches(iter(texts), 3, 4))
    assert found == [["aa", "b", ""], ["c" * 9], ["dd", "ee"], ["f"]]
    assert list(text_batches([], 3, 4)) == []
