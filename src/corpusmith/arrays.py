"""Arrays in artefacts: one `.npy` file each, never pickled."""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from typing import Literal

import numpy as np

from corpusmith.errors import ArtefactError


def save_array(path: Path, array: np.ndarray) -> None:
    """Write a `.npy` file by way of a sibling: an array may be saved over the very file it was opened from."""
    sibling = path.with_name(f".{path.name}")
    np.save(sibling, array, allow_pickle=False)
    os.replace(sibling, path)


def open_array(
    path: Path, mode: Literal["r", "c"] = "c", part_of: str = "artefact", *, ahead: bool = True
) -> np.ndarray:
    """Open a `.npy` file; `part_of` says what must be built again if that fails.

    By default it is mapped copy-on-write: pages are read when touched and never written back. `mode` "r" maps it
    read-only. Unless `ahead`, the system reads no more than what is touched: where hundreds of files are read in turns,
    what it reads ahead is given up before anybody comes to it.

    Raises:
        ArtefactError: the file is missing or no array.
    """
    try:
        array = np.load(path, mmap_mode=mode, allow_pickle=False)
        if not ahead and isinstance(array.base, mmap.mmap) and hasattr(mmap, "MADV_RANDOM"):
            array.base.madvise(mmap.MADV_RANDOM)
        return np.asarray(array)  # no memmap: its items take longer to get
    except FileNotFoundError:
        raise ArtefactError(f"{path} is missing; build the {part_of} again.") from None
    except (ValueError, OSError, EOFError) as error:
        raise ArtefactError(f"{path} is damaged ({error}); build the {part_of} again.") from error
