"""Trains in FOLDER/killed, killing itself at several steps, and in FOLDER/whole without.

Each attempt is a process of its own, forked before torch has started any thread; what it leaves on the disk is all
that the next one knows. Prints how each ended.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

from corpusmith.corpus.shards import TokenShards
from corpusmith.model.config import EncoderConfig
from corpusmith.model.encoder import Encoder
from corpusmith.objective.config import RetroMAEConfig
from corpusmith.objective.data import TrainingData
from corpusmith.objective.registry import build_objective
from corpusmith.training.budget import BudgetConfig
from corpusmith.training.config import TrainingConfig
from corpusmith.training.log import StepRecord
from corpusmith.training.loop import train

VOCABULARY = 80
TOKENIZER = SimpleNamespace(
    mask=3,
    size=VOCABULARY,
    special_ids=np.arange(4),
    is_word_start=np.arange(VOCABULARY) % 4 > 0,
    with_specials=lambda ids, most: np.concatenate([[1], ids[: most - 2], [2]]).astype(np.int64),
)


def attempt(folder: Path, last_step: int) -> None:
    torch.set_num_threads(1)  # see conftest.py
    rng = np.random.default_rng(0)
    offsets = np.concatenate([[0], np.cumsum(rng.integers(3, 20, 60))])
    shards = TokenShards(rng.integers(4, VOCABULARY, offsets[-1]).astype(np.uint16), offsets)
    data = TrainingData(shards, np.arange(60), np.arange(60))
    config = EncoderConfig(
        model_type="bert",
        vocabulary_size=VOCABULARY,
        hidden_size=32,
        layers=2,
        heads=2,
        intermediate_size=64,
        max_positions=32,
    )
    encoder = Encoder(config, torch.Generator().manual_seed(1))
    checkpoint = SimpleNamespace(
        encoder=encoder, head=None, tokenizer=TOKENIZER, pooling="cls", normalize=True, max_tokens=24, parts={}
    )
    objective = build_objective(RetroMAEConfig(), data, checkpoint, seed=1)

    def die(record: object) -> None:
        if isinstance(record, StepRecord) and record.step == last_step:
            os.kill(os.getpid(), signal.SIGKILL)

    options = TrainingConfig(batch_tokens=100, held_out=5, evaluations=2, checkpoint_minutes=0)
    train(encoder, objective, options, BudgetConfig(tokens=1500), folder, seed=1, report=die)


def main(folder: Path) -> None:
    for name, last_step in [("killed", 2), ("killed", 3), ("killed", 9), ("killed", -1), ("whole", -1)]:
        child = os.fork()
        if child == 0:
            attempt(folder / name, last_step)
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
