"""Writing to a disk that may be full, and files that are there whole or not at all."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from corpusmith.errors import CorpusmithError, MachineError

REASONS = {
    errno.ENOSPC: "the disk is full; free some space",
    errno.EDQUOT: "the disk quota is used up; free some space",
    errno.EFBIG: "the file would be larger than is allowed here; raise the limit (ulimit -f) or choose another folder",
    errno.EROFS: "the file system is read-only; choose another folder",
    errno.EACCES: "permission denied; choose another folder or change its permissions",
    errno.EPERM: "permission denied; choose another folder or change its permissions",
    errno.ENOTDIR: "part of that path is a file, not a folder; choose another folder",
    errno.EEXIST: "a file is in the way; choose another folder",
    errno.EISDIR: "a folder is in the way; choose another name",
    errno.EBUSY: "the folder is in use, perhaps a disk is mounted there; choose another folder",
    errno.ENOENT: "the folder it belongs in is not there and cannot be made; choose another folder",
    errno.ELOOP: "a symbolic link is in the way; remove it or choose another folder",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
    errno.EIO: "the device reported an input/output error; check the disk",
    errno.ENOMEM: "the machine is out of memory; close other programs or choose a smaller batch",
}


@contextmanager
def naming_machine_errors(target: Path) -> Iterator[None]:
    """Turn a full disk, a read-only folder or a failing device into one sentence that names it."""
    try:
        yield
    except Exception as error:
        reason = REASONS.get(_error_number(error))
        if reason is None:
            raise
        raise MachineError(
            f"cannot write {target}: {reason} and run the same command again (finished steps are kept)."
        ) from error


def _error_number(error: Exception) -> int:
    """The system's number of an error, 0 if it has none.

    Libraries written in Rust (safetensors, tokenizers) raise errors of their own that have it in the text alone;
    numpy says only how much of an array it could write, and that is less than all where the disk is full.
    """
    if isinstance(error, OSError) and error.errno:
        return error.errno
    if isinstance(error, OSError) and re.search(r"requested and \d+ written", str(error)):
        return errno.ENOSPC
    stated = re.search(r"\(os error (\d+)\)", str(error))
    return int(stated[1]) if stated and not isinstance(error, CorpusmithError) else 0


def sync(path: Path) -> None:
    """Force a file or folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def reserve(path: Path) -> None:
    """Claim the disk space that a new file's length promises, before it is written by way of a memory map: a map that
    meets a full disk ends the process (SIGBUS) where nothing could say why.

    Raises:
        OSError: there is not enough space.
    """
    size = path.stat().st_size
    if hasattr(os, "posix_fallocate") and size:
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, size)


def write_whole(path: Path, data: str | bytes) -> None:
    """Replace one file by way of a synced temporary sibling: it holds the old content or the new, never a part."""
    temporary = path.with_name(f".{path.name}.partial")
    with naming_machine_errors(path):
        temporary.write_bytes(data.encode() if isinstance(data, str) else data)
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)


def link_file(source: Path, target: Path) -> None:
    """A finished file under another name, without copying its bytes where the file system can link."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
