"""Systems side by side, each in a process of its own.

A library that is measured keeps the allocator, the threads and the Python that it would have by itself: what one
system sets up neither helps nor hurts another. All processes stay alive for the whole case, and between their rounds
they wait, so rounds can be interleaved (`benchmarks.speed.interleaved`) without loading anything twice.

The two ends speak lines of JSON: a request on the worker's standard input, an answer on its standard output. Whatever
else the worker prints goes to standard error, of which the last lines are shown if it dies.

A worker is a function `work(channel, **arguments)` of an importable module. Where it is called once a round it ends
with `channel.serve(one_round)`; where a library's training loop calls it, it takes `channel.request()` and gives
`channel.answer(...)` from within. This module imports nothing beside the standard library, so that a worker may run
in an environment that knows nothing of corpusmith:

    with Worker("benchmarks.speed.encode:encode", {"folder": str(folder)}, python="/envs/onnx/bin/python") as worker:
        answer = worker.ask(texts=100)
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
LAST_LINES = 15
"""Lines of a dead worker's standard error that are kept."""


class Channel:
    """The worker's end. Making one moves everything else that is printed to standard error."""

    def __init__(self) -> None:
        self._answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)

    def request(self) -> dict[str, Any]:
        """Wait for what the parent asks next; the process ends where the parent has hung up."""
        line = sys.stdin.readline()
        if not line:
            raise SystemExit
        return json.loads(line)

    def answer(self, content: Mapping[str, Any]) -> None:
        """Answer the last request."""
        self._answers.write(json.dumps(content) + "\n")
        self._answers.flush()

    def serve(self, one_round: Callable[..., Mapping[str, Any]]) -> None:
        """Answer every request with what `one_round`, called with its fields, returns."""
        while True:
            self.answer(one_round(**self.request()))


class Worker:
    """The parent's end: starts the process, and remembers in `failure` why it died, None while it lives.

    Args:
        target: "module:function", what the process runs.
        arguments: given to the function beside its channel; JSON must be able to hold them.
        python: another interpreter than this one.
        variables: added to the environment of this process.
    """

    def __init__(
        self,
        target: str,
        arguments: Mapping[str, Any],
        python: str = sys.executable,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self.failure: str | None = None
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the worker
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        self._process = subprocess.Popen(
            [python, "-m", "benchmarks.speed.workers", target, json.dumps(dict(arguments))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), **(variables or {})},
            encoding="utf-8",
        )

    def ask(self, **request: Any) -> dict[str, Any] | None:
        """The answer to a request; None, now and from then on, if the worker has died."""
        if self.failure is not None:
            return None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            return json.loads(self._process.stdout.readline())
        except (BrokenPipeError, ValueError):  # an empty or torn line: it is dead or dying
            self.failure = self._last_words()
            return None

    def _last_words(self) -> str:
        self._process.kill()
        code = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode("utf-8", errors="replace").splitlines()
        return "\n".join(lines[-LAST_LINES:]) or f"it ended without a word (exit code {code})"

    def close(self) -> None:
        """Hang up and end the process."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None and not pipe.closed:
                with suppress(BrokenPipeError):  # what was never read is lost with the process
                    pipe.close()
        self._process.kill()
        self._process.wait()
        self._errors.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def interpreters(given: Sequence[str]) -> dict[str, str]:
    """The values NAME=PATH of an option `--peer-python`, as interpreters by system's name."""
    wrong = [value for value in given if "=" not in value]
    if wrong:
        raise SystemExit(f"--peer-python {wrong[0]}: give it as NAME=PATH, the system's name and a Python interpreter")
    return dict(value.rsplit("=", 1) for value in given)


def main() -> None:
    """Run the worker that the command line names."""
    module, _, function = sys.argv[1].partition(":")
    channel = Channel()
    getattr(import_module(module), function)(channel, **json.loads(sys.argv[2]))


if __name__ == "__main__":
    main()
