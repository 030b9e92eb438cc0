"""What a run tells: records for whoever watches, lines of JSON for whoever reads later.

Two files, because two things are wanted. `log.jsonl` holds what the seed determines (losses, rates, scores), one line
a step, and is cut back to the checkpoint when a run is resumed: an interrupted run and an uninterrupted one leave the
same bytes. `timing.jsonl` holds what the machine determined (seconds, notices), and only ever grows.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corpusmith import environment
from corpusmith.disk import naming_machine_errors, write_whole

LOG, TIMING = "log.jsonl", "timing.jsonl"


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One optimiser step: `step` of `steps` (from 1), `tokens` and `flops` so far, the loss and its named parts, the
    learning rate of the pretrained weights, the gradient's norm before clipping; this step's tokens, FLOPs and seconds,
    and its model FLOPs utilisation: FLOPs a second as a share of what a plain matrix product reaches here."""

    step: int
    steps: int
    tokens: int
    flops: float
    loss: float
    parts: Mapping[str, float]
    learning_rate: float
    gradient_norm: float
    step_tokens: int
    step_flops: float
    utilisation: float
    seconds: float

    @property
    def tokens_per_second(self) -> float:
        """Speed of this step."""
        return self.step_tokens / max(self.seconds, 1e-9)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The model after `step` steps: `score` (higher is better) decides which is the best; `held_out_loss` is the loss
    on examples set aside, None without any."""

    step: int
    score: float
    held_out_loss: float | None = None


@dataclass(frozen=True, slots=True)
class Notice:
    """Something a person should know: a damaged checkpoint, an early stop."""

    text: str


Report = Callable[[StepRecord | Evaluation | Notice], None]
"""Whoever watches a run: a progress bar, plain lines, nothing."""


def read_records(path: Path) -> list[dict[str, Any]]:
    """The records of `log.jsonl` or `timing.jsonl`, if it is there; lines that are damaged are passed over."""
    records = []
    for line in path.read_bytes().splitlines() if path.exists() else []:
        with suppress(ValueError):
            records.append(json.loads(line))
    return [record for record in records if isinstance(record, dict)]


def read_timing(path: Path, *names: str) -> list[dict[str, float]]:
    """The records of `timing.jsonl` that say all of these numbers. No digest guards the file: where a bit of it was
    lost, so is a line, and nothing else."""
    return [
        {name: record[name] for name in names}
        for record in read_records(path)
        if all(isinstance(record.get(name), int | float) for name in names)
    ]


class RunLog:
    """The two files of a run's folder, and the watcher."""

    def __init__(self, folder: Path, report: Report | None) -> None:
        self._log = folder / LOG
        self._timing = folder / TIMING
        self._report = report or (lambda record: None)
        self._end_torn_line()

    def content(self) -> str:
        """What log.jsonl holds, for `restore`."""
        with naming_machine_errors(self._log):
            return self._log.read_text(encoding="utf-8", errors="replace") if self._log.exists() else ""

    def restore(self, content: str) -> None:
        """Make log.jsonl what a checkpoint remembers: what stands behind it is about to be repeated."""
        with naming_machine_errors(self._log):
            found = self._log.read_bytes() if self._log.exists() else b""
            if not found.startswith(content.encode()):
                self.notice(f"{self._log} was damaged, and is again as the checkpoint remembers it.")
            write_whole(self._log, content)

    def _end_torn_line(self) -> None:
        """What comes next in timing.jsonl gets a line of its own, whatever a crash left of the last one."""
        with naming_machine_errors(self._timing), suppress(FileNotFoundError), self._timing.open("r+b") as file:
            if file.seek(0, os.SEEK_END) > 0:
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    file.write(b"\n")

    def step(self, record: StepRecord) -> None:
        """Write and report one step."""
        line = {
            "step": record.step,
            "tokens": record.tokens,
            "flops": record.flops,
            "loss": record.loss,
            **record.parts,
            "learning_rate": record.learning_rate,
            "gradient_norm": record.gradient_norm,
        }
        self._append(self._log, line)
        timing = {
            "step": record.step,
            "tokens": record.step_tokens,
            "flops": record.step_flops,
            "seconds": round(record.seconds, 6),
            "tokens_per_second": round(record.tokens_per_second, 1),
            "utilisation": round(record.utilisation, 4),
            "peak_memory_bytes": environment.peak_memory_bytes(),
        }
        self._append(self._timing, timing)
        self._report(record)

    def evaluation(self, evaluation: Evaluation, seconds: float) -> None:
        """Write and report one evaluation."""
        line = {"step": evaluation.step, "score": evaluation.score}
        if evaluation.held_out_loss is not None:
            line["held_out_loss"] = evaluation.held_out_loss
        self._append(self._log, line)
        self._append(self._timing, {"step": evaluation.step, "evaluation_seconds": round(seconds, 6)})
        self._report(evaluation)

    def notice(self, text: str) -> None:
        """Write and report a notice."""
        self._append(self._timing, {"notice": text})
        self._report(Notice(text))

    def seconds(self) -> float:
        """Seconds of all steps and evaluations so far, those lost with a crash and repeated included."""
        names = ("seconds", "evaluation_seconds")
        return sum(record[name] for name in names for record in read_timing(self._timing, name))

    def _append(self, path: Path, line: dict[str, Any]) -> None:
        with naming_machine_errors(path), path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
