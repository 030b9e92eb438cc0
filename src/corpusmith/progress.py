"""Shows a build as it advances: a bar on a terminal, one line a step and a sign of life now and then elsewhere."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from corpusmith import environment
from corpusmith.report.notation import duration, visible

SIGN_OF_LIFE_SECONDS = 60


class TerminalWatcher:
    """A `Watcher` for people; use it as a context manager, so that the bar is taken down in the end."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._step = ""
        self._spoke = 0.0
        if console.is_terminal:
            self._progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                TextColumn("{task.fields[note]}", style="dim"),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=console,
                transient=True,
            )

    def __enter__(self) -> TerminalWatcher:
        if self._progress:
            self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._progress:
            self._progress.stop()

    def start(self, step: str, note: str, *, reused: bool) -> None:
        """Announce a step; a reused one is told in a line and is over."""
        self._step, self._spoke = step, environment.seconds()
        if reused:
            self._print(f"= {step:<12} reused", "dim")
        elif self._progress:
            self._task = self._progress.add_task(f"  {_safe(step):<12}", total=None, note=_safe(note))
        else:
            self._print(f"> {step:<12} {note}")

    def advance(self, done: float, total: float | None, note: str = "") -> None:
        """Move the bar; without a terminal, say how far it is once a minute."""
        if total is None:
            note = f"{done:,.0f} {note}"
        if self._progress and self._task is not None:
            self._progress.update(self._task, completed=done, total=total)
            if note:
                self._progress.update(self._task, note=_safe(note))
        elif not self._progress and environment.seconds() - self._spoke >= SIGN_OF_LIFE_SECONDS:
            self._spoke = environment.seconds()
            share = f"{100 * done / total:.0f}% " if total else ""
            self._print(f"  {self._step:<12} {share}{note}")

    def finish(self, seconds: float) -> None:
        """Replace the bar by a line with the time the step took."""
        if self._progress and self._task is not None:
            self._progress.remove_task(self._task)
            self._task = None
        self._print(f"+ {self._step:<12} {duration(seconds)}")

    def say(self, text: str) -> None:
        """A line of its own, above the bar."""
        self._print(text)

    def _print(self, text: str, style: str = "") -> None:
        """One line; where it goes to a file or a pipe it stays one, however long."""
        self.console.print(Text(visible(text), style=style), soft_wrap=not self.console.is_terminal)


def _safe(text: str) -> str:
    """Text that a progress column shows as it is."""
    return escape(visible(text))
