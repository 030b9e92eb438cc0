"""Vectors of any number of texts, into a file.

They are encoded window by window into a mapped file, so that memory does not grow with their number, and after each
window the file, the number of rows done and their digest are forced to the disk. An interrupted call goes on from
there, if the rows are still the same: the windows are the same each time, and so are the bytes of the result.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np

from corpusmith.arrays import save_array
from corpusmith.digests import seal, unseal
from corpusmith.disk import naming_machine_errors, reserve, sync, write_whole
from corpusmith.locks import locked_file
from corpusmith.retrieval.base import Progress
from corpusmith.retrieval.dense import WINDOW

Fill = Callable[[int, int, np.ndarray, Progress], object]
"""`fill(start, stop, out, progress)` writes the vectors of the texts from `start` to `stop` into `out`."""


def encode_to_file(
    path: Path,
    total: int,
    dimension: int,
    encode: Fill,
    progress: Progress | None = None,
    key: str = "",
    scratch: Path | None = None,
    dtype: type[np.floating] = np.float32,
) -> None:
    """Write `[total, dimension]` vectors to the .npy file `path`; it appears when all of them are there.

    Args:
        path: where they go.
        total, dimension: the array's shape.
        encode: computes the vectors of some of the texts.
        progress: is told how many of `total` are done.
        key: identifies texts and model; what was left behind under another key is not gone on with.
        scratch: an existing folder for what an interrupted call leaves behind. It is not tidied up: as long as it is
            there, a file that is whole is not made again. By default all stands beside `path` under hidden names
            until the file is whole.
        dtype: of the array in the file.

    Raises:
        MachineError: the disk is full or not writable, or (without `scratch`, which has an owner) another process
            writes this file.
    """
    if scratch is not None:
        partial, marker = (scratch / f"{path.name}.{suffix}" for suffix in ("partial", "rows"))
    else:
        partial, marker = (path.with_name(f".{path.name}.{suffix}") for suffix in ("partial", "rows"))
    shape = (total, dimension)
    with naming_machine_errors(path), nullcontext() if scratch is not None else locked_file(path):
        if total == 0:
            save_array(path, np.zeros(shape, dtype=dtype))
        elif partial.exists() or _rows_done(path, marker, shape, key, dtype)[0] < total:
            _fill(partial, marker, shape, encode, progress, key, dtype)
            partial.replace(path)
            sync(path.parent)
        if scratch is None:
            marker.unlink(missing_ok=True)


def _fill(
    partial: Path,
    marker: Path,
    shape: tuple[int, int],
    encode: Fill,
    progress: Progress | None,
    key: str,
    dtype: type[np.floating],
) -> None:
    """Make the file, or go on with it after the rows that the marker vouches for."""
    total = shape[0]
    done, digest = _rows_done(partial, marker, shape, key, dtype)
    vectors = np.lib.format.open_memmap(partial, "r+" if done else "w+", dtype, None if done else shape)
    reserve(partial)
    for start in range(done, total, WINDOW):
        stop = min(start + WINDOW, total)
        encode(start, stop, vectors[start:stop], _shifted(progress, start, total))
        vectors.flush()
        digest.update(vectors[start:stop].data)
        write_whole(marker, seal({"key": key, "rows": stop, "sha256": digest.hexdigest()}))


def _rows_done(
    path: Path, marker: Path, shape: tuple[int, int], key: str, dtype: type[np.floating]
) -> tuple[int, hashlib._Hash]:
    """How many of the file's rows the marker vouches for, and their digest; none if anything has changed."""
    digest = hashlib.sha256()
    try:
        content = unseal(marker.read_bytes())
        vectors = np.load(path, mmap_mode="r", allow_pickle=False)
        if content["key"] == key and (vectors.shape, vectors.dtype) == (shape, dtype):
            for start in range(0, content["rows"], WINDOW):
                digest.update(vectors[start : min(start + WINDOW, content["rows"])].data)
            if digest.hexdigest() == content["sha256"]:
                return content["rows"], digest
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return 0, hashlib.sha256()


def _shifted(progress: Progress | None, start: int, total: int) -> Progress:
    """Progress within a window as progress of the whole."""

    def tell(done: int, _: int) -> None:
        if progress is not None:
            progress(start + done, total)

    return tell
