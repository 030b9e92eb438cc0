"""A text file as a sequence of its lines, decoded when they are asked for: ten million never sit in memory."""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Sequence
from pathlib import Path
from typing import overload

import numpy as np

BLOCK = 1 << 26
NEWLINE = ord("\n")


class Lines(Sequence[str]):
    """The lines of UTF-8 bytes; only a newline ends one, a carriage return before it is dropped, and bytes that are no
    UTF-8 become replacement characters."""

    def __init__(self, content: bytes | mmap.mmap) -> None:
        self._content = content
        size = len(content)
        ends = [
            start + np.flatnonzero(np.frombuffer(content[start : start + BLOCK], dtype=np.uint8) == NEWLINE)
            for start in range(0, size, BLOCK)
        ]
        found = np.concatenate([*ends, np.zeros(0, dtype=np.int64)])
        if size and content[size - 1 : size] != b"\n":
            found = np.append(found, size)
        self._ends = found  # [N], where each line ends

    @classmethod
    def open(cls, path: Path) -> Lines:
        """Map a file.

        Raises:
            OSError: it cannot be read.
        """
        if not path.is_file() or path.stat().st_size == 0:  # a pipe, or what cannot be mapped
            return cls(path.read_bytes())
        with path.open("rb") as file:
            return cls(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))

    def digest(self) -> str:
        """SHA-256 of all of it."""
        return hashlib.sha256(self._content).hexdigest()

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, position: int) -> str: ...
    @overload
    def __getitem__(self, position: slice) -> list[str]: ...
    def __getitem__(self, position: int | slice) -> str | list[str]:
        """One line, or a list of several."""
        if isinstance(position, slice):
            return [self[i] for i in range(*position.indices(len(self)))]
        number = range(len(self))[position]
        start = int(self._ends[number - 1]) + 1 if number else 0
        line = self._content[start : int(self._ends[number])]
        return line.decode("utf-8", errors="replace").removesuffix("\r")
