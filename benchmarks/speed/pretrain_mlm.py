"""Masked language modelling from fresh weights: what is trained on, transformers' Trainer, and how losses are compared.

The Trainer takes part as it comes (float32, examples in random order, 32 a batch) and as someone sets it up who knows
it: bf16, batches of like lengths, the whole batch at once, as many threads as there are cores, special tokens marked
beforehand so that its collator need not look for them. (Its optimiser is the fused AdamW in both cases: that is its
default now.)
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.speed.paced import Pace, logged_losses, paced_trainer, trainer_options
from benchmarks.speed.texts import draw_texts, words
from benchmarks.speed.workers import Channel

from corpusmith import environment
from corpusmith.corpus.shards import TokenShards, write_shards
from corpusmith.model.huggingface import load_checkpoint
from corpusmith.vocabulary.tokenizer import Tokenizer

SHAPES = {"L4-H256": (4, 256, 4), "L6-H384": (6, 384, 12), "L12-H768": (12, 768, 12)}
"""Layers, hidden size and heads."""

VOCABULARY_OF = "all-MiniLM-L6-v2"
MAX_TOKENS = 512
TRAINER_BATCH = 32
"""Sequences that the Trainer as it comes takes at a time, where a step has that many."""

LEARNING_RATE = 5e-4
HELD_OUT = {"sentences": 256, "abstracts": 32}
"""Texts, so many that each mix has well over a thousand tokens to name."""
MASKING_RATE = 0.15


def prepare(folder: Path, shape: str, mix: str, step_size: int, steps: int, seed: int) -> dict[str, Any]:
    """Write the texts and the initial weights of a case, for steps of about `step_size` real tokens.

    Each step takes a fixed number of texts in the Trainer, and every system sees each text once.
    """
    tokenizer = load_checkpoint(VOCABULARY_OF).tokenizer
    of_a_step = texts_of_a_step(draw_texts(mix, 500, seed), tokenizer, step_size)
    drawn = draw_texts(mix, steps * of_a_step + HELD_OUT[mix], seed)
    held_out, texts = drawn[: HELD_OUT[mix]], drawn[HELD_OUT[mix] :]
    for name, part in {"texts": texts, "held_out": held_out}.items():
        (folder / name).mkdir()
        write_shards(part, tokenizer, folder / name)
    write_fresh_model(folder / "start", shape, tokenizer, seed)
    return {"texts": len(texts), "texts_of_a_step": of_a_step, "words": words(texts)}


def texts_of_a_step(sample: list[str], tokenizer: Tokenizer, tokens: int) -> int:
    """How many texts make a step: a multiple of the Trainer's batch where there are more than that."""
    number = tokens / np.mean([min(len(ids) + 2, MAX_TOKENS) for ids in tokenizer.encode(sample)])
    return TRAINER_BATCH * round(number / TRAINER_BATCH) if number > TRAINER_BATCH else round(number)


def write_fresh_model(folder: Path, shape: str, tokenizer: Tokenizer, seed: int) -> None:
    """A BERT of this shape with weights drawn from the seed and without dropout."""
    from transformers import BertConfig, BertForMaskedLM

    layers, size, heads = SHAPES[shape]
    config = BertConfig(
        vocab_size=tokenizer.size,
        num_hidden_layers=layers,
        hidden_size=size,
        num_attention_heads=heads,
        intermediate_size=4 * size,
        max_position_embeddings=MAX_TOKENS,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        pad_token_id=tokenizer.pad,
    )
    torch.manual_seed(seed)
    BertForMaskedLM(config).save_pretrained(folder)
    tokenizer.save(folder)


def systems(folder: Path, prepared: dict[str, Any], steps: int, seed: int) -> dict[str, tuple[str, dict, dict]]:
    """Worker, arguments and environment of every system."""
    of_a_step = prepared["texts_of_a_step"]
    shared = {
        "start": str(folder / "start"),
        "texts": str(folder / "texts"),
        "steps": steps,
        "learning_rate": LEARNING_RATE,
        "seed": seed,
    }
    at_a_time = min(of_a_step, TRAINER_BATCH)
    plain = {"batch": at_a_time, "accumulation": of_a_step // at_a_time, "expert": False}
    expert = {"batch": of_a_step, "accumulation": 1, "expert": True}
    trainer = "benchmarks.speed.pretrain_mlm:trainer"
    return {
        "corpusmith": ("benchmarks.speed.pretrain_ours:masked_language", shared, {}),
        "Trainer": (trainer, shared | plain, {}),
        "Trainer, expert": (trainer, shared | expert, {"OMP_NUM_THREADS": str(environment.cores())}),
    }


def trainer(
    channel: Channel,
    start: str,
    texts: str,
    steps: int,
    learning_rate: float,
    seed: int,
    batch: int,
    accumulation: int,
    expert: bool,
) -> None:
    """Worker: transformers' Trainer with its standard collator."""
    from transformers import (
        AutoTokenizer,
        BertForMaskedLM,
        DataCollatorForLanguageModeling,
        Trainer,
        TrainingArguments,
    )

    options: dict[str, Any] = {}
    if expert:
        torch.set_num_threads(environment.cores())
        options = {"bf16": True, "train_sampling_strategy": "group_by_length", "remove_unused_columns": False}
    model = BertForMaskedLM.from_pretrained(start)
    # BERT's loss takes the Trainer's count of targets and ignores it, so accumulated gradients would be a sum.
    model.accepts_loss_kwargs = False
    arguments = TrainingArguments(
        **trainer_options(start, steps, batch, learning_rate, seed),
        gradient_accumulation_steps=accumulation,
        **options,
    )
    pace = Pace(channel)
    paced = paced_trainer(
        Trainer,
        pace,
        model,
        model=model,
        args=arguments,
        data_collator=DataCollatorForLanguageModeling(
            AutoTokenizer.from_pretrained(start), mlm_probability=MASKING_RATE
        ),
        train_dataset=tokenised(Path(start), Path(texts)),
    )
    paced.train()
    assert pace.folder is not None
    model.save_pretrained(pace.folder)
    pace.finish(logged_losses(paced))


def tokenised(start: Path, shards: Path) -> Any:
    """The texts as a data set, with the columns that transformers' tokenizers make."""
    from datasets import Dataset

    tokenizer = Tokenizer.load(start)
    sequences = [tokenizer.with_specials(ids, MAX_TOKENS) for ids in TokenShards.open(shards)]
    return Dataset.from_dict(
        {
            "input_ids": [ids.tolist() for ids in sequences],
            "attention_mask": [[1] * len(ids) for ids in sequences],
            "special_tokens_mask": [np.isin(ids, tokenizer.special_ids).astype(int).tolist() for ids in sequences],
        }
    )


def held_out_losses(folder: Path, models: dict[str, Path], seed: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """`float[N]` summed loss of each text held out, by model; and `int[N]` how many tokens were hidden in each.

    All models are asked the same, by transformers in float32.
    """
    from transformers import AutoTokenizer, BertForMaskedLM, DataCollatorForLanguageModeling

    collate = DataCollatorForLanguageModeling(
        AutoTokenizer.from_pretrained(folder / "start"), mlm_probability=MASKING_RATE, seed=seed
    )
    texts = tokenised(folder / "start", folder / "held_out")
    batches = [collate(list(texts.select(range(i, min(i + 16, len(texts)))))) for i in range(0, len(texts), 16)]
    hidden = np.concatenate([(batch["labels"] != -100).sum(dim=1).numpy() for batch in batches])
    found = {}
    for name, place in models.items():
        model = BertForMaskedLM.from_pretrained(place, dtype=torch.float32).eval()
        found[name] = np.concatenate([_losses(model, batch) for batch in batches])
    return found, hidden


@torch.no_grad()
def _losses(model: Any, batch: Any) -> np.ndarray:
    """Summed loss of each text; the head is only asked about hidden tokens."""
    states = model.bert(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
    is_hidden = batch["labels"] != -100
    targets = batch["labels"][is_hidden]
    losses = torch.nn.functional.cross_entropy(model.cls(states[is_hidden]), targets, reduction="none")
    return np.bincount(is_hidden.nonzero()[:, 0].numpy(), losses.double().numpy(), minlength=len(is_hidden))
