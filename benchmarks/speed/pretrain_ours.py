"""corpusmith's own side of the comparison of training: the loop as a build runs it, held after each step."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from benchmarks.speed.paced import DECAY, WARMUP, Pace
from benchmarks.speed.workers import Channel

from corpusmith import environment
from corpusmith.corpus.shards import TokenShards
from corpusmith.model.huggingface import export_checkpoint, load_checkpoint
from corpusmith.objective.base import Objective
from corpusmith.objective.config import ContrastiveConfig, MaskedLanguageConfig, ObjectiveConfig
from corpusmith.objective.data import PairSet, TrainingData
from corpusmith.objective.registry import build_objective
from corpusmith.training.batches import epoch_batches
from corpusmith.training.budget import BudgetConfig
from corpusmith.training.config import TrainingConfig
from corpusmith.training.log import StepRecord
from corpusmith.training.loop import train

NEVER_MINUTES = 1e9
RECOMPUTE_ABOVE = 10**6
"""More tokens than any batch here has: nothing is recomputed to save memory."""


def masked_language(channel: Channel, start: str, texts: str, steps: int, learning_rate: float, seed: int) -> None:
    """Worker: masked language modelling on the token shards `texts`."""
    passages = TokenShards.open(Path(texts))
    config = MaskedLanguageConfig(masking_rate=0.15, mask_share=0.8, random_share=0.1)
    data = TrainingData(passages, np.arange(len(passages)), np.arange(len(passages)))
    run(channel, config, data, start, steps, learning_rate, seed)


def contrastive(
    channel: Channel, start: str, queries: str, positives: str, steps: int, learning_rate: float, seed: int
) -> None:
    """Worker: in-batch negatives only, as MultipleNegativesRankingLoss with a scale of 20 has them."""
    passages = TokenShards.open(Path(positives))
    number = len(passages)
    pairs = PairSet(
        queries=TokenShards.open(Path(queries)),
        positives=passages,
        negatives=np.empty((number, 0), dtype=np.int64),
        documents=np.full(number, -1),
        kinds=np.zeros(number, dtype=np.int64),
        kind_names=("pair",),
    )
    config = ContrastiveConfig(temperature=0.05, negatives=0, recompute_above=RECOMPUTE_ABOVE)
    data = TrainingData(passages, np.arange(number), np.arange(number), pairs)
    run(channel, config, data, start, steps, learning_rate, seed)


def run(
    channel: Channel,
    objective_config: ObjectiveConfig,
    data: TrainingData,
    start: str,
    steps: int,
    learning_rate: float,
    seed: int,
) -> None:
    """Train for one pass over the data in so many steps, at the parent's pace."""
    environment.keep_freed_memory()
    checkpoint = load_checkpoint(start)
    objective = build_objective(objective_config, data, checkpoint, seed)
    batch_tokens, budget = one_pass(objective, steps, seed)
    config = TrainingConfig(
        learning_rate=learning_rate,
        batch_tokens=batch_tokens,
        warmup=WARMUP,
        decay=DECAY,
        weight_decay=0.0,
        clip=1.0,
        evaluations=0,
        checkpoint_minutes=NEVER_MINUTES,
    )
    pace, losses = Pace(channel), []

    def report(record: object) -> None:
        if isinstance(record, StepRecord):
            losses.append(record.loss)
            pace.count(record.step_tokens)
            pace.after_step()

    with tempfile.TemporaryDirectory() as folder:
        train(checkpoint.encoder, objective, config, budget, Path(folder), seed, report=report)
    assert pace.folder is not None
    pace.folder.mkdir()
    export_checkpoint(checkpoint, pace.folder, with_head=checkpoint.head is not None)
    pace.finish(losses)


def one_pass(objective: Objective, steps: int, seed: int) -> tuple[int, BudgetConfig]:
    """The smallest batch with which so many steps see all examples, and the budget of exactly these steps.

    Batches hold a number of tokens and examples are not cut, so a batch is a little larger than an even share.
    """
    lengths = objective.lengths()
    batch_tokens = int(lengths.sum()) // steps
    while True:
        batches = epoch_batches(lengths, batch_tokens, seed, 0, sort=objective.sorted_by_length)
        if len(batches) <= steps:
            return batch_tokens, BudgetConfig(tokens=round(steps * lengths.sum() / len(batches)))
        batch_tokens += max(1, batch_tokens // 500)
