"""Runs corpusmith's commands again and again, each in a forked process whose file operations can be made to fail.

Starting Python and importing PyTorch takes longer than building a tiny corpus. So one process imports everything,
computes nothing (a fork must not inherit half of a thread pool), and forks for each command; in the fork the library
`interpose.c` is armed and the command line's own entry point is called, with its own exit code and its own two streams.
"""

from __future__ import annotations

import ctypes
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

WRITE, SYNC, NAME, READ = 1, 2, 4, 8
CHANGES = WRITE | SYNC | NAME
COUNT, KILL, TORN, FULL, BROKEN = range(5)
LIBRARY = "CORPUSMITH_FAULTS"
"""Names the library in the environment of the process that it was loaded into."""


@dataclass(frozen=True)
class Fault:
    """The operation with number `at` (from 1) of these kinds, on a path that holds `pattern`, meets its fate."""

    kind: int = COUNT
    at: int = 0
    operations: int = CHANGES
    pattern: str = ""


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code (negative: the signal that killed it), what it wrote to its two streams, and
    the operations that were counted, "name path" each."""

    code: int
    out: str
    err: str
    operations: list[str]


Outcome = TypeVar("Outcome")
Order = tuple[Sequence[str | Path], Fault, float | None]
"""A command, what happens to it, and after how many seconds it is killed, if at all."""
Trial = Generator[Order, Ended, Outcome]
"""Asks for commands to be run, is told how each has ended, and comes to a result."""


def can_interpose() -> bool:
    """Whether this machine can make file operations fail: Linux with a C compiler."""
    return sys.platform == "linux" and shutil.which("cc") is not None


def require_interposition(module: str) -> None:
    """Start `module` anew with the library loaded, unless it is; does not return then.

    Raises:
        SystemExit: there is no C compiler, or it fails.
    """
    if LIBRARY in os.environ:
        return
    if not can_interpose():
        raise SystemExit("faults are injected on Linux, by a library that cc must compile; neither is to be had here.")
    library = Path(tempfile.mkdtemp(prefix="faults-")) / "interpose.so"
    source = Path(__file__).with_name("interpose.c")
    subprocess.run(["cc", "-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    environment = os.environ | {LIBRARY: str(library), "LD_PRELOAD": str(library)}
    code = subprocess.run([sys.executable, "-m", module, *sys.argv[1:]], env=environment, check=False).returncode
    shutil.rmtree(library.parent)
    raise SystemExit(code)


class Launcher:
    """Forks commands; one at a time, or several by `start`."""

    def __init__(self, scratch: Path, threads: int = 1) -> None:
        self.scratch, self.threads = scratch, threads
        self.library = ctypes.CDLL(os.environ[LIBRARY])
        self._number = 0
        _import_everything()

    def run(
        self,
        *arguments: str | Path,
        fault: Fault | None = None,
        seconds: float | None = None,
        prepare: Callable[[ctypes.CDLL], object] | None = None,
    ) -> Ended:
        """Run a command to its end, or kill it after so many seconds."""
        child = self.start(arguments, fault or Fault(), prepare)
        return self.wait(_first_ended({child: _limit(seconds)}))

    def start(
        self, arguments: Sequence[str | Path], fault: Fault, prepare: Callable[[ctypes.CDLL], object] | None = None
    ) -> int:
        """Begin a command; its process number. `prepare` is called in the fork, before the command."""
        child = os.fork()
        if child == 0:
            self._become([str(argument) for argument in arguments], fault, prepare)
        return child

    def wait(self, child: int) -> Ended:
        """How a command that `start` began has ended."""
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        out, err, log = (self._stream(child, name) for name in ("out", "err", "log"))
        texts = [path.read_text(encoding="utf-8", errors="replace") for path in (out, err, log)]
        for path in (out, err, log):
            path.unlink()
        return Ended(code, texts[0], texts[1], texts[2].splitlines())

    def run_trials(self, trials: Iterable[Trial[Outcome]], jobs: int) -> Iterator[Outcome]:
        """The results of trials, so many of which run at a time, as they end."""
        waiting, running, limits = iter(trials), dict[int, Trial[Outcome]](), dict[int, float]()

        def begin(trial: Trial[Outcome], order: Order) -> None:
            arguments, fault, seconds = order
            child = self.start(arguments, fault)
            running[child], limits[child] = trial, _limit(seconds)

        while True:
            while len(running) < jobs and (trial := next(waiting, None)) is not None:
                begin(trial, next(trial))
            if not running:
                return
            child = _first_ended(limits)
            trial = running.pop(child)
            del limits[child]
            try:
                begin(trial, trial.send(self.wait(child)))
            except StopIteration as stopped:
                yield stopped.value

    def _stream(self, process: int, name: str) -> Path:
        return self.scratch / f"{process}.{name}"

    def _become(self, arguments: list[str], fault: Fault, prepare: Callable[[ctypes.CDLL], object] | None) -> None:
        """Be the command, in the forked process; ends the process."""
        import torch

        from corpusmith import cli

        code = 1
        try:
            log = os.open(self._stream(os.getpid(), "log"), os.O_CREAT | os.O_WRONLY, 0o600)
            for descriptor, name in ((1, "out"), (2, "err")):
                os.dup2(os.open(self._stream(os.getpid(), name), os.O_CREAT | os.O_WRONLY, 0o600), descriptor)
            torch.set_num_threads(self.threads)
            sys.argv = ["corpusmith", *arguments]
            if prepare is not None:
                prepare(self.library)
            self.library.fault_arm(
                fault.pattern.encode(), fault.operations, fault.kind, ctypes.c_long(fault.at), ctypes.c_int(log)
            )
            cli.main()
            code = 0
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 1
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)


def _limit(seconds: float | None) -> float:
    return math.inf if seconds is None else time.monotonic() + seconds


def _first_ended(limits: dict[int, float]) -> int:
    """Wait for the first of these processes to end; those past their limits are killed."""
    while True:
        for child, limit in limits.items():
            if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                return child
            if time.monotonic() >= limit:
                os.kill(child, signal.SIGKILL)
        time.sleep(0.002)


def _import_everything() -> None:
    import corpusmith.pipeline.plan
    import corpusmith.report.terminal
    import corpusmith.retrieval.dense
    import corpusmith.search
    import corpusmith.training.loop  # noqa: F401
