"""Contrastive training of all-MiniLM-L6-v2: what is trained on, sentence-transformers' trainer, and its losses.

Short pairs are questions with a snippet that answers them (BioASQ), long ones questions with whole answers (MedQuAD).
Each positive is taken once: where two of one batch are equal, sentence-transformers takes one for the other's
negative, and ours does not. Dropout is off, as ours has none.

The trainer takes part as it comes (float32) and in bf16. It tokenises texts in each step, as it
comes; ours reads tokens that the pipeline wrote before.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.speed.paced import Pace, logged_losses, paced_trainer, trainer_options
from benchmarks.speed.texts import data_folder, read_lines, words
from benchmarks.speed.workers import Channel

from corpusmith.corpus.shards import write_shards
from corpusmith.disk import write_whole
from corpusmith.model.huggingface import export_checkpoint, load_checkpoint

MODELS = {"L6-H384": "all-MiniLM-L6-v2"}
"""What each shape starts from."""

PAIRS = {"sentences": "bioasq", "abstracts": "medquad_qa"}
LEARNING_RATE = 2e-5
SCALE = 20.0
CANDIDATES = 64
HELD_OUT = 2 * CANDIDATES


def prepare(folder: Path, shape: str, mix: str, step_size: int, steps: int, seed: int) -> dict[str, Any]:
    """Write the pairs and the initial model of a case; every system sees each pair once, `step_size` a step."""
    pairs = draw_pairs(PAIRS[mix], HELD_OUT + steps * step_size, seed)
    checkpoint = load_checkpoint(MODELS[shape])
    checkpoint.hf_config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (folder / "start").mkdir()
    export_checkpoint(checkpoint, folder / "start")
    write_whole(folder / "held_out.json", json.dumps(pairs[:HELD_OUT]))
    write_whole(folder / "pairs.json", json.dumps(pairs[HELD_OUT:]))
    for i, name in enumerate(("queries", "positives")):
        (folder / name).mkdir()
        write_shards([pair[i] for pair in pairs[HELD_OUT:]], checkpoint.tokenizer, folder / name)
    positives = [positive for _, positive in pairs[HELD_OUT:]]
    return {"texts": len(positives), "texts_of_a_step": step_size, "words": words(positives)}


def draw_pairs(name: str, number: int, seed: int) -> list[tuple[str, str]]:
    """So many (query, positive) pairs at random, no two with the same positive."""
    lines = read_lines(data_folder() / "pairs" / f"{name}.jsonl.gz")
    found = list({line["positive"]: line["query"] for line in lines}.items())
    if len(found) < number:
        raise SystemExit(f"{name} holds {len(found)} pairs and {number} are asked for: take fewer rounds or steps")
    chosen = np.random.default_rng(seed).choice(len(found), number, replace=False)
    return [(found[i][1], found[i][0]) for i in chosen]


def systems(folder: Path, prepared: dict[str, Any], steps: int, seed: int) -> dict[str, tuple[str, dict, dict]]:
    """Worker, arguments and environment of every system."""
    shared = {"start": str(folder / "start"), "steps": steps, "learning_rate": LEARNING_RATE, "seed": seed}
    shards = {"queries": str(folder / "queries"), "positives": str(folder / "positives")}
    trainer = "benchmarks.speed.pretrain_contrastive:trainer"
    texts = {"pairs": str(folder / "pairs.json"), "batch": prepared["texts_of_a_step"]}
    return {
        "corpusmith": ("benchmarks.speed.pretrain_ours:contrastive", shared | shards, {}),
        "sentence-transformers": (trainer, shared | texts | {"bf16": False}, {}),
        "sentence-transformers, bf16": (trainer, shared | texts | {"bf16": True}, {}),
    }


def trainer(
    channel: Channel, start: str, pairs: str, steps: int, learning_rate: float, seed: int, batch: int, bf16: bool
) -> None:
    """Worker: sentence-transformers' trainer with MultipleNegativesRankingLoss."""
    from datasets import Dataset
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.losses import MultipleNegativesRankingLoss

    queries, positives = zip(*json.loads(Path(pairs).read_text(encoding="utf-8")), strict=True)
    model = SentenceTransformer(start, device="cpu")
    arguments = SentenceTransformerTrainingArguments(
        **trainer_options(start, steps, batch, learning_rate, seed),
        bf16=bf16,
    )
    pace = Pace(channel)
    paced = paced_trainer(
        SentenceTransformerTrainer,
        pace,
        model[0],
        model=model,
        args=arguments,
        train_dataset=Dataset.from_dict({"anchor": queries, "positive": positives}),
        loss=MultipleNegativesRankingLoss(model, scale=SCALE),
    )
    paced.train()
    assert pace.folder is not None
    model.save(str(pace.folder), create_model_card=False)
    pace.finish(logged_losses(paced))


def held_out_losses(folder: Path, models: dict[str, Path], seed: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """`float[N]` loss of each query held out, among 64 at a time, by model; and `int[N]` ones, their weights.

    All models are asked the same, by sentence-transformers in float32.
    """
    from sentence_transformers import SentenceTransformer

    pairs = json.loads((folder / "held_out.json").read_text(encoding="utf-8"))
    found = {}
    for name, place in models.items():
        model = SentenceTransformer(str(place), device="cpu", model_kwargs={"dtype": torch.float32})
        queries, positives = (model.encode(list(texts), convert_to_tensor=True) for texts in zip(*pairs, strict=True))
        found[name] = np.concatenate(
            [
                _losses(queries[i : i + CANDIDATES], positives[i : i + CANDIDATES])
                for i in range(0, len(pairs), CANDIDATES)
            ]
        )
    return found, np.ones(len(pairs), dtype=np.int64)


def _losses(queries: torch.Tensor, positives: torch.Tensor) -> np.ndarray:
    similarities = SCALE * queries @ positives.T
    losses = torch.nn.functional.cross_entropy(similarities, torch.arange(len(queries)), reduction="none")
    return losses.double().numpy()
