"""A text file as a sequence of its lines, read and decoded when they are asked for: ten million never sit in memory.

The file is read and not mapped: a map of a file that somebody shortens ends the process (SIGBUS), where a read can say
what happened.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, overload

import numpy as np

from corpusmith.errors import CorpusError

BLOCK = 1 << 26
NEWLINE = ord("\n")


class Lines(Sequence[str]):
    """The lines of UTF-8 bytes; only a newline ends one, a carriage return before it is dropped, and bytes that are no
    UTF-8 become replacement characters."""

    def __init__(self, content: bytes | BinaryIO) -> None:
        self._file = io.BytesIO(content) if isinstance(content, bytes) else content
        self._state = self._current_state()
        ends, size, last = [np.zeros(0, dtype=np.int64)], 0, b"\n"
        for block in self._blocks():
            ends.append(size + np.flatnonzero(np.frombuffer(block, dtype=np.uint8) == NEWLINE))
            size, last = size + len(block), block[-1:]
        if last != b"\n":
            ends.append(np.array([size]))
        self._ends = np.concatenate(ends)  # [N], where each line ends

    @classmethod
    def open(cls, path: Path) -> Lines:
        """The lines of a file, which must stay as it is for as long as they are asked for.

        Raises:
            OSError: it cannot be read.
        """
        if not path.is_file():  # a pipe, which is read once
            return cls(path.read_bytes())
        return cls(path.open("rb"))

    def digest(self) -> str:
        """SHA-256 of all of it."""
        digest = hashlib.sha256()
        for block in self._blocks():
            digest.update(block)
        return digest.hexdigest()

    def _blocks(self) -> Iterator[bytes]:
        """All bytes, in pieces.

        Raises:
            CorpusError: the file has changed.
        """
        self._file.seek(0)
        while block := self._file.read(BLOCK):
            yield block
        self._refuse_change()

    def _refuse_change(self) -> None:
        if self._current_state() != self._state:
            raise CorpusError(f"{self._file.name} changed while it was being read; run the same command again.")

    def _current_state(self) -> tuple[int, int]:
        """What tells that a file has changed: its size and when it was written last."""
        if isinstance(self._file, io.BytesIO):
            return 0, 0
        status = os.fstat(self._file.fileno())
        return status.st_size, status.st_mtime_ns

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, position: int) -> str: ...
    @overload
    def __getitem__(self, position: slice) -> list[str]: ...
    def __getitem__(self, position: int | slice) -> str | list[str]:
        """One line, or a list of several.

        Raises:
            CorpusError: the file has changed.
        """
        numbers = range(len(self))[position]
        lines = [self._line(number) for number in (numbers if isinstance(numbers, range) else (numbers,))]
        self._refuse_change()
        return lines if isinstance(numbers, range) else lines[0]

    def _line(self, number: int) -> str:
        start = int(self._ends[number - 1]) + 1 if number else 0
        self._file.seek(start)
        line = self._file.read(int(self._ends[number]) - start)
        return line.decode("utf-8", errors="replace").removesuffix("\r")
