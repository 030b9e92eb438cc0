"""Training a few steps at a time: what lets training loops of several libraries be interleaved.

A loop belongs to its library. It is held where it tells that a step is done, and goes on when the parent asks for
more, so what is timed are whole steps as the library takes them, with drawing and collating their examples. Work that
a library does after telling of a step (writing its log) falls into the next one.

All systems follow one learning-rate schedule, ours, so that their losses can be compared. Tokens are counted where a
model gets them, by the attention mask: padding is no work done.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from benchmarks.speed.workers import Channel

from corpusmith import environment
from corpusmith.training.schedule import learning_rate_factor

WARMUP, DECAY = 0.1, 0.5
"""Shares of the steps during which the learning rate rises and falls."""


class Pace:
    """Takes as many steps as the parent asks for, then waits; made before training, it waits for the first request.

    Attributes:
        tokens: real tokens of each step so far.
        folder: where the parent wants the trained model, once it has asked for it.
    """

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.tokens: list[int] = []
        self.folder: Path | None = None
        self._counted = 0
        self._wait()

    def count(self, tokens: int) -> None:
        """Add to the tokens of the step that is being taken."""
        self._counted += tokens

    def after_step(self) -> None:
        """End a step, and wait if it was the last that was asked for."""
        self.tokens.append(self._counted)
        self._counted = 0
        self._left -= 1
        if self._left == 0:
            self.channel.answer({"tokens": sum(self.tokens[-self._asked :])})
            self._wait()

    def _wait(self) -> None:
        request = self.channel.request()
        self.folder = Path(request["save"]) if "save" in request else None
        self._asked = self._left = request.get("steps", 0)

    def finish(self, losses: list[float]) -> None:
        """Tell, once the model is saved, how training went: the loss and the tokens of every step."""
        memory = environment.peak_memory_bytes() / 2**30
        content = {"losses": losses, "tokens": self.tokens, "threads": torch.get_num_threads()}
        self.channel.answer(content | {"peak_memory_gib": round(memory, 2)})


def paced_trainer(base: type, pace: Pace, encoder: torch.nn.Module, **options: Any) -> Any:
    """A trainer of a class derived from transformers' Trainer, kept to our schedule and to the parent's pace.

    `encoder` is the module that gets the tokens of each batch, with their attention mask.
    """
    from torch.optim.lr_scheduler import LambdaLR
    from transformers import TrainerCallback

    class ScheduledTrainer(base):
        def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
            self.lr_scheduler = LambdaLR(
                optimizer or self.optimizer,
                lambda step: learning_rate_factor(step, num_training_steps, WARMUP, DECAY),
            )
            return self.lr_scheduler

    class Pausing(TrainerCallback):
        def on_step_end(self, *arguments: Any, **state: Any) -> None:
            pace.after_step()

    def count_real_tokens(module: torch.nn.Module, positional: tuple, named: dict[str, Any]) -> None:
        features = positional[0] if positional else named
        pace.count(int(features["attention_mask"].sum()))

    encoder.register_forward_pre_hook(count_real_tokens, with_kwargs=True)
    return ScheduledTrainer(callbacks=[Pausing()], **options)


def trainer_options(start: str, steps: int, batch: int, learning_rate: float, seed: int) -> dict[str, Any]:
    """What the arguments of every peer's trainer have in common."""
    return {
        "output_dir": str(Path(start).parent / "trainer"),
        "use_cpu": True,
        "max_steps": steps,
        "per_device_train_batch_size": batch,
        "learning_rate": learning_rate,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "seed": seed,
    }


def logged_losses(trainer: Any) -> list[float]:
    """The loss of every step, as transformers' Trainer logged it."""
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
