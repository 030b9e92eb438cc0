"""Texts in batches of bounded length."""

from __future__ import annotations

from collections.abc import Iterable, Iterator


def text_batches(texts: Iterable[str], most: int, most_characters: int) -> Iterator[list[str]]:
    """The texts in turn, at most so many and of so many characters together; of longer texts one at a time."""
    batch: list[str] = []
    characters = 0
    for text in texts:
        if batch and (len(batch) == most or characters + len(text) > most_characters):
            yield batch
            batch, characters = [], 0
        batch.append(text)
        characters += len(text)
    if batch:
        yield batch
