"""Token ids of many texts in two memory-mapped arrays.

Tokenising is done once and training reads the same texts many times in random order, so the ids lie back to back in
one array and an offset table says where each text begins: a read costs two look-ups and no parsing, the operating
system keeps what is hot in memory, and a corpus larger than memory needs no special case. Ids take two bytes where the
vocabulary allows it. Special tokens are not stored: where they belong is the objective's business, and texts can be
cut or joined without looking for them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from operator import index
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np

from corpusmith.arrays import open_array, save_array
from corpusmith.errors import ArtefactError, ModelError

TOKENS = "tokens.npy"
OFFSETS = "offsets.npy"
BATCH = 1000


class Encodes(Protocol):
    """The part of a tokenizer that shards need."""

    @property
    def size(self) -> int:
        """Number of ids: all are below it."""
        ...

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        """One array of ids a text, without special tokens."""
        ...


class TokenShards(Sequence[np.ndarray]):
    """N token sequences; `shards[i]` is the i-th, a read-only view into the mapped file.

    `offsets` is int64 [N+1]; sequence i is `tokens[offsets[i]:offsets[i+1]]`.
    """

    def __init__(self, tokens: np.ndarray, offsets: np.ndarray):
        self.tokens = tokens
        self.offsets = offsets

    @classmethod
    def open(cls, folder: Path) -> TokenShards:
        """Map the shards in `folder`.

        Raises:
            ArtefactError: a file is missing, damaged, or does not fit the other.
        """
        offsets = open_array(folder / OFFSETS)
        tokens = open_array(folder / TOKENS, "r")
        if tokens.ndim != 1 or tokens.dtype not in (np.uint16, np.uint32):
            raise ArtefactError(f"{folder / TOKENS} does not hold token ids; build the artefact again")
        if offsets.ndim != 1 or offsets.dtype != np.int64 or not len(offsets) or offsets[0] != 0:
            raise ArtefactError(f"{folder / OFFSETS} does not hold offsets; build the artefact again")
        if offsets[-1] != len(tokens) or np.any(np.diff(offsets) < 0):
            raise ArtefactError(
                f"{folder / TOKENS} holds {len(tokens)} tokens where {OFFSETS} tells of {offsets[-1]}; "
                "build the artefact again"
            )
        return cls(tokens, offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, position):  # type: ignore[no-untyped-def, override]
        """The ids of one text, uint16 or uint32 [length]; a slice gives the list of several."""
        if isinstance(position, slice):
            return [self[row] for row in range(*position.indices(len(self)))]
        row = index(position)
        if row < 0:
            row += len(self)
        if not 0 <= row < len(self):
            raise IndexError(f"row {position} of {len(self)} token sequences")
        return self.tokens[self.offsets[row] : self.offsets[row + 1]]

    @property
    def lengths(self) -> np.ndarray:
        """Number of tokens of each text, int64 [N]."""
        return np.diff(self.offsets)

    @property
    def n_tokens(self) -> int:
        """Number of tokens of all texts together."""
        return int(self.offsets[-1])


def write_shards(texts: Iterable[str], tokenizer: Encodes, folder: Path) -> TokenShards:
    """Tokenise `texts` into `folder` and open the result; memory holds one batch of texts and the offsets.

    Raises:
        ModelError: the tokenizer gives an id that its vocabulary does not have.
    """
    dtype = np.dtype(np.uint16 if tokenizer.size <= 2**16 else np.uint32)
    lengths: list[np.ndarray] = []
    with (folder / TOKENS).open("wb") as file:
        _write_header(file, dtype, 0)
        for encoded in _batches(texts, tokenizer):
            lengths.append(np.array([len(ids) for ids in encoded], dtype=np.int64))
            ids = np.concatenate(encoded)
            if len(ids) and not 0 <= ids.min() <= ids.max() < tokenizer.size:
                raise ModelError(
                    f"the tokenizer gave the id {ids.max()} but has {tokenizer.size} entries; its files do not fit "
                    "together, take them again from the model's source"
                )
            file.write(ids.astype(dtype).tobytes())
        offsets = np.concatenate([np.zeros(1, dtype=np.int64), *lengths]).cumsum()
        _write_header(file, dtype, int(offsets[-1]))
    save_array(folder / OFFSETS, offsets)
    return TokenShards.open(folder)


def _batches(texts: Iterable[str], tokenizer: Encodes) -> Iterator[list[np.ndarray]]:
    stream = iter(texts)
    while batch := list(islice(stream, BATCH)):
        yield [np.asarray(ids) for ids in tokenizer.encode(batch)]


def _write_header(file: BinaryIO, dtype: np.dtype, length: int) -> None:
    """Write the npy header for `length` ids at the file's beginning.

    The length is known only at the end. NumPy pads headers so that the first axis may grow in place, so the header
    for 0 ids takes as many bytes as the final one (numpy.lib.format, GROWTH_AXIS_MAX_DIGITS).
    """
    file.seek(0)
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (length,)}
    np.lib.format.write_array_header_1_0(file, header)
