"""The training loop.

Everything a step does derives from the seed and the step's number: which examples, which masks, which learning rate.
So the only state is what the optimiser changes, and a run that is killed at any moment and started again ends with
the same bytes as one that never stopped. What it may cost is settled before the first step (`plan.json`): the
schedule must know its end, and a resumed run must not measure the machine anew.

Accumulation weighs each micro-batch by what it was averaged over (masked tokens, pairs), so the gradient of a batch
does not depend on how memory forced it to be cut.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from corpusmith import environment
from corpusmith.digests import digest_json
from corpusmith.disk import naming_machine_errors, write_whole
from corpusmith.errors import ArtefactError, CorpusError, CorpusmithError
from corpusmith.model.arithmetic import DTYPES, Precision, fastest_precision, match_cores, product_rate
from corpusmith.model.encoder import Encoder
from corpusmith.objective.base import Batch, Objective
from corpusmith.training.batches import DROPOUT, HELD_OUT, SPLIT, STEPS, batches_from, cut, epoch_batches
from corpusmith.training.budget import BudgetConfig, affordable_steps
from corpusmith.training.checkpoint import CheckpointFolder, Progress, TrainingState
from corpusmith.training.config import TrainingConfig
from corpusmith.training.gradients import BatchLoss, accumulate
from corpusmith.training.log import Evaluation, Report, RunLog, StepRecord
from corpusmith.training.optimiser import average_and_clip, build_optimiser, named_parameters, set_learning_rate
from corpusmith.training.plan import Plan, measure
from corpusmith.training.schedule import learning_rate_factor

PADDING_SAMPLE = 8
"""Batches from which the padding of an ordinary trainer is estimated."""

Validate = Callable[[Encoder], float]
"""How good an encoder is; higher is better."""


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """What a run did: `steps` taken of those planned, `tokens`, `flops` and `seconds` spent (evaluations and repeated
    work included in the seconds), all evaluations, and the step whose weights the encoder now has."""

    steps: int
    planned_steps: int
    tokens: int
    flops: float
    seconds: float
    evaluations: tuple[Evaluation, ...]
    kept_step: int

    @property
    def kept_score(self) -> float | None:
        """The score of the weights that were kept, None if they were not evaluated."""
        return next((e.score for e in self.evaluations if e.step == self.kept_step), None)


def train(
    encoder: Encoder,
    objective: Objective,
    config: TrainingConfig,
    budget: BudgetConfig,
    folder: Path,
    seed: int,
    validate: Validate | None = None,
    report: Report | None = None,
) -> TrainingResult:
    """Train `encoder` (and the objective's own parts) in place, or go on where an earlier call was cut off.

    Args:
        encoder: starts with the weights to train from, on every call: a resumed run loads its own over them.
        objective: built with the same options on every call.
        config: how to train.
        budget: how much to spend.
        folder: the run's own folder: plan.json, log.jsonl, timing.jsonl, checkpoints/. A finished run is not
            repeated: the call loads its weights and returns.
        seed: the run's randomness derives from it.
        validate: scores an encoder; called before the first step and `config.evaluations` times after that.
        report: is told of every step, evaluation and notice.

    Raises:
        ArtefactError: `folder` holds a run with other settings.
        CorpusError: there are too few examples.
        CorpusmithError: the loss is no longer a number.
        MachineError: the folder cannot be written.
    """
    with naming_machine_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    environment.bound_kernel_cache()
    match_cores()
    run = Run(encoder, objective, config, folder, seed, validate, RunLog(folder, report))
    with computing_in(encoder, run.precision), dropping(encoder, objective.dropout):
        return run.complete(budget)


@contextmanager
def computing_in(encoder: Encoder, precision: Precision) -> Iterator[None]:
    """Let the encoder multiply in this precision within the block."""
    before = encoder.compute_dtype
    encoder.compute_dtype = DTYPES[precision]
    try:
        yield
    finally:
        encoder.compute_dtype = before


@contextmanager
def dropping(encoder: Encoder, share: float) -> Iterator[None]:
    """Let the encoder drop this share of its activations in training within the block, which keeps PyTorch's own
    generator as it was."""
    before = encoder.dropout
    encoder.dropout = share
    try:
        with torch.random.fork_rng(devices=[] if _device(encoder).type == "cpu" else [_device(encoder)]):
            yield
    finally:
        encoder.dropout = before


class Run:
    """One run of training: what `train` needs at hand from the first step to the last."""

    def __init__(
        self,
        encoder: Encoder,
        objective: Objective,
        config: TrainingConfig,
        folder: Path,
        seed: int,
        validate: Validate | None,
        log: RunLog,
    ) -> None:
        self.encoder, self.objective, self.config = encoder, objective.to(_device(encoder)), config
        self.folder, self.seed, self.validate, self.log = folder, seed, validate, log
        self.batch_tokens = config.batch_tokens or objective.batch_tokens
        self.plan_file = folder / "plan.json"
        self.precision = self._precision()
        self.lengths = objective.lengths()
        self.held_out, self.examples = self._split_examples()
        self.evaluates = config.evaluations > 0 and (validate is not None or len(self.held_out) > 0)
        self.parameters = named_parameters(encoder, objective)
        self.optimiser = build_optimiser(encoder, objective, config)
        self.state = TrainingState(encoder, objective, self.optimiser, self.parameters)
        self.checkpoints = CheckpointFolder(folder / "checkpoints", log.notice)
        self.progress = Progress()

    @property
    def product_rate(self) -> float:
        """FLOPs a second of a plain product, timed once a process and only where steps are taken."""
        return product_rate(_device(self.encoder), self.precision)

    def _precision(self) -> Precision:
        """What the recipe asks for; where it leaves the choice, what the run began with, or else what is fastest."""
        if self.config.precision != "auto":
            return self.config.precision
        if self.plan_file.exists():
            return Plan.read(self.plan_file).precision
        return fastest_precision(_device(self.encoder))

    def _split_examples(self) -> tuple[np.ndarray, np.ndarray]:
        """Numbers of the examples set aside and of those trained on."""
        if len(self.lengths) <= self.config.held_out:
            raise CorpusError(
                f"there are {len(self.lengths)} training examples and {self.config.held_out} are to be held out; "
                "add documents or lower training.held_out."
            )
        order = np.random.default_rng([self.seed, SPLIT]).permutation(len(self.lengths))
        return np.sort(order[: self.config.held_out]), np.sort(order[self.config.held_out :])

    def complete(self, budget: BudgetConfig) -> TrainingResult:
        """Take all steps that are still to be taken."""
        plan = self.plan(budget)
        resumed = self.checkpoints.load_latest(self.state)
        self.progress = resumed or Progress()
        self.log.restore(self.progress.log)
        if plan.baseline is not None and resumed is None:
            self.record_evaluation(Evaluation(0, *plan.baseline), plan.evaluation_seconds or 0.0)
            self.save()
        if not self.progress.finished:
            self.take_steps(plan)
        return self.finish(plan)

    def plan(self, budget: BudgetConfig) -> Plan:
        """The plan that the folder already has for these very settings, or a new one, written before it is used."""
        settings = {
            "budget": budget.model_dump(),
            "config": self.config.model_dump(exclude={"checkpoint_minutes"}) | {"batch_tokens": self.batch_tokens},
            "objective": type(self.objective).__name__,
            "examples": digest_json(self.lengths.tolist()),
            "seed": self.seed,
            "evaluated": self.evaluates,
        }
        if not self.plan_file.exists():
            plan = self._new_plan(budget, settings)
            write_whole(self.plan_file, plan.to_json())
            return plan
        plan = Plan.read(self.plan_file)
        changed = [name for name in settings if plan.settings.get(name) != settings[name]]
        if changed:
            raise ArtefactError(
                f"{self.folder} holds a training run with another {' and '.join(changed)}; "
                "delete it, or train in a new folder."
            )
        return plan

    def _new_plan(self, budget: BudgetConfig, settings: dict[str, Any]) -> Plan:
        started = environment.seconds()
        baseline = self.score() if self.evaluates else None
        evaluation_seconds = environment.seconds() - started if baseline else None
        lengths = self.lengths[self.examples]
        self.objective.progress = 0.5  # what changes over training costs as much as in its middle
        batches = epoch_batches(lengths, self.batch_tokens, self.seed, 0, sort=self.objective.sorted_by_length)
        if budget.minutes is None:
            cost = replace(measure(batches, lengths, self._count_step, math.inf), seconds=None)
        else:
            cost = measure(batches, lengths, self._rehearse_step, 60 * budget.minutes / 10)
            self.optimiser.state.clear()
        overhead = environment.seconds() - started + self.config.evaluations * (evaluation_seconds or 0.0)
        steps = affordable_steps(budget, cost, max(1, round(self.config.max_epochs * len(batches))), overhead)
        return Plan(
            steps=steps,
            step_tokens=cost.tokens,
            step_flops=cost.flops,
            step_seconds=cost.seconds,
            evaluation_seconds=evaluation_seconds,
            baseline=baseline,
            precision=self.precision,
            padding_avoided=self._padding_avoided(lengths),
            settings=settings,
        )

    def _padding_avoided(self, lengths: np.ndarray) -> float:
        """Which share of the tokens would be padding if batches were drawn at random and padded to their longest
        sequence, as is usual; from the first few batches."""
        real = padded = 0
        for number, batch in enumerate(
            islice(epoch_batches(lengths, self.batch_tokens, self.seed, 0, sort=False), PADDING_SAMPLE)
        ):
            for part in self.micro_batches(self.examples[batch], number):
                real += part.tokens
                padded += part.padded_tokens
        return 1 - real / max(1, padded)

    def _count_step(self, number: int, batch: np.ndarray) -> float:
        """FLOPs of a step, without taking it."""
        return sum(self.objective.flops(self.encoder, b) for b in self.micro_batches(self.examples[batch], number))

    def _rehearse_step(self, number: int, batch: np.ndarray) -> float:
        """Take a step with learning rate 0: it costs what a real one costs and leaves the weights bit for bit."""
        set_learning_rate(self.optimiser, 0.0)
        return self.update(self.examples[batch], number)[0].flops

    def take_steps(self, plan: Plan) -> None:
        """Go from the present step to the last, evaluating and writing checkpoints on the way."""
        self.encoder.train()
        saved, batches = environment.seconds(), self.batches(self.progress.step)
        self.conclude(plan)
        while not self.progress.finished:
            self.step(next(batches), plan.steps)
            is_last = self.progress.step == plan.steps
            waited = environment.seconds() - saved >= 60 * self.config.checkpoint_minutes
            if is_last or waited or self.evaluation_is_due(plan):
                self.save()
                saved = environment.seconds()
            self.conclude(plan)

    def evaluation_is_due(self, plan: Plan) -> bool:
        """Whether the present step is one after which to evaluate, and that was not done yet."""
        step = self.progress.step
        planned = self.evaluates and step > 0 and plan.evaluates_after(step, self.config.evaluations)
        return planned and all(evaluated != step for evaluated, _, _ in self.progress.evaluations)

    def conclude(self, plan: Plan) -> None:
        """Evaluate if that is due, and settle whether the run is over. The step's checkpoint is on the disk by then: a
        crash during the evaluation costs the evaluation alone, and a resumed run begins with it."""
        due = self.evaluation_is_due(plan)
        if due:
            self.evaluate()
        progress = self.progress
        stopped = due and progress.step < plan.steps and self.patience_is_over()
        if stopped:
            self.log.notice(f"stopped after step {progress.step} of {plan.steps}: the score no longer rises.")
        progress.finished = stopped or progress.step == plan.steps
        if due or progress.finished:
            progress.log = self.log.content()
            self.checkpoints.amend(progress)

    def batches(self, first: int) -> Iterator[np.ndarray]:
        """Numbers of the examples of each step, without end, from the step after `first` on."""
        sort = self.objective.sorted_by_length
        for batch in batches_from(self.lengths[self.examples], self.batch_tokens, self.seed, first, sort=sort):
            yield self.examples[batch]

    def micro_batches(self, examples: np.ndarray, *stream: int) -> Iterator[Batch]:
        """Collate the examples in parts small enough for memory; `stream` numbers what is drawn for."""
        rng = np.random.default_rng([self.seed, STEPS, *stream])
        limit = self.config.micro_batch_tokens if self.objective.divisible else int(self.lengths.sum())
        for part in cut(examples, self.lengths, limit):
            yield self.objective.collate(part, rng)

    def step(self, examples: np.ndarray, steps: int) -> None:
        """One optimiser step on these examples, logged."""
        started, progress = environment.seconds(), self.progress
        factor = learning_rate_factor(progress.step, steps, self.config.warmup, self.config.decay)
        set_learning_rate(self.optimiser, factor)
        self.objective.progress = progress.step / steps
        loss, norm = self.update(examples, progress.step)
        self.objective.after_step(self.encoder)
        environment.make_room()
        progress.step += 1
        progress.tokens += loss.tokens
        progress.flops += loss.flops
        seconds = environment.seconds() - started
        self.log.step(
            StepRecord(
                step=progress.step,
                steps=steps,
                tokens=progress.tokens,
                flops=progress.flops,
                loss=loss.loss,
                parts=loss.parts,
                learning_rate=factor * (self.config.learning_rate or self.objective.learning_rate),
                gradient_norm=norm,
                step_tokens=loss.tokens,
                step_flops=loss.flops,
                utilisation=loss.flops / seconds / self.product_rate,
                seconds=seconds,
            )
        )

    def update(self, examples: np.ndarray, number: int) -> tuple[BatchLoss, float]:
        """Gradients and the optimiser's update for step `number` (from 0); the loss and the gradient's norm."""
        torch.manual_seed(int(np.random.default_rng([self.seed, DROPOUT, number]).integers(2**63)))
        loss = accumulate(self.encoder, self.objective, self.micro_batches(examples, number))
        norm = average_and_clip(self.parameters.values(), loss.weight or 1.0, self.config.clip)
        if not (math.isfinite(loss.loss) and math.isfinite(norm)):
            raise CorpusmithError(
                f"training diverged in step {number + 1}: the loss is {loss.loss:g}, its gradient's norm {norm:g}; "
                "lower training.learning_rate, or set training.precision = 'float32'."
            )
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        return loss, norm

    def score(self) -> tuple[float, float | None]:
        """The score of the present weights, and their loss on the examples held out."""
        self.encoder.eval()
        with torch.no_grad():
            held_out_loss = self._held_out_loss() if len(self.held_out) else None
            score = self.validate(self.encoder) if self.validate is not None else -(held_out_loss or 0.0)
        self.encoder.train()
        if not math.isfinite(score):
            raise CorpusmithError(
                f"the evaluation after step {self.progress.step} gave {score:g}; lower training.learning_rate."
            )
        return score, held_out_loss

    def _held_out_loss(self) -> float:
        """The loss as it is asked for at the end of training, whenever that is: only so are two of them comparable, and
        an evaluation that a resumed run repeats is the same."""
        self.objective.progress = 1.0
        rng = np.random.default_rng([self.seed, HELD_OUT])
        parts = cut(self.held_out, self.lengths, self.config.micro_batch_tokens)
        batches = (self.objective.collate(part, rng) for part in parts)
        return accumulate(self.encoder, self.objective, batches, backward=False).loss

    def evaluate(self) -> None:
        """Evaluate the present weights and note whether they are the best."""
        started = environment.seconds()
        score, held_out_loss = self.score()
        self.record_evaluation(
            Evaluation(self.progress.step, score, held_out_loss), seconds=environment.seconds() - started
        )

    def record_evaluation(self, evaluation: Evaluation, seconds: float) -> None:
        """Log an evaluation and put it into the run's history."""
        progress = self.progress
        is_best = all(evaluation.score > score for _, score, _ in progress.evaluations)
        progress.evaluations.append(astuple(evaluation))
        if self.config.keep_best and is_best:
            progress.best_step = evaluation.step
        self.log.evaluation(evaluation, seconds)

    def patience_is_over(self) -> bool:
        """Whether the last `patience` evaluations brought nothing better than what was there before them."""
        scores = [score for _, score, _ in self.progress.evaluations]
        patience = self.config.patience
        return patience is not None and len(scores) > patience and max(scores[-patience:]) <= max(scores[:-patience])

    def save(self) -> None:
        """Write a checkpoint of the present state."""
        self.progress.log = self.log.content()
        self.checkpoints.save(self.state, self.progress)

    def finish(self, plan: Plan) -> TrainingResult:
        """Leave the best weights (or the last ones) in the encoder."""
        progress = self.progress
        self.checkpoints.keep_only_ends(progress)
        kept = progress.step if progress.best_step is None else progress.best_step
        if kept != progress.step:
            self.checkpoints.load_weights(self.state, kept)
        self.encoder.eval()
        return TrainingResult(
            steps=progress.step,
            planned_steps=plan.steps,
            tokens=progress.tokens,
            flops=progress.flops,
            seconds=self.log.seconds(),
            evaluations=tuple(Evaluation(*entry) for entry in progress.evaluations),
            kept_step=kept,
        )


def _device(module: torch.nn.Module) -> torch.device:
    return next(module.parameters()).device
