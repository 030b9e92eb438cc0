"""What a build will do, said before it does it: steps, what is reused, time, memory and disk, all estimated.

Reading, encoding and training are estimated from the size of the input, from how many bytes a token takes in the first
texts of it, and from how fast this machine encodes a few thousand tokens, measured in about two seconds. Where a sample
has decided what becomes of the vocabulary, its numbers of tokens count. The estimate is an order of magnitude; the time
that is really spent stands in each artefact's manifest.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from corpusmith import environment
from corpusmith.artefact import Manifest
from corpusmith.growth.config import StackConfig
from corpusmith.growth.stack import guidance
from corpusmith.model.checkpoint import Checkpoint
from corpusmith.model.encoder import Encoder
from corpusmith.objective.config import ContrastiveConfig
from corpusmith.objective.registry import objective_class
from corpusmith.pipeline.chain import Silent, reusable
from corpusmith.pipeline.extent import USUAL_BYTES_A_TOKEN, bytes_a_token, file_bytes
from corpusmith.pipeline.memory import BYTES_A_PARAMETER, Memory
from corpusmith.pipeline.run import chain
from corpusmith.pipeline.start import encoder_to_train, learning_batch, learning_tokens, transfer_tokens
from corpusmith.pipeline.train import RESERVED_SECONDS, late_share, sentences_share
from corpusmith.pipeline.workspace import Workspace
from corpusmith.recipe import Recipe, StageConfig
from corpusmith.report.base import PlannedStep
from corpusmith.report.notation import quantity, size
from corpusmith.retrieval.encoding import Method, make_retriever
from corpusmith.vocabulary.config import ExtendConfig, ReplaceConfig
from corpusmith.vocabulary.decide import Decision

PASSAGE_TOKENS = 200
"""Of a passage of English; elsewhere it is as many as `PASSAGE_BYTES` give."""
PASSAGE_BYTES = PASSAGE_TOKENS * USUAL_BYTES_A_TOKEN
SENTENCE_TOKENS = 25
INSTALLED_DOCUMENTS = 6000
READ_TOKENS_A_SECOND = 150_000
INDEX_TOKENS_A_SECOND = 500_000
VOCABULARY_SECONDS, LEAST_VOCABULARY_SECONDS = 60.0, 5.0
"""Learning a vocabulary and carrying the base over to it: from `VOCABULARY_CHARACTERS`, and from next to none."""
VOCABULARY_CHARACTERS = 10_000_000
MODEL_BYTES_A_PARAMETER, CHECKPOINT_BYTES_A_PARAMETER = 4, 12
"""Weights and AdamW's two moments."""
CHECKPOINTS = 3
TRAINING_COST = 3.5
"""Training a token against encoding one, as measured with all-MiniLM-L6-v2."""
DISTILLING_COST = 5.0
"""Learning new vectors from a token, in 32 bits and by two models, against encoding one."""
PROBE_SEQUENCES, PROBE_TOKENS = 32, 128
NOT_TRAINED = "no time left in this budget: nothing will be trained"


def make_plan(
    paths: Sequence[Path], recipe: Recipe, folder: Path, decision: Decision | None = None
) -> list[PlannedStep]:
    """One entry a step: `step`, `reused`, `seconds`, `memory_bytes`, `disk_bytes`, `note`; for `print_plan`.

    Args:
        paths, recipe, folder: as in `build`; nothing is left open in the recipe's start.
        decision: what decided the vocabulary, where a sample did.

    Raises:
        CorpusmithError: a path does not exist, the base model cannot be loaded, or an option is out of range.
    """
    work = Workspace(paths, recipe, folder, Silent())
    steps = chain(work)
    done = reusable(steps, recipe.seed)
    a_token = _bytes_a_token(paths, recipe, work)
    if "tokens" in done:
        tokens = done["tokens"].cost["tokens"]
    else:
        tokens = decision.corpus_tokens if decision else _estimated_tokens(paths, recipe, a_token)
    anew = _tokens_anew(tokens, done, decision)
    speed = encoding_speed(work.base, work.recipe.encoding.method)
    encoding_seconds = tokens / speed
    whole, trained = work.whole_base.encoder, encoder_to_train(work)
    dearer = trained.flops([PASSAGE_TOKENS]) / whole.flops([PASSAGE_TOKENS])
    passages = tokens * a_token / PASSAGE_BYTES
    vectors = int(passages) * work.base.dimension * 4
    trained_vectors = int(passages) * trained.config.hidden_size * 4
    sentences = anew / SENTENCE_TOKENS if sentences_share(recipe) else 0.0
    made = min(recipe.heldout.queries, int(recipe.heldout.share * passages))
    looking = late_share(work, made, passages) * anew / speed * dearer
    seconds = {
        "corpus": tokens / READ_TOKENS_A_SECOND,
        "tokens": tokens / INDEX_TOKENS_A_SECOND,
        "lexical": tokens / INDEX_TOKENS_A_SECOND,
        "base": encoding_seconds,
        "vocabulary": _vocabulary_seconds(recipe, tokens * a_token) + transfer_tokens(recipe) * DISTILLING_COST / speed,
        "vocabulary-tokens": tokens / INDEX_TOKENS_A_SECOND,
        "growth": learning_tokens(recipe.start) * dearer * TRAINING_COST / speed,
        "trained": anew / speed * dearer,
        "sentences": sentences_share(recipe) * anew / speed * dearer,
        "pairs": 30.0,
        "choice": RESERVED_SECONDS / 3 + looking / 2,
        "evaluation": RESERVED_SECONDS / 3 + looking / 2,
    }
    disk = {
        "corpus": tokens * a_token / 2,
        "tokens": tokens * 2,
        "lexical": tokens * 4,
        "base": vectors,
        "trained": trained_vectors,
        "sentences": sentences * trained.config.hidden_size * 2,
        "vocabulary": trained.parameter_count() * MODEL_BYTES_A_PARAMETER,
        "vocabulary-tokens": anew * 2,
        "growth": trained.parameter_count() * MODEL_BYTES_A_PARAMETER,
        "model": max(work.base.encoder.parameter_count(), trained.parameter_count()) * MODEL_BYTES_A_PARAMETER,
    }
    left = _seconds_left(recipe, seconds)
    stages = {f"stage-{number}": stage for number, stage in enumerate(recipe.stages, 1)}
    training_speed = speed / dearer / TRAINING_COST
    plan: list[PlannedStep] = []
    resident = environment.resident_memory_bytes()
    memory = Memory(whole.config, whole.parameter_count(), tokens, passages, sentences, resident)
    # Freed memory is kept: it never falls from one step to the next. What learning to grow has freed, training takes.
    untrained = held = memory.resting()
    trains = False
    for step in steps:
        planned: PlannedStep = {
            "step": step.name,
            "reused": step.name in done,
            "seconds": seconds.get(step.name, 1.0),
            "memory_bytes": 0,
            "disk_bytes": int(disk.get(step.name, 0)),
            "note": step.note,
        }
        if planned["reused"]:
            trains |= done[step.name].facts.get("steps", 0) > 0
            plan.append(planned | {"seconds": 0.0, "disk_bytes": 0})
            continue
        if step.name in work.start_steps:
            grown = resident + BYTES_A_PARAMETER * trained.parameter_count()
            memory = Memory(trained.config, trained.parameter_count(), tokens, passages, sentences, grown)
        if step.name == "growth":
            planned["note"] += _stacking(recipe, trained, left, training_speed)
        if step.name in stages:
            most = _most_training_seconds(stages[step.name], recipe, anew, passages, training_speed)
            training = _training_seconds(stages[step.name], recipe, left)
            training = None if training is None else min(training, most)
            a_parameter = MODEL_BYTES_A_PARAMETER
            if training == 0:
                planned["note"] = NOT_TRAINED
            else:
                trains, a_parameter = True, CHECKPOINTS * CHECKPOINT_BYTES_A_PARAMETER
                held = max(held, untrained + memory.training(_tokens_at_a_time(stages[step.name])))
            planned |= {"seconds": training, "disk_bytes": a_parameter * memory.parameters}
        elif step.name == "trained" and not trains:
            planned |= {"seconds": 0.0, "disk_bytes": 0, "note": "the base's vectors"}
        elif step.name == "growth" and learning_tokens(recipe.start):
            held = max(held, untrained + memory.training(learning_batch(recipe.start)))
        else:
            untrained = max(untrained, memory.held(step.name))
            held = max(held, untrained)
        plan.append(planned | {"memory_bytes": int(held + memory.mapped(step.name))})
    return plan


def scarcity(plan: Sequence[PlannedStep], folder: Path) -> list[str]:
    """Sentences about what a build into `folder` may run out of; estimates are no reason to refuse it."""
    place = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if os.path.isdir(parent))
    needed = {
        "memory": (max(step["memory_bytes"] for step in plan), environment.memory_bytes()),
        "disk": (sum(step["disk_bytes"] for step in plan), shutil.disk_usage(place).free),
    }
    return [
        f"This may need more {name} than there is: {size(wanted)} of {size(there)}."
        for name, (wanted, there) in needed.items()
        if wanted > there
    ]


def _tokens_at_a_time(stage: StageConfig) -> int:
    """Tokens that pass through the encoder before anything of them is given up."""
    members = stage.objective.members()
    if all(objective_class(options.kind).divisible for options in (stage.objective, *members)):
        return stage.training.micro_batch_tokens
    step_tokens = stage.training.batch_tokens or objective_class(members[0].kind).batch_tokens
    return min(step_tokens, getattr(stage.objective, "recompute_above", step_tokens))


def _seconds_left(recipe: Recipe, seconds: dict[str, float]) -> float | None:
    """What a budget of minutes leaves for the stages that share it; None for other budgets."""
    if recipe.budget.minutes is None:
        return None
    own = sum((stage.budget.minutes or 0.0) for stage in recipe.stages if stage.budget is not None)
    return max(0.0, 60 * (recipe.budget.minutes - own) - sum(seconds.values()))


def _training_seconds(stage: StageConfig, recipe: Recipe, left: float | None) -> float | None:
    """What a stage may take: its own minutes, or its share of what is left; None where tokens or FLOPs decide."""
    if stage.budget is not None:
        return None if stage.budget.minutes is None else 60 * stage.budget.minutes
    return None if left is None else left * recipe.part_of_budget(recipe.stages.index(stage) + 1)


def _most_training_seconds(stage: StageConfig, recipe: Recipe, tokens: float, passages: float, speed: float) -> float:
    """What a stage takes if nothing stops it before its last epoch; `speed` is that of training."""
    epoch = tokens
    members = stage.objective.members()
    if isinstance(members[0], ContrastiveConfig):
        pairs = min(recipe.pairs.maximum, recipe.pairs.per_document * math.ceil(passages))
        epoch = pairs * (1 + members[0].negatives) * tokens / max(passages, 1e-9)
    epoch *= len(members)
    return stage.training.max_epochs * epoch / speed


def _bytes_a_token(paths: Sequence[Path], recipe: Recipe, work: Workspace) -> float:
    """UTF-8 bytes that a token takes."""
    if recipe.corpus.source == "installed-docs":
        return USUAL_BYTES_A_TOKEN
    return bytes_a_token(paths, recipe.corpus, work.base.tokenizer)


def _estimated_tokens(paths: Sequence[Path], recipe: Recipe, a_token: float) -> float:
    """Tokens in the corpus, from the size of its files and the bytes that a token takes."""
    if recipe.corpus.source == "installed-docs":
        return (recipe.corpus.maximum_documents or INSTALLED_DOCUMENTS) * PASSAGE_TOKENS
    return file_bytes(paths, recipe.corpus) / a_token


def _tokens_anew(tokens: float, done: Mapping[str, Manifest], decision: Decision | None) -> float:
    """Tokens in the corpus under the vocabulary that is trained, as far as that is known."""
    if "vocabulary-tokens" in done:
        return done["vocabulary-tokens"].cost["tokens"]
    if "vocabulary" in done:
        return tokens * (1 - done["vocabulary"].facts["tokens_saved"])
    return tokens * (1 - decision.saved) if decision else tokens


def _vocabulary_seconds(recipe: Recipe, characters: float) -> float:
    """How long a vocabulary takes: nearly as long again for every character of its sample."""
    options = recipe.start.vocabulary
    sampled = options.sample_characters if isinstance(options, ExtendConfig | ReplaceConfig) else 0
    share = min(sampled, characters) / VOCABULARY_CHARACTERS
    return LEAST_VOCABULARY_SECONDS + share * (VOCABULARY_SECONDS - LEAST_VOCABULARY_SECONDS)


def _stacking(recipe: Recipe, trained: Encoder, left: float | None, speed: float) -> str:
    """What those who measured stacking would do with this budget, where the recipe stacks; to end a note with."""
    if not any(isinstance(options, StackConfig) for options in recipe.start.operators):
        return ""
    config, budget = trained.config, recipe.budget
    parameters = trained.parameter_count() - config.vocabulary_size * config.hidden_size
    tokens = budget.tokens if budget.tokens is not None else (left or 0.0) * speed
    flops = budget.flops if budget.flops is not None else 6 * parameters * tokens
    advice = guidance(parameters, max(flops, 1.0))
    tokens_said = f" on {quantity(advice.tokens)} tokens" if advice.tokens >= 1 else ""
    return (
        f"; for stacking, Du et al. (2024) first train a model with {advice.factor} times fewer layers{tokens_said}, "
        f"with {advice.share:.0%} of the FLOPs"
        + ("" if advice.fitted else " (our rule of thumb outside of the sizes that they measured)")
    )


def encoding_speed(checkpoint: Checkpoint, method: Method) -> float:
    """Tokens a second that this machine encodes with a model."""
    import numpy as np

    words = np.random.default_rng(0).integers(0, 1000, (PROBE_SEQUENCES, PROBE_TOKENS - 2))
    texts = [" ".join(f"w{word}" for word in row[: PROBE_TOKENS // 4]) for row in words]
    retriever = make_retriever(checkpoint, method)
    retriever.encode(texts[:4])
    tokens = sum(len(ids) + 2 for ids in checkpoint.tokenizer.encode(texts))
    started = environment.seconds()
    retriever.encode(texts)
    return tokens / max(environment.seconds() - started, 1e-6)
