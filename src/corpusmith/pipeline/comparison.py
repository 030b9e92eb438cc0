"""Compares recipes on one corpus: each is trained from its start at the same cost, with several seeds.

Steps lie under names that hold their keys, so that what several runs have in common (documents, indexes, the base
model's vectors, pairs, a stage that stands before two others) is made once and found again by whoever needs it. A seed
changes the training of a stage and nothing else: passages and queries are the same in all runs, and a difference
between two recipes is one between their models.

Every model is measured as training left it, alone and fused with BM25 at equal weights: nothing is chosen on the way.
Each query's scores are averaged over the seeds before recipes are compared, so that the tests ask about queries; how
far the seeds lie apart is told beside them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from corpusmith import environment
from corpusmith.artefact import STEPS, Draft
from corpusmith.disk import write_whole
from corpusmith.errors import EvaluationError, RecipeError
from corpusmith.evaluation.base import Measured, QuerySet
from corpusmith.evaluation.beir import splits
from corpusmith.evaluation.compare import System, averaged, comparisons, described, run_systems
from corpusmith.evaluation.demonstration import NOTE as DEMONSTRATION_NOTE
from corpusmith.evaluation.heldout import MINIMUM_QUERIES
from corpusmith.evaluation.validator import PLAIN_FUSION
from corpusmith.index.search import Mode
from corpusmith.locks import locked
from corpusmith.paths import given_path
from corpusmith.pipeline.chain import Silent, Step, Watcher
from corpusmith.pipeline.comparison_summary import MODES, FinishedRun, cost_of, remarks, summary_of
from corpusmith.pipeline.finish import KNOWN_ITEM_NOTE
from corpusmith.pipeline.outputs import refuse_to_overwrite
from corpusmith.pipeline.run import chain, recipe_files, resolve_recipe, run_steps
from corpusmith.pipeline.settle import settle
from corpusmith.pipeline.workspace import Workspace
from corpusmith.recipe import Recipe
from corpusmith.report.base import ComparisonSummary, Evaluation
from corpusmith.report.comparison import as_markdown
from corpusmith.training.budget import BudgetConfig, parse_budget

HELD_OUT = "held-out"
"""The split that asks the queries made from the corpus, even where there are judged ones."""
AFTER_TRAINING = ("kept", "sentences", "choice", "model", "index", "evaluation")
"""Steps of a build that a comparison does not take: nothing is chosen, and no search is put together."""
SHARED = ("seed", "corpus", "heldout", "lexical")
"""What recipes must have in common, or they would be asked different queries of different passages."""
MODE_NAMES = {"dense": "the model alone", "fused": "fused with BM25"}
KEY_DIGITS = 16

Recipes = Sequence[Recipe | str | Path] | Mapping[str, Recipe | str | Path]


@dataclass(frozen=True, slots=True)
class ComparisonResult:
    """Where everything is, and what was found."""

    folder: Path
    summary: ComparisonSummary


class SharedWorkspace(Workspace):
    """One of several builds in one folder: each step's folder bears its key, so that equal steps are one."""

    keeps_checkpoints = False

    def __init__(self, paths: Sequence[Path], recipe: Recipe, folder: Path, watcher: Watcher) -> None:
        super().__init__(paths, recipe, folder, watcher)
        self._places: dict[str, Path] = {}

    def place(self, step: str, key: str) -> Path:
        """The folder for the artefact of a step with this key."""
        self._places[step] = self.folder / STEPS / f"{step}-{key[:KEY_DIGITS]}"
        return self._places[step]

    def path(self, step: str) -> Path:
        """The folder of a step whose key is known by now."""
        return self._places[step]


def compare(
    *paths: str | Path,
    recipes: Recipes,
    budget: BudgetConfig | str,
    out: str | Path = "corpusmith-comparison",
    seeds: int = 3,
    split: str = "test",
    watcher: Watcher | None = None,
) -> ComparisonResult:
    """Train each recipe with each seed on the documents under `paths` and compare what comes of them with the first.

    Args:
        paths: folders or files; a BEIR folder brings the judged queries to measure with. None for installed
            documentation.
        recipes: at least two: `Recipe`s, names of presets or TOML files, or these by the name they shall have. A stage
            that has a budget of its own keeps it, beyond the budget compared.
        budget: what the training of each recipe may cost, as a `BudgetConfig` or as in "5e13 flops".
        out: a new folder, or one with an earlier comparison, whose finished steps are reused.
        seeds: how many times each recipe is trained.
        split: which judged queries of a BEIR folder are asked; "held-out" for those made from the corpus.
        watcher: is told how the runs advance.

    Raises:
        CorpusmithError: one sentence on what is wrong and what to do; finished steps are kept.
    """
    environment.keep_freed_memory()
    wanted = parse_budget(budget) if isinstance(budget, str) else budget
    folder, corpus = given_path(out), [given_path(path) for path in paths]
    named = named_recipes(recipes)
    given = recipes.values() if isinstance(recipes, Mapping) else recipes
    refuse_to_overwrite(folder, corpus, named.values(), recipe_files(given))
    comparison = Comparison(
        corpus,
        {name: settle(recipe, corpus) for name, recipe in named.items()},
        wanted,
        folder,
        range(seeds),
        split,
        watcher or Silent(),
    )
    with locked(comparison.folder):
        summary = comparison.summarise()
        write_whole(comparison.folder / "compare.json", json.dumps(summary, indent=1, ensure_ascii=False))
        write_whole(comparison.folder / "compare.md", as_markdown(summary))
    return ComparisonResult(comparison.folder, summary)


def named_recipes(recipes: Recipes) -> dict[str, Recipe]:
    """The recipes by name: the one they are given, else their file's or preset's.

    Raises:
        RecipeError: one of them does not exist or is wrong, or two have the same name.
    """
    if isinstance(recipes, Mapping):
        return {name: resolve_recipe(recipe) for name, recipe in recipes.items()}
    given = [recipe.name if isinstance(recipe, Recipe) else str(recipe) for recipe in recipes]
    short = [Path(name).stem if name.endswith(".toml") else name for name in given]
    names = [full if short.count(name) > 1 else name for full, name in zip(given, short, strict=True)]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise RecipeError(f"two of the recipes are called '{twice}'; give each once, or another name.")
    return {name: resolve_recipe(recipe) for name, recipe in zip(names, recipes, strict=True)}


class Comparison:
    """Runs and measures recipes, each step once.

    Raises:
        RecipeError: the recipes cannot be compared, or the queries asked for are not there.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        recipes: Mapping[str, Recipe],
        budget: BudgetConfig,
        folder: Path,
        seeds: Sequence[int],
        split: str = "test",
        watcher: Watcher | None = None,
    ) -> None:
        self.paths, self.recipes, self.budget, self.folder = list(paths), dict(recipes), budget, folder
        self.seeds, self.split, self.watcher = list(seeds), split, watcher or Silent()
        self._check()

    def _check(self) -> None:
        """What is wrong is said before anything is trained."""
        if len(self.recipes) < 2 or not self.seeds:
            raise RecipeError("a comparison needs two recipes or more, and a seed.")
        (first, standard), *others = self.recipes.items()
        for name, recipe in others:
            for part in SHARED:
                if getattr(recipe, part) != getattr(standard, part):
                    raise RecipeError(
                        f"{name} has another {part} than {first}; recipes are compared on the same passages and "
                        f"queries, so that {', '.join(SHARED)} must be the same in all."
                    )
        if not any(recipe.stages for recipe in self.recipes.values()):
            raise RecipeError("none of these recipes has a stage of training; there is nothing to compare.")
        folder = self.workspace(standard).query_folder
        if self.split == HELD_OUT:
            return
        if folder is not None and self.split not in splits(folder):
            raise RecipeError(
                f"{folder} has no qrels/{self.split}.tsv (there are: {', '.join(splits(folder))}); choose one of "
                f"these, or '{HELD_OUT}'."
            )
        if folder is None and self.split != "test":
            raise RecipeError(
                f"the split '{self.split}' needs a BEIR folder with qrels/{self.split}.tsv as its corpus."
            )
        taught = [name for name, recipe in self.recipes.items() if _trains_on_labels(recipe)]
        if self.split == "train" and taught:
            raise RecipeError(f"{taught[0]} trains on the queries of the split 'train'; measure with another one.")

    def workspace(self, recipe: Recipe, watcher: Watcher | None = None) -> SharedWorkspace:
        """A workspace for this very recipe, none of its steps run."""
        work = SharedWorkspace(self.paths, recipe, self.folder, watcher or Silent())
        if "input_digests" in self.__dict__:
            work.input_digests = self.input_digests
        return work

    @cached_property
    def input_digests(self) -> tuple[tuple[str, str], ...]:
        """Digests of the documents, read once for all runs."""
        return SharedWorkspace(self.paths, next(iter(self.recipes.values())), self.folder, Silent()).input_digests

    def run(self, name: str, seed: int) -> Workspace:
        """The workspace of one recipe trained and measured with one seed; what is done already is not done again."""
        recipe = at_budget(self.recipes[name], self.budget, seed)
        return self._run(recipe, f"{name}, seed {seed}" if recipe.stages else name)

    def _run(self, recipe: Recipe, label: str) -> Workspace:
        _ = self.input_digests
        work = self.workspace(recipe, _Labelled(self.watcher, label))
        steps = [step for step in chain(work) if step.name not in AFTER_TRAINING]
        run_steps(work, [*steps, self._measuring(work)])
        return work

    def _measuring(self, work: Workspace) -> Step:
        """The step that asks the queries of the model after its last stage."""
        judged = {"split": self.split, "queries": work.query_digests if self._asks_judged(work) else {}}
        config = {**judged, "lexical": work.recipe.lexical.model_dump(mode="json")}
        model = "trained" if work.recipe.stages else "base"
        demonstration = ["demonstration"] if work.is_demonstration else []
        return Step(
            "measures",
            partial(work.place, "measures"),
            lambda draft: self._measure(work, model, draft),
            config,
            ("corpus", "heldout", "lexical", *demonstration, "base", *([model] if model != "base" else [])),
            note="ask the queries",
        )

    def _measure(self, work: Workspace, model: str, draft: Draft) -> None:
        query_set, collection, _ = self._questions(work)
        engine = work.engine(model, collection)
        modes: tuple[Mode, ...] = ("lexical", *MODES)
        systems = [System(mode, mode, engine, mode, PLAIN_FUSION, False) for mode in modes]
        measured = run_systems(systems, query_set, work.corpus.document_ids)
        content = {
            "queries": list(query_set.queries),
            "values": {
                mode: {name: values.tolist() for name, values in measured[mode].values.items()} for mode in measured
            },
        }
        (draft.folder / "measures.json").write_text(json.dumps(content), encoding="utf-8")

    def _asks_judged(self, work: Workspace) -> bool:
        return work.query_folder is not None and self.split != HELD_OUT

    def _questions(self, work: Workspace) -> tuple[QuerySet, str | None, str]:
        """The queries, the collection they are asked of, and what they show.

        Raises:
            EvaluationError: the corpus gives too few.
        """
        ids = work.corpus.document_ids
        if self._asks_judged(work):
            judged = work.queries(self.split)
            assert judged is not None, "checked before"
            missing = len(judged.missing(ids.rows(judged.judged)))
            return judged, None, f"Relevant documents that are not in the index: {missing}." if missing else ""
        if work.is_demonstration and self.split != HELD_OUT:
            return work.demonstration[0], "demonstration", DEMONSTRATION_NOTE
        made = work.heldout.query_set("report", ids)
        if len(made) < MINIMUM_QUERIES:
            raise EvaluationError(
                f"the corpus gives only {len(made)} held-out queries, fewer than the {MINIMUM_QUERIES} that a "
                "comparison needs; add documents, or compare on a BEIR folder with judgements."
            )
        return made, "heldout", KNOWN_ITEM_NOTE

    def summarise(self) -> ComparisonSummary:
        """Run everything that is still to be run, and set the recipes side by side."""
        starts = self._starts()
        runs: dict[str, list[FinishedRun]] = {name: [] for name in self.recipes}
        for seed in self.seeds:
            for name, recipe in self.recipes.items():
                work = self.run(name, seed)
                runs[name].append(FinishedRun(read_measures(work), cost_of(work, recipe)))
        work = self._run(next(iter(self.recipes.values())).model_copy(update={"stages": ()}), "start")
        asked, collection, note = self._questions(work)
        notes = [
            remark for name in self.recipes for remark in remarks(name, self.recipes[name], runs[name], self.budget)
        ]
        if collection == "heldout":
            notes += self._practised()
        evaluations = [self._evaluation(mode, asked, note, starts, runs) for mode in MODES]
        return summary_of(self, evaluations, runs, notes, list(asked.queries))

    def _evaluation(
        self,
        mode: Mode,
        asked: QuerySet,
        note: str,
        starts: Mapping[str, Mapping[str, Measured]],
        runs: Mapping[str, Sequence[FinishedRun]],
    ) -> Evaluation:
        """The recipes in one way of searching, averaged over seeds, below what is there without them."""
        found = {name: averaged([run.measured[mode] for run in of_recipe]) for name, of_recipe in runs.items()}
        references = {label: measured[mode] for label, measured in starts.items()}
        if mode == "dense":
            references = {"BM25": next(iter(starts.values()))["lexical"]} | references
        names = {f"start {label}": label for label in references} | {name: name for name in found}
        everything = {f"start {label}": values for label, values in references.items()} | found
        first, seed = next(iter(self.recipes)), next(iter(self.recipes.values())).seed
        evaluation: Any = {
            "name": f"{asked.name} {asked.split}".strip() + f", {MODE_NAMES[mode]}",
            "kind": "comparison",
            "note": " ".join([note, *asked.notes]).strip(),
            "queries": len(asked),
            "seeds": len(self.seeds),
            "baseline": first,
            "systems": described(names, everything, seed),
            "comparisons": comparisons(found, first, seed),
        }
        return evaluation

    def _practised(self) -> list[str]:
        """Which recipes train on queries of the kinds that are held out."""
        return [
            f"{name} trains on pairs of the kinds {', '.join(kinds)}, and so are some of these queries: its gain over "
            "recipes that do not says little about people's questions."
            for name, recipe in self.recipes.items()
            if (kinds := self.workspace(recipe).practised_kinds)
        ]

    def _starts(self) -> dict[str, dict[str, Measured]]:
        """Every model that a recipe starts from, untrained and measured, by the name it has in the tables."""
        found: dict[str, dict[str, Measured]] = {}
        seen = []
        for recipe in self.recipes.values():
            if (recipe.model, recipe.encoding) not in seen:
                seen.append((recipe.model, recipe.encoding))
                work = self._run(recipe.model_copy(update={"stages": ()}), "start")
                label = f"untrained {Path(recipe.model.base).name}"
                found[label if label not in found else f"{label} ({len(seen)})"] = read_measures(work)
        return found


def at_budget(recipe: Recipe, budget: BudgetConfig, seed: int) -> Recipe:
    """The recipe with this budget divided among its stages, made and trained with this seed, its model taken as it
    comes out.

    A stage that has a budget of its own keeps it.
    """
    stages = tuple(
        stage.model_copy(
            update={
                "budget": stage.budget or budget.scaled(recipe.part_of_budget(number)),
                "share": 1.0,
                "seed": recipe.seed + seed,
            }
        )
        for number, stage in enumerate(recipe.stages, 1)
    )
    start = recipe.start.model_copy(update={"seed": recipe.start_seed + seed})
    search = recipe.search.model_copy(update={"model": "trained"})
    return recipe.model_copy(update={"start": start, "stages": stages, "search": search})


def read_measures(work: Workspace) -> dict[str, Measured]:
    """What the queries' answers were worth in a run: per-query values by mode ("lexical", "dense", "fused")."""
    content = json.loads((work.path("measures") / "measures.json").read_text(encoding="utf-8"))
    queries = tuple(content["queries"])
    return {
        mode: Measured(queries, {name: np.array(values) for name, values in of_mode.items()})
        for mode, of_mode in content["values"].items()
    }


def _trains_on_labels(recipe: Recipe) -> bool:
    return recipe.pairs.source == "labels" and any("pairs" in stage.objective.needs() for stage in recipe.stages)


class _Labelled(Silent):
    """Tells another watcher what a run does, by the run's name; steps that are reused are not worth a line each."""

    def __init__(self, watcher: Watcher, label: str) -> None:
        self._watcher, self._label = watcher, label

    def start(self, step: str, note: str, *, reused: bool) -> None:
        """Announce a step that is really taken."""
        if not reused:
            self._watcher.start(step, f"{self._label}: {note}", reused=False)

    def advance(self, done: float, total: float | None, note: str = "") -> None:
        """Pass it on."""
        self._watcher.advance(done, total, note)

    def finish(self, seconds: float) -> None:
        """Pass it on."""
        self._watcher.finish(seconds)

    def say(self, text: str) -> None:
        """Pass it on."""
        self._watcher.say(text)
