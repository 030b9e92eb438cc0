"""How a command ends: with an exit code, and with a sentence where a person can mend something.

0 is done, 2 something the user or the machine can cause, 130 an interrupt. Anything else is a defect of corpusmith and
shows its traceback, because whoever reports it needs one. Memory, nesting and the system's own errors are caught here
only when no room that knows more about them has named them before.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any

import typer
from rich.console import Console, ConsoleDimensions
from rich.text import Text
from typer.core import TyperGroup

from corpusmith.errors import CorpusmithError, MachineError
from corpusmith.report.notation import visible

OUT_OF_MEMORY = "the machine is out of memory; close other programs, or choose a smaller training.batch_tokens"
NARROWEST, USUAL = 20, 80
"""Columns of a terminal: with fewer than the first, or none, it does not know its width and gets the second."""


class Speaker(Console):
    """A console that falls silent when nobody reads it any more: work goes on, and ends as it would have."""

    @property
    def size(self) -> ConsoleDimensions:
        """Columns and rows."""
        size = super().size
        return size if size.width >= NARROWEST else size._replace(width=USUAL)

    @size.setter
    def size(self, new: tuple[int, int]) -> None:
        self.width, self.height = new

    def on_broken_pipe(self) -> None:
        """The reader has gone."""
        self.quiet = True
        _silence(self.file)


console = Speaker(highlight=False)
errors = Speaker(stderr=True, highlight=False)


class Commands(TyperGroup):
    """The group of all commands; whatever they raise passes through here."""

    def main(self, *arguments: Any, **options: Any) -> Any:
        """Run the program; help and version, which are no commands, may meet a full disk as well."""
        try:
            return super().main(*arguments, **options)
        except OSError as error:
            _silence(sys.stdout)
            _ending(f"cannot write to standard output: {error.strerror or error}; mend that and run the command again")
            sys.exit(2)
        except SystemExit as ended:
            if isinstance(ended.__context__, BrokenPipeError):  # whoever asked for help has read enough
                sys.exit(0)
            raise

    def invoke(self, ctx: Any) -> Any:
        """Run a command and end with the right exit code."""
        with explaining():
            _refuse_lost_folder()
            result = super().invoke(ctx)
            sys.stdout.flush()
            return result


@contextmanager
def explaining() -> Iterator[None]:
    """Turn what a person can mend into a sentence on standard error and an exit code."""
    try:
        if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        yield
    except CorpusmithError as error:
        raise _ending(str(error)) from None
    except KeyboardInterrupt:
        say(errors, "\nInterrupted; finished steps are kept, and the same command goes on where it was.")
        raise typer.Exit(130) from None
    except BrokenPipeError:
        _silence(sys.stdout)
        raise typer.Exit(0) from None
    except MemoryError:
        raise _ending(OUT_OF_MEMORY) from None
    except RecursionError:
        raise _ending("something in the input is nested too deeply; flatten it") from None
    except OSError as error:
        place = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, (str, bytes)) else ""
        raise _ending(f"{place}{error.strerror or error}; mend that and run the same command again") from None
    except RuntimeError as error:
        if "can't allocate memory" not in str(error) and "out of memory" not in str(error):
            raise
        raise _ending(OUT_OF_MEMORY) from None


def _refuse_lost_folder() -> None:
    """Stop where the current folder was deleted: libraries that look for it end the process with words of their own."""
    try:
        os.getcwd()
    except FileNotFoundError:
        raise MachineError("the current folder no longer exists; change to another one") from None


def open_streams() -> None:
    """Give the process the standard streams that whoever started it has closed: nothing to read, nobody who listens."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 (for as long as the process)


def _silence(stream: IO[str]) -> None:
    """Let a stream that cannot be written to end nowhere, or Python complains when it flushes what is left."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def _ending(sentence: str) -> typer.Exit:
    with suppress(OSError):  # the exit code tells it all the same
        errors.print(Text.assemble(("error: ", "bold red"), f"{visible(sentence).rstrip('.')}."), soft_wrap=True)
    return typer.Exit(2)


def say(where: Console, text: str, style: str = "") -> None:
    """Print text that may hold anything: no markup is obeyed; lines break at words on a terminal, nowhere else."""
    lines = "\n".join(visible(line) for line in text.split("\n"))
    where.print(Text(lines, style=style), soft_wrap=not where.is_terminal)
