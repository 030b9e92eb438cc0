"""Training: one stage an artefact, resumable at any moment."""

from __future__ import annotations

import math
import shutil
from collections.abc import Collection
from pathlib import Path

import numpy as np

from corpusmith.artefact import Draft
from corpusmith.corpus.readers.installed_docs import KNOWN_ITEMS, SEE_ALSO
from corpusmith.digests import seal, unseal
from corpusmith.disk import write_whole
from corpusmith.errors import ArtefactError
from corpusmith.evaluation.heldout import MINIMUM_QUERIES
from corpusmith.evaluation.validator import Validator, first_queries, pool_of
from corpusmith.model.arithmetic import best_device
from corpusmith.model.checkpoint import Checkpoint
from corpusmith.model.encoder import Encoder
from corpusmith.model.huggingface import export_checkpoint
from corpusmith.objective.base import Objective
from corpusmith.objective.data import TrainingData
from corpusmith.objective.options.base import Need
from corpusmith.objective.registry import build_objective, save_parts
from corpusmith.pipeline.workspace import Workspace
from corpusmith.recipe import Recipe, StageConfig
from corpusmith.retrieval.pairs import open_pairs
from corpusmith.training.budget import BudgetConfig
from corpusmith.training.checkpoint import DAMAGED
from corpusmith.training.log import Evaluation, Notice, StepRecord
from corpusmith.training.loop import train
from corpusmith.training.plan import Plan

RESERVED_SECONDS = 45
"""Set aside from a budget of minutes for choosing, measuring and the report."""
SENTENCES_COST = 1.1
"""Special tokens that every sentence has make up for the shorter attention."""
LEAST_TRAINING_MINUTES = 0.25
LEAST_PAIRS = 64
"""With fewer training pairs than this the model would learn them by heart."""
VALIDATION_QUERIES = 128
VALIDATION_NEIGHBOURS = 10


def make_stage(work: Workspace, draft: Draft, number: int, stage: StageConfig) -> None:
    """One stage of training, from the base or from the stage before; resumable at any moment."""
    start = work.stage_checkpoint(number - 1)
    seed = _seed(work, stage)
    _forget_damaged_plan(work, draft.folder)
    draft.facts["objective"] = stage.objective.kind
    budget, hindrance = _stage_budget(work, draft.folder, number)
    objective = None
    if budget is None:
        draft.facts["note"] = hindrance
    else:
        objective = build_objective(stage.objective, training_data(work, stage.objective.needs()), start, seed)
        result = train(
            start.encoder,
            objective,
            stage.training,
            budget,
            draft.folder / "run",
            seed,
            validate=_validator(work, start),
            report=lambda record: _report_training(work, record),
        )
        draft.cost.update(tokens=result.tokens, flops=result.flops)
        draft.facts.update(
            steps=result.steps,
            planned_steps=result.planned_steps,
            seconds=result.seconds,
            kept_step=result.kept_step,
        )
    model = draft.folder / "model"
    shutil.rmtree(model, ignore_errors=True)
    model.mkdir()
    export_checkpoint(start, model)
    if objective is not None:
        save_parts(objective, stage.objective.kind, model)
    if not work.keeps_checkpoints:
        shutil.rmtree(draft.folder / "run" / "checkpoints", ignore_errors=True)
    draft.volatile.update(("budget.json", "run/plan.json", "run/timing.jsonl"))
    aside = (draft.folder / "run" / "checkpoints").glob(f"*{DAMAGED}/*")
    draft.volatile.update(path.relative_to(draft.folder).as_posix() for path in aside)


def trained_objective(work: Workspace, number: int) -> tuple[Objective, Encoder]:
    """The objective of a finished stage with all that training left of its own parts, and the encoder beside it."""
    stage, end = work.recipe.stages[number - 1], work.stage_checkpoint(number)
    objective = build_objective(stage.objective, training_data(work, stage.objective.needs()), end, _seed(work, stage))
    objective.to(best_device()).eval()
    return objective, end.encoder.eval()


def _seed(work: Workspace, stage: StageConfig) -> int:
    return work.recipe.seed if stage.seed is None else stage.seed


def _forget_damaged_plan(work: Workspace, folder: Path) -> None:
    """Begin the stage again where what it was going to spend can no longer be read: nothing else tells it."""
    try:
        _read_budget(folder / "budget.json")
        if (folder / "run" / "plan.json").exists():
            Plan.read(folder / "run" / "plan.json")
    except ArtefactError as error:
        work.watcher.say(f"{error} The stage begins again now.")
        shutil.rmtree(folder)
        folder.mkdir()


def _read_budget(path: Path) -> tuple[BudgetConfig | None, str] | None:
    """What `_stage_budget` settled, None before that.

    Raises:
        ArtefactError: the file is damaged.
    """
    if not path.exists():
        return None
    try:
        content = unseal(path.read_bytes())
        return BudgetConfig(**content["budget"]) if content["budget"] else None, str(content["hindrance"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtefactError(f"{path} is damaged ({error}).") from error


def training_data(work: Workspace, needs: Collection[Need] = ()) -> TrainingData:
    """Passages, and pairs or links where an objective needs them, of the documents that no held-out query asks for."""
    held_out = np.isin(work.corpus.passage_documents, work.excluded_documents)
    trainable = work.corpus.trainable_rows()
    return TrainingData(
        passages=work.training_shards,
        rows=trainable[~held_out[trainable]],
        documents=work.corpus.passage_documents,
        pairs=open_pairs(work.path("pairs")) if "pairs" in needs else None,
        links=_links(work, held_out) if "links" in needs else None,
    )


def _links(work: Workspace, held_out: np.ndarray) -> np.ndarray:
    """`int64[L, 2]` documents that refer to others, without those that held-out queries ask for."""
    links = np.array(work.corpus.link_rows(), dtype=np.int64).reshape(-1, 2)
    return links[~np.isin(links, work.corpus.passage_documents[held_out]).any(axis=1)]


def _stage_budget(work: Workspace, folder: Path, number: int) -> tuple[BudgetConfig | None, str]:
    """What this stage may spend, settled once and kept in its folder; None, and the reason, if it cannot train."""
    path = folder / "budget.json"
    if settled := _read_budget(path):
        return settled
    stage = work.recipe.stages[number - 1]
    hindrance = _hindrance(work, stage)
    budget = None if hindrance else stage.budget or _share(work, number)
    if budget is None:
        hindrance = hindrance or "No time is left to train in this budget; nothing is trained."
        work.watcher.say(hindrance)
    write_whole(path, seal({"budget": budget.model_dump() if budget else None, "hindrance": hindrance}))
    return budget, hindrance


def _hindrance(work: Workspace, stage: StageConfig) -> str:
    """Why training would be in vain, in a sentence; empty where it is not."""
    pairs = work.manifests["pairs"].facts["pairs"] if "pairs" in stage.objective.needs() else None
    if pairs is not None and pairs < LEAST_PAIRS:
        return f"The corpus gives only {pairs} training pairs, fewer than {LEAST_PAIRS}; nothing is trained."
    if work.too_few_to_judge:
        return f"{work.too_few_to_judge}; nothing is trained (search.model = 'trained' trains anyway)."
    return ""


def _share(work: Workspace, number: int) -> BudgetConfig | None:
    """A stage's share of the budget; of minutes, what the steps so far and those ahead leave, None if too little."""
    recipe, whole = work.recipe, work.recipe.budget
    if whole.minutes is None:
        return whole.scaled(recipe.part_of_budget(number))
    spent = sum(manifest.seconds for manifest in work.manifests.values())
    own = sum((stage.budget.minutes or 0.0) for stage in recipe.stages[number:] if stage.budget is not None)
    base = work.manifests["base"]
    looking = late_share(work, len(work.heldout.queries), work.corpus.n_passages)
    ahead = base.seconds * (1 + looking + sentences_share(recipe)) + RESERVED_SECONDS
    parts = [recipe.part_of_budget(later) for later in range(number, len(recipe.stages) + 1)]
    left = (whole.minutes - own - (spent + ahead) / 60) * parts[0] / sum(parts)
    return BudgetConfig(minutes=round(left, 3)) if left >= LEAST_TRAINING_MINUTES else None


def sentences_share(recipe: Recipe) -> float:
    """What encoding sentences one by one costs, as a share of encoding the passages whole."""
    return 0.0 if recipe.search.sentences == 0 else SENTENCES_COST


def late_share(work: Workspace, made: int, passages: float) -> float:
    """What late interaction encodes to choose settings and to report, with `made` queries from the corpus, as a share
    of the corpus of so many passages: each time the first documents of some queries, of which many are the same."""
    if work.recipe.search.late == 0 or passages == 0:
        return 0.0
    judged = work.queries("test")
    asked = [made / 2, made / 2, 0 if judged is None else len(judged), (KNOWN_ITEMS + SEE_ALSO) * work.is_demonstration]
    return sum(1 - math.exp(-queries * work.recipe.search.late_depth / passages) for queries in asked)


def _validator(work: Workspace, start: Checkpoint) -> Validator | None:
    """The score that training watches, None where the corpus gives too few queries."""
    if len(work.heldout.query_set("validation", work.corpus.document_ids)) < MINIMUM_QUERIES:
        return None
    queries = first_queries(
        work.heldout.query_set("validation", work.corpus.document_ids), VALIDATION_QUERIES, work.recipe.seed
    )
    answers = np.array(sorted(work.corpus.document_ids.rows(queries.judged).values()))
    engine = work.engine("base", "heldout")
    pool = work.heldout.collection.subset(pool_of(engine, queries, answers, VALIDATION_NEIGHBOURS))
    lexical = pool.lexical_index(work.recipe.lexical)
    return Validator(start, pool, lexical, queries, work.corpus.document_ids, work.cut)


def _report_training(work: Workspace, record: StepRecord | Evaluation | Notice) -> None:
    if isinstance(record, StepRecord):
        note = f"loss {record.loss:.3f}, {record.tokens_per_second:,.0f} tokens/s, {record.utilisation:.0%} MFU"
        work.watcher.advance(record.step, record.steps, note)
    elif isinstance(record, Evaluation):
        work.watcher.say(f"  held-out score after step {record.step}: {record.score:.4f}")
    else:
        work.watcher.say(record.text)
