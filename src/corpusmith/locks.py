"""One writer at a time: locks that go with their process, however it ends."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from corpusmith.disk import naming_machine_errors
from corpusmith.errors import MachineError

LOCK = ".corpusmith.lock"
"""Stands in every build's folder; readers of documents pass such folders over."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold `folder` for one build at a time; the lock goes with the process, however it ends.

    Raises:
        MachineError: another process builds in this folder.
    """
    with naming_machine_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with naming_machine_errors(folder / LOCK):
        file = _open_lock(folder / LOCK)
    with file:
        holder = _hold(file)
        if holder:
            raise MachineError(
                f"another build is running in {folder} (process {holder}); wait for it, or choose another --out."
            )
        yield


@contextmanager
def locked_file(path: Path) -> Iterator[None]:
    """Hold a file for one writer at a time, by a lock beside it that is removed in the end.

    Raises:
        MachineError: another process writes this file.
    """
    lock = path.with_name(f".{path.name}.lock")
    with naming_machine_errors(path):
        file = _open_lock(lock)
    with file:
        holder = _hold(file)
        if holder or not (lock.exists() and os.path.samestat(lock.stat(), os.fstat(file.fileno()))):
            raise MachineError(
                f"another command is writing {path} (process {holder or 'unknown'}); wait for it, or choose another "
                "--out."
            )
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


def _open_lock(path: Path) -> IO[str]:
    """A lock's file, made if it is not there; never one that a link of this name points to."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, 0o666)
    return os.fdopen(descriptor, "r+", encoding="utf-8", errors="replace")


def _hold(file: IO[str]) -> str:
    """Take the lock and note this process in it; who has it, where another does."""
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return file.read().strip() or "unknown"
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return ""
