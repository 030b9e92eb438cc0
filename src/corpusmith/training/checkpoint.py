"""Checkpoints that are whole or absent, and from which training goes on to the same bytes.

A checkpoint is a folder `step-00000120` with the weights and buffers of the encoder and the objective, AdamW's
moments, and `progress.json`: how far the run is, its log, and the digests of the other two. Nothing else is state:
batches and masks derive from (seed, step), the learning rate from the step. It is written in a temporary sibling,
synced and renamed; what an evaluation finds afterwards is added to progress.json in one step. On reading, digests are
checked, and a damaged checkpoint is set aside under a name that says so and the one before it used. Only safetensors
and JSON are written: no checkpoint can run code.

The best weights so far are those of an ordinary checkpoint, written before they were evaluated; it is kept as long as
it is the best.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from corpusmith.digests import digest_file, seal, unseal
from corpusmith.disk import naming_machine_errors, sync, write_whole
from corpusmith.errors import ArtefactError

KEPT = 2
"""Checkpoints kept beside the best one."""

WEIGHTS = "weights.safetensors"
MOMENTS = "moments.safetensors"
PROGRESS = "progress.json"
DAMAGED = ".damaged"
"""Suffix of checkpoints that were set aside."""


@dataclass(slots=True)
class Progress:
    """How far a run is: optimiser steps taken, tokens and FLOPs spent, what log.jsonl holds, evaluations so far (step,
    score, held-out loss or None), the step of the best one (None without any), and whether the run is over."""

    step: int = 0
    tokens: int = 0
    flops: float = 0.0
    log: str = ""
    evaluations: list[tuple[int, float, float | None]] = field(default_factory=list)
    best_step: int | None = None
    finished: bool = False


@dataclass(slots=True)
class TrainingState:
    """Everything that training changes."""

    encoder: nn.Module
    objective: nn.Module
    optimiser: torch.optim.Optimizer
    parameters: dict[str, nn.Parameter]

    def weights(self) -> dict[str, torch.Tensor]:
        """Parameters and buffers by name, as they are (not copies)."""
        modules = {"encoder": self.encoder, "objective": self.objective}
        return {
            f"{prefix}.{name}": tensor.detach()
            for prefix, module in modules.items()
            for name, tensor in module.state_dict().items()
        }

    def moments(self) -> dict[str, torch.Tensor]:
        """The optimiser's tensors, named "parameter/moment"; none before the first step."""
        return {
            f"{name}/{moment}": tensor
            for name, parameter in self.parameters.items()
            for moment, tensor in self.optimiser.state.get(parameter, {}).items()
        }

    def restore(self, weights: dict[str, torch.Tensor], moments: dict[str, torch.Tensor]) -> None:
        """Take on these weights and moments.

        Raises:
            ArtefactError: they are not of this encoder and this objective.
        """
        self.restore_weights(weights)
        self.optimiser.state.clear()
        for key, tensor in moments.items():
            name, moment = key.rsplit("/", 1)
            parameter = self.parameters[name]
            self.optimiser.state[parameter][moment] = tensor.to(parameter.device, copy=True)

    def restore_weights(self, weights: dict[str, torch.Tensor]) -> None:
        """Take on these weights alone; errors as in `restore`."""
        own = self.weights()
        odd = sorted(own.keys() ^ weights.keys()) + [
            name for name in own.keys() & weights.keys() if own[name].shape != weights[name].shape
        ]
        if odd:
            raise ArtefactError(
                f"the checkpoint was made by another model or objective ({odd[0]} does not fit, {len(odd)} in all); "
                "train in a new folder."
            )
        for name, tensor in own.items():
            tensor.copy_(weights[name])


class CheckpointFolder:
    """The checkpoints of one run."""

    def __init__(self, folder: Path, notice: Callable[[str], None]) -> None:
        self.folder = folder
        self._notice = notice

    def save(self, state: TrainingState, progress: Progress) -> None:
        """Write the checkpoint of `progress.step` and remove those no longer needed.

        Raises:
            MachineError: the disk is full or cannot be written; earlier checkpoints are untouched.
        """
        target = self._path(progress.step)
        partial = target.with_name(f".{target.name}.partial")
        with naming_machine_errors(target):
            for abandoned in self.folder.glob(".step-*.partial"):
                shutil.rmtree(abandoned)
            partial.mkdir(parents=True)
            _save_tensors(state.weights(), partial / WEIGHTS)
            _save_tensors(state.moments(), partial / MOMENTS)
            files = {name: digest_file(partial / name) for name in (WEIGHTS, MOMENTS)}
            (partial / PROGRESS).write_text(seal(asdict(progress) | {"files": files}), encoding="utf-8")
            for name in (WEIGHTS, MOMENTS, PROGRESS):
                sync(partial / name)
            sync(partial)
            shutil.rmtree(target, ignore_errors=True)
            partial.rename(target)
            sync(self.folder)
        self._prune(progress, KEPT)

    def amend(self, progress: Progress) -> None:
        """Replace what the whole checkpoint of `progress.step` says beside the weights.

        Raises:
            MachineError: the disk is full or cannot be written; the checkpoint is untouched.
        """
        path = self._path(progress.step) / PROGRESS
        with naming_machine_errors(path):
            files = unseal(path.read_bytes())["files"]
        write_whole(path, seal(asdict(progress) | {"files": files}))

    def load_latest(self, state: TrainingState) -> Progress | None:
        """Restore the newest whole checkpoint whose best one is whole too; None where there is none.

        Damaged checkpoints are set aside under a name with the suffix ".damaged", and a notice says so.
        """
        for step in sorted(self._steps(), reverse=True):
            progress = self._read(step)
            if progress is None or not self._best_is_whole(progress):
                continue
            state.restore(load_file(self._path(step) / WEIGHTS), load_file(self._path(step) / MOMENTS))
            return progress
        return None

    def load_weights(self, state: TrainingState, step: int) -> None:
        """Restore the weights alone of the checkpoint of this step."""
        state.restore_weights(load_file(self._path(step) / WEIGHTS))

    def keep_only_ends(self, progress: Progress) -> None:
        """After the last step: remove all but the last checkpoint and the best one."""
        self._prune(progress, 1)

    def _best_is_whole(self, progress: Progress) -> bool:
        best = progress.best_step
        return best is None or best == progress.step or (best in self._steps() and self._read(best) is not None)

    def _read(self, step: int) -> Progress | None:
        """The progress of a whole checkpoint; a damaged one is set aside."""
        folder = self._path(step)
        try:
            content = unseal((folder / PROGRESS).read_bytes())
            for name, digest in content.pop("files").items():
                if digest_file(folder / name) != digest:
                    raise ValueError(f"{name} does not match its digest")
            content["evaluations"] = [tuple(entry) for entry in content["evaluations"]]
            return Progress(**content)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
            self._set_aside(folder, error)
            return None

    def _set_aside(self, folder: Path, error: Exception) -> None:
        aside = folder.with_name(f"{folder.name}{DAMAGED}")
        with naming_machine_errors(folder):
            shutil.rmtree(aside, ignore_errors=True)
            folder.rename(aside)
        self._notice(f"{folder.name} is damaged ({error}) and was set aside as {aside.name}; an earlier one is used.")

    def _prune(self, progress: Progress, kept: int) -> None:
        needed = {*sorted(self._steps())[-kept:], progress.step, progress.best_step}
        for step in self._steps():
            if step not in needed:
                shutil.rmtree(self._path(step), ignore_errors=True)

    def _steps(self) -> list[int]:
        return list(_numbered(self.folder))

    def _path(self, step: int) -> Path:
        return self.folder / f"step-{step:08d}"


def _numbered(folder: Path) -> Iterator[int]:
    for path in folder.glob("step-*"):
        number = path.name.removeprefix("step-")
        if number.isdecimal():
            yield int(number)


def _save_tensors(tensors: dict[str, torch.Tensor], path: Path) -> None:
    """Write safetensors, naming a full disk like any other write (the library raises its own error)."""
    try:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    except SafetensorError as error:
        raise _as_os_error(error) from error


def _as_os_error(error: SafetensorError) -> Exception:
    """The operating system's error inside a SafetensorError, where its text tells one ("... (os error 28)")."""
    number = re.search(r"os error (\d+)", str(error))
    return OSError(int(number[1]), str(error)) if number else error
