"""What must be remembered of every document and would not fit in memory: bytes, strings and hashes in files.

Files are appended to by plain writes and read at random, so that a full disk is an error like any other and the
operating system decides which pages stay in memory. Of each thing remembered, eight bytes at most stay in Python's.
"""

from __future__ import annotations

import os
from array import array
from itertools import chain
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import xxhash

TAIL_BYTES = 2**20
"""Bytes collected before they are written."""
RECENT_PAIRS = 2**15
"""Pairs of hash and number kept in a dictionary, at some 200 bytes each, before they become a sorted run."""
FAN_IN = 8
"""Runs of a size that are merged into one of the next size."""
MERGED_AT_ONCE = 2**20


class Spool:
    """Byte strings appended to a file and read again by their offset; the last ones are still in memory."""

    def __init__(self, path: Path) -> None:
        self._file: BinaryIO = path.open("w+b", buffering=0)
        self._written = 0
        self._tail = bytearray()

    def append(self, data: bytes) -> int:
        """Add these bytes; where they begin."""
        if len(self._tail) + len(data) > TAIL_BYTES:
            self._flush()
        offset = self._written + len(self._tail)
        self._tail += data
        return offset

    def read(self, offset: int, size: int) -> bytes:
        """`size` bytes of one string that was appended, from `offset` on."""
        if offset >= self._written:
            start = offset - self._written
            return bytes(self._tail[start : start + size])
        return os.pread(self._file.fileno(), size, offset)

    def close(self) -> None:
        """Close the file; what was not written is forgotten."""
        self._file.close()

    def _flush(self) -> None:
        rest = memoryview(self._tail)
        while rest:
            rest = rest[self._file.write(rest) :]
        self._written += len(self._tail)
        self._tail = bytearray()


class Strings:
    """Strings by number, in the order in which they were appended."""

    def __init__(self, path: Path) -> None:
        self._spool = Spool(path)
        self._ends = array("Q", [0])

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, number: int) -> str:
        start, end = self._ends[number], self._ends[number + 1]
        return self._spool.read(start, end - start).decode()

    def append(self, string: str) -> None:
        """Add one; its number is the length so far."""
        data = string.encode()
        self._ends.append(self._spool.append(data) + len(data))

    def close(self) -> None:
        """Close the file."""
        self._spool.close()


class _Run(NamedTuple):
    """Pairs sorted by hash, those of equal hashes by number; mapped."""

    hashes: np.ndarray
    numbers: np.ndarray


class HashIndex:
    """Which numbers were noted under a 64-bit hash, for more pairs than fit in memory.

    The latest pairs are in a dictionary, the others in sorted runs on the disk, each of the next size merged from
    `FAN_IN` smaller ones (a log-structured merge tree; O'Neil et al., 1996): a few dozen runs for a billion pairs.
    Hashes must be spread evenly over all 64 bits, and numbers must not fall.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._recent: dict[int, list[int]] = {}
        self._recent_pairs = 0
        self._levels: list[list[_Run]] = []
        self._made = 0

    def find(self, hashes: np.ndarray) -> np.ndarray:
        """All numbers noted under one of these hashes (uint64), each once, ascending."""
        found = []
        for run in chain.from_iterable(self._levels):
            places = np.searchsorted(run.hashes, hashes)
            hits = run.hashes[np.minimum(places, len(run.hashes) - 1)] == hashes
            if hits.any():
                ends = np.searchsorted(run.hashes, hashes[hits], side="right")
                found += [run.numbers[start:end] for start, end in zip(places[hits], ends, strict=True)]
        recent = [self._recent[value] for value in hashes.tolist() if value in self._recent]
        found.append(np.fromiter(chain.from_iterable(recent), dtype=np.uint32))
        return np.unique(np.concatenate(found))

    def add(self, hashes: np.ndarray, number: int) -> None:
        """Note a number under these hashes."""
        for value in hashes.tolist():
            self._recent.setdefault(value, []).append(number)
        self._recent_pairs += len(hashes)
        if self._recent_pairs >= RECENT_PAIRS:
            self._spill()

    def _spill(self) -> None:
        """Make a run of what is in the dictionary, and larger runs of small ones where there are enough."""
        sizes = [len(numbers) for numbers in self._recent.values()]
        hashes = np.repeat(np.fromiter(self._recent, dtype=np.uint64, count=len(sizes)), sizes)
        numbers = np.fromiter(chain.from_iterable(self._recent.values()), dtype=np.uint32, count=len(hashes))
        self._recent, self._recent_pairs = {}, 0
        run = self._write([_Run(hashes, numbers)])
        for level in self._levels:
            level.append(run)
            if len(level) < FAN_IN:
                return
            run = self._write(level)
            level.clear()
        self._levels.append([run])

    def _write(self, parts: list[_Run]) -> _Run:
        """One sorted run of several, on the disk; sorted parts are merged a range of hashes at a time."""
        path, self._made = self._folder / f"{self._made}.run", self._made + 1
        total = sum(len(part.hashes) for part in parts)
        ranges = max(1, total // MERGED_AT_ONCE) if len(parts) > 1 else 1
        starts = np.array([number * (2**64 // ranges) for number in range(ranges)], dtype=np.uint64)
        bounds = [[*np.searchsorted(part.hashes, starts[1:]).tolist(), len(part.hashes)] for part in parts]
        with path.open("wb") as hash_file, path.with_suffix(".numbers").open("wb") as number_file:
            begins = [0] * len(parts)
            for ends in zip(*bounds, strict=True):
                slices = [slice(begin, end) for begin, end in zip(begins, ends, strict=True)]
                hashes = np.concatenate([part.hashes[place] for part, place in zip(parts, slices, strict=True)])
                numbers = np.concatenate([part.numbers[place] for part, place in zip(parts, slices, strict=True)])
                order = np.argsort(hashes, kind="stable")
                hash_file.write(hashes[order].tobytes())
                number_file.write(numbers[order].tobytes())
                begins = list(ends)
        for part in parts:
            _remove(part)
        return _Run(
            np.memmap(path, dtype=np.uint64, mode="r"), np.memmap(path.with_suffix(".numbers"), np.uint32, mode="r")
        )


class StringSet:
    """A set of strings, in an existing folder of its own."""

    def __init__(self, folder: Path) -> None:
        self._strings = Strings(folder / "strings")
        self._index = HashIndex(folder)

    def __contains__(self, string: str) -> bool:
        return any(self._strings[int(number)] == string for number in self._index.find(_hash(string)))

    def add(self, string: str) -> None:
        """Add one that is not there yet."""
        self._index.add(_hash(string), len(self._strings))
        self._strings.append(string)

    def close(self) -> None:
        """Close the files."""
        self._strings.close()


def _hash(string: str) -> np.ndarray:
    return np.array([xxhash.xxh3_64_intdigest(string.encode())], dtype=np.uint64)


def _remove(run: _Run) -> None:
    """Delete the files of a run that was merged; what is mapped of them is given back when nobody holds it."""
    for values in run:
        if isinstance(values, np.memmap):
            Path(str(values.filename)).unlink()
