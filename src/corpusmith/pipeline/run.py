"""Runs a recipe: from documents to a model, an index and a report.

The chain is a list of steps with their parents; what a step does stands in `prepare`, `train` and `finish`. What the
minutes buy is settled once, when training begins: reading, indexing and encoding have been timed by then on the very
corpus, and what they will need after training is set aside first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from corpusmith import environment
from corpusmith.artefact import Draft
from corpusmith.disk import write_whole
from corpusmith.locks import locked
from corpusmith.model.huggingface import load_checkpoint
from corpusmith.paths import given_path
from corpusmith.pipeline import finish, prepare, train
from corpusmith.pipeline.chain import Silent, Step, Watcher, run
from corpusmith.pipeline.outputs import refuse_to_overwrite
from corpusmith.pipeline.settle import SHAPE, settle
from corpusmith.pipeline.start import make_growth, make_vocabulary
from corpusmith.pipeline.summary import summarise, write_outputs
from corpusmith.pipeline.workspace import Workspace, fingerprint
from corpusmith.recipe import DEFAULT_PRESET, Recipe, StageConfig, preset, read_recipe, to_toml
from corpusmith.report.base import Summary


@dataclass(frozen=True, slots=True)
class BuildResult:
    """Where everything is, and the summary that the report shows."""

    folder: Path
    summary: Summary


def build(
    *paths: str | Path,
    recipe: Recipe | str | Path | None = None,
    out: str | Path = "corpusmith-out",
    minutes: float | None = None,
    watcher: Watcher | None = None,
) -> BuildResult:
    """Build a model, an index and a report from the documents under `paths` into the folder `out`.

    Args:
        paths: folders or files; a BEIR folder brings its queries and judgements. None for installed documentation.
        recipe: a `Recipe`, the name of a preset, or a TOML file; the default preset unless given.
        out: a new folder, or one with an earlier build, whose finished steps are reused.
        minutes: replaces the recipe's budget.
        watcher: is told how the build advances.

    Raises:
        CorpusmithError: one sentence on what is wrong and what to do; finished steps are kept.
    """
    environment.keep_freed_memory()
    folder, documents = given_path(out), [given_path(path) for path in paths]
    chosen = resolve_recipe(recipe)
    if minutes is not None:
        chosen = chosen.with_overrides({"budget.minutes": minutes})
    refuse_to_overwrite(folder, documents, [chosen], recipe_files([recipe]))
    chosen = settle(chosen, documents)
    work = Workspace(documents, chosen, folder, watcher or Silent())
    steps = chain(work)
    with locked(work.folder):
        run_steps(work, steps)
        write_whole(work.folder / "recipe.toml", to_toml(chosen))
        summary = summarise(work)
        write_outputs(summary, work.folder)
    return BuildResult(work.folder, summary)


def run_steps(work: Workspace, steps: Sequence[Step]) -> None:
    """Run these steps of a build, and note in the workspace what they left."""
    for step, manifest, reused in run(steps, work.recipe.seed, work.watcher):
        work.manifests[step.name] = manifest
        if reused:
            work.reused.add(step.name)


def resolve_recipe(recipe: Recipe | str | Path | None) -> Recipe:
    """A recipe from what people call one: itself, a preset's name, a TOML file, or nothing (the default preset)."""
    if isinstance(recipe, Recipe):
        return recipe
    if recipe is None:
        return preset(DEFAULT_PRESET)
    if files := recipe_files([recipe]):
        return read_recipe(files[0])
    return preset(str(recipe))


def recipe_files(recipes: Iterable[Recipe | str | Path | None]) -> list[Path]:
    """Those of the recipes that are TOML files."""
    return [
        Path(each) for each in recipes if isinstance(each, Path) or (isinstance(each, str) and each.endswith(".toml"))
    ]


def chain(work: Workspace) -> list[Step]:
    """All steps of a build, in order."""
    recipe = work.recipe
    options = recipe.model_dump(mode="json")
    tokens = {"model": options["model"], "base": fingerprint(work.base)}
    whole = tokens if work.base is work.whole_base else tokens | {"base": fingerprint(work.whole_base)}
    encoding = {"encoding": options["encoding"]}
    labels = work.query_digests if recipe.pairs.source == "labels" else {}
    encoded = ("tokens", "heldout", *(["demonstration"] if work.is_demonstration else []))
    stages = [f"stage-{number}" for number in range(1, len(recipe.stages) + 1)]
    demonstration = ["demonstration"] if work.is_demonstration else []
    pairs = ["pairs"] if work.needs_pairs else []
    start = list(work.start_steps)
    trained_tokens = "vocabulary-tokens" if recipe.start.changes_vocabulary else "tokens"
    vectors = ["base", "trained"] if stages else ["base"]
    sentences = ["sentences"] if recipe.search.sentences != 0 else []

    def step(
        name: str,
        note: str,
        make: Callable[[Workspace, Draft], None],
        config: dict[str, Any],
        *parents: str,
        resumable: bool = False,
    ) -> Step:
        inputs = work.input_digests if name == "corpus" else ()
        place = partial(work.place, name)
        return Step(name, place, lambda draft: make(work, draft), config, parents, inputs, resumable, note)

    steps = [
        step("corpus", "read, clean, split", prepare.make_corpus, {"corpus": options["corpus"]}),
        step("tokens", "cut passages into word pieces", prepare.make_tokens, tokens, "corpus"),
        step("heldout", "queries from the corpus", prepare.make_heldout, {"heldout": options["heldout"]}, "corpus"),
    ]
    if demonstration:
        config = {"corpus": options["corpus"]}
        steps.append(step("demonstration", "judged queries", prepare.make_demonstration, config, "corpus"))
    steps += [
        step("lexical", "index words", prepare.make_lexical, {"lexical": options["lexical"]}, "corpus"),
        step(
            "base",
            f"encode with {recipe.model.base}",
            prepare.make_base,
            tokens | encoding,
            *encoded,
            resumable=True,
        ),
    ]
    if recipe.start.changes_vocabulary:
        config = whole | {"vocabulary": options["start"]["vocabulary"], "transfer": options["start"]["transfer"]}
        config |= {"seed": recipe.start_seed} | ({"general": work.general_digests} if work.general_digests else {})
        steps += [
            step("vocabulary", f"{recipe.start.vocabulary.kind} the vocabulary", make_vocabulary, config, "corpus"),
            step("vocabulary-tokens", "cut passages anew", prepare.make_vocabulary_tokens, {}, "corpus", "vocabulary"),
        ]
    if recipe.start.changes_shape:
        config = whole | {"start": {key: options["start"][key] for key in ("growth", *SHAPE)}}
        config |= {"seed": recipe.start_seed}
        parents = ("corpus", "heldout", *demonstration, trained_tokens, *start[:-1])
        steps.append(step("growth", "grow the model", make_growth, config, *parents))
    if pairs:
        config = {"pairs": options["pairs"], "queries": labels}
        parents = ("corpus", "heldout", "lexical", "base", *start, *demonstration)
        steps.append(step("pairs", "training pairs and their teacher", prepare.make_pairs, config, *parents))
    for number, stage in enumerate(recipe.stages, 1):
        config = _stage_options(work, number, options) | {"base": whole["base"]}
        needed = pairs if "pairs" in stage.objective.needs() else []
        parents = (trained_tokens, "heldout", "base", *start, *demonstration, *needed, *stages[: number - 1])
        note = f"train: {stage.objective.kind}"
        steps.append(step(f"stage-{number}", note, _stage(number, stage), config, *parents, resumable=True))
    if stages:
        parents = (trained_tokens, "heldout", *demonstration, stages[-1])
        steps.append(step("trained", "encode with it", prepare.make_trained, encoding, *parents, resumable=True))
    searching = {"search": options["search"], "lexical": options["lexical"]}
    keeping = searching | {"search": {name: options["search"][name] for name in ("model", "candidates")}}
    steps.append(step("kept", "choose the model", finish.make_kept, keeping, "heldout", *vectors))
    if sentences:
        parents = ("corpus", *encoded[1:], "kept", *vectors)
        steps.append(step("sentences", "encode sentences", finish.make_sentences, {}, *parents, resumable=True))
    found = [*vectors, *sentences]
    return [
        *steps,
        step("choice", "choose on held-out queries", finish.make_choice, searching, "heldout", "kept", *found),
        step("model", "export", finish.make_model, {}, "choice"),
        step("index", "put together", finish.make_index, {}, "corpus", "lexical", "choice", "model", *found),
        step(
            "evaluation",
            "measure against the best start",
            finish.make_evaluation,
            {"queries": work.query_digests},
            "heldout",
            "index",
            "model",
            *demonstration,
            *found,
        ),
    ]


def _stage_options(work: Workspace, number: int, options: dict[str, Any]) -> dict[str, Any]:
    """What a stage depends on beside its parents. With a budget of its own that is nothing which a stage after it
    could change: stages may be added behind it, and it is not trained again."""
    recipe = work.recipe
    stage = {name: value for name, value in options["stages"][number - 1].items() if name != "share"}
    found: dict[str, Any] = {"stage": stage, "search": {"model": recipe.search.model}, "lexical": options["lexical"]}
    if recipe.search.model == "auto":
        found["practised"] = list(work.practised_kinds)
    if recipe.stages[number - 1].budget is None:
        found |= {"budget": options["budget"], "part": recipe.part_of_budget(number)}
    members = recipe.stages[number - 1].objective.members()
    if models := sorted({name for member in members for name in member.models()}):
        found["models"] = [fingerprint(load_checkpoint(name)) for name in models]
    return found


def _stage(number: int, stage: StageConfig) -> Callable[[Workspace, Draft], None]:
    return lambda work, draft: train.make_stage(work, draft, number, stage)
