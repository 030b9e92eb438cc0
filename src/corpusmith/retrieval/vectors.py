"""Vectors of any number of texts, into a file.

They are encoded window by window into a mapped file, so that memory does not grow with their number, and after each
window the file and the number of rows done are forced to the disk. An interrupted call goes on from there: the windows
are the same each time, and so are the bytes of the result.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from corpusmith.artefact import naming_machine_errors, reserve, write_whole
from corpusmith.retrieval.base import Progress
from corpusmith.retrieval.dense import WINDOW


def encode_to_file(
    path: Path,
    total: int,
    dimension: int,
    encode: Callable[[int, int, np.ndarray, Progress], object],
    progress: Progress | None = None,
    key: str = "",
) -> None:
    """Write `[total, dimension]` float32 vectors to the .npy file `path`; it appears when all of them are there.

    Args:
        path: where they go; what an interrupted call left behind stands beside it, under hidden names.
        total, dimension: the array's shape.
        encode: `encode(start, stop, out, progress)` fills `out` with the vectors of the texts from `start` to `stop`.
        progress: is told how many of `total` are done.
        key: identifies texts and model; what was left behind under another key is not gone on with.

    Raises:
        MachineError: the disk is full or not writable.
    """
    partial, marker = (path.with_name(f".{path.name}.{suffix}") for suffix in ("partial", "rows"))
    with naming_machine_errors(path):
        done = _rows_done(marker, key) if partial.exists() else 0
        mode, shape = ("r+", None) if done else ("w+", (total, dimension))
        vectors = np.lib.format.open_memmap(partial, mode, np.float32, shape)  # type: ignore[arg-type]
        reserve(partial)
        for start in range(done, total, WINDOW):
            stop = min(start + WINDOW, total)
            encode(start, stop, vectors[start:stop], _shifted(progress, start, total))
            vectors.flush()
            write_whole(marker, json.dumps({"key": key, "rows": stop}))
        del vectors
        partial.replace(path)
        marker.unlink(missing_ok=True)


def _rows_done(marker: Path, key: str) -> int:
    """Rows that an interrupted call with this key has finished."""
    try:
        content = json.loads(marker.read_text(encoding="utf-8"))
        return int(content["rows"]) if content["key"] == key else 0
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def _shifted(progress: Progress | None, start: int, total: int) -> Progress:
    """Progress within a window as progress of the whole."""

    def tell(done: int, _: int) -> None:
        if progress is not None:
            progress(start + done, total)

    return tell
