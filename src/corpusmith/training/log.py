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
from corpusmith.disk import naming_machine_errors, sync

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
    """The records of `log.jsonl` or `timing.jsonl`, if it is there; lines that a crash tore are passed over."""
    records = []
    for line in path.read_bytes().splitlines() if path.exists() else []:
        with suppress(ValueError):
            records.append(json.loads(line))
    return records


class RunLog:
    """The two files of a run's folder, and the watcher."""

    def __init__(self, folder: Path, report: Report | None) -> None:
        self._log = folder / LOG
        self._timing = folder / TIMING
        self._report = report or (lambda record: None)
        self._end_torn_line()

    def cut(self, size: int) -> None:
        """Cut log.jsonl back to its first `size` bytes: what a resumed run is about to repeat."""
        with naming_machine_errors(self._log):
            self._log.touch()
            if self._log.stat().st_size < size:
                self.notice(f"{self._log} is shorter than the checkpoint remembers; its missing lines stay missing.")
            else:
                os.truncate(self._log, size)

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

    def flush(self) -> int:
        """Force log.jsonl to the disk; its size in bytes, for `cut`."""
        with naming_machine_errors(self._log):
            self._log.touch()
            sync(self._log)
            return self._log.stat().st_size

    def seconds(self) -> float:
        """Seconds of all steps and evaluations so far, those lost with a crash and repeated included."""
        records = read_records(self._timing)
        return sum(record.get("seconds", 0.0) + record.get("evaluation_seconds", 0.0) for record in records)

    def _append(self, path: Path, line: dict[str, Any]) -> None:
        with naming_machine_errors(path), path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
