"""The steps after training: choose, export, index, measure."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from corpusmith.arrays import save_array
from corpusmith.artefact import Draft, link_folder
from corpusmith.disk import link_file
from corpusmith.evaluation.choose import Choice, choose_model, choose_setting
from corpusmith.evaluation.compare import DECIDING_MEASURE, System, compare, run_systems
from corpusmith.evaluation.demonstration import NOTE
from corpusmith.evaluation.heldout import MINIMUM_QUERIES
from corpusmith.evaluation.validator import PLAIN_FUSION
from corpusmith.index.search import Candidates, SearchEngine, SearchSettings
from corpusmith.index.sentences import FIRST, VECTORS
from corpusmith.model.huggingface import export_checkpoint
from corpusmith.pipeline.workspace import DEFAULT_SEARCH, QUICK_SEARCH, Workspace
from corpusmith.retrieval.sentences import Sentences, encode_sentences

CHOSEN_SETTINGS: dict[str, tuple[str, tuple[float, ...]]] = {
    "whitening": ("share of whitening", (0.0, 0.25, 0.5)),
    "weight": ("fusion weight of the dense side", (0.3, 0.4, 0.5, 0.6, 0.7)),
    "feedback": ("feedback strength", (0.0, 0.25, 0.5, 1.0)),
    "smoothing": ("share of smoothing", (0.0, 0.2, 0.4)),
    "late": ("weight of late interaction", (0.0, 1.0)),
}
"""What each search setting is called in the report, and the values tried, its default among them."""
KNOWN_ITEM_NOTE = (
    "Known-item queries made from this corpus: titles, sentences and title phrases, asked of documents from which they "
    "were removed. They show whether a document is found again by its own words; they do not show how well the "
    "questions of real users are answered."
)


def make_kept(work: Workspace, draft: Draft) -> None:
    """Base or trained model: by the held-out validation queries."""
    choices: list[Choice] = []
    model = _choose_model(work, _Validation(work), choices)
    encoding = work.encoding(model)
    if encoding.reason:
        choices.append(Choice("encoding", encoding.method, encoding.reason, ()))
    content = {"model": model, "choices": [asdict(choice) for choice in choices]}
    (draft.folder / "kept.json").write_text(json.dumps(content, indent=2), encoding="utf-8")


def make_sentences(work: Workspace, draft: Draft) -> None:
    """Vectors of all passages' sentences by the model that was kept, and of what stands in collections instead."""
    step = work.kept["model"]
    retriever, limit = work.retriever(step), work.checkpoint(step).max_tokens

    def encode(name: str, texts: Callable[[int, int], Iterable[str]], number: int) -> int:
        sentences = Sentences(texts, number, limit)
        save_array(draft.folder / f"{name}{FIRST}", sentences.first)
        encode_sentences(sentences, retriever, draft.folder / f"{name}{VECTORS}", work.watcher.advance, draft.scratch)
        return len(sentences)

    def of_corpus(start: int, stop: int) -> Iterator[str]:
        return (passage.text for passage in work.corpus.passages(start, stop))

    draft.facts["sentences"] = encode("", of_corpus, work.corpus.n_passages)
    for name, collection in work.collections.items():
        masked = [text for _, text in collection.masked]
        encode(f"{name}-", lambda start, stop, masked=masked: masked[start:stop], len(masked))  # type: ignore[misc]


def make_choice(work: Workspace, draft: Draft) -> None:
    """Fusion weight, feedback, and all other settings of search: by the held-out validation queries."""
    validation = _Validation(work)
    choices = list(work.kept["choices"])
    settings = _choose_settings(work, work.kept["model"], validation, choices)
    content = {
        "model": work.kept["model"],
        "settings": settings.model_dump(mode="json"),
        "queries": len(validation.queries),
        "choices": choices,
    }
    (draft.folder / "choice.json").write_text(json.dumps(content, indent=2), encoding="utf-8")


def _engine(work: Workspace, step: str, collection: str | None) -> SearchEngine:
    """Search that looks as far down its two lists as the recipe says."""
    engine = work.engine(step, collection)
    engine.settings = engine.settings.model_copy(update={"candidates": work.recipe.search.candidates})
    return engine


class _Validation:
    """The held-out queries that choose; each engine searches for them once."""

    def __init__(self, work: Workspace) -> None:
        self.work, self.document_ids = work, work.corpus.document_ids
        self.queries = work.heldout.query_set("validation", self.document_ids)
        self._engines: dict[str, SearchEngine] = {}
        self._found: dict[SearchEngine, Candidates] = {}

    def scores(self, model: str, settings: Sequence[SearchSettings]) -> list[np.ndarray]:
        """Per-query nDCG@10 of fused search with the "base" or the "trained" model, under each of these settings."""
        if model not in self._engines:
            self._engines[model] = _engine(self.work, model, "heldout")
        engine = self._engines[model]
        systems = [System(str(i), "", engine, "fused", setting, False) for i, setting in enumerate(settings)]
        measured = run_systems(systems, self.queries, self.document_ids, self._found)
        return [measured[system.key].values[DECIDING_MEASURE] for system in systems]


def _choose_model(work: Workspace, validation: _Validation, choices: list[Choice]) -> str:
    """ "base" or "trained", with the reason added to the choices where there was something to choose."""
    if work.recipe.stages and work.too_few_to_judge:
        choices.append(Choice("model", "base", f"{work.too_few_to_judge}; the base stays.", ()))
        return "base"
    if not work.was_trained:
        if work.start_steps:
            choices.append(Choice("model", "base", "Its new start was not trained, and is only a beginning.", ()))
        return "base"
    if work.recipe.search.model == "trained":
        choices.append(Choice("model", "trained", "The recipe asks for it.", ()))
        return "trained"
    before, after = (validation.scores(name, [QUICK_SEARCH])[0] for name in ("base", "trained"))
    kinds = work.heldout.kinds("validation")
    better, choice = choose_model(before, after, kinds, work.practised_kinds, work.recipe.seed)
    choices.append(choice)
    return "trained" if better else "base"


def _choose_settings(
    work: Workspace, model: str, validation: _Validation, choices: list[dict[str, Any]]
) -> SearchSettings:
    """The recipe's own settings, and for those left to 'auto' what the queries say.

    Late interaction, which costs more than all else, is left out until its own turn at the end.
    """
    wanted = work.recipe.search
    given = {name: value for name in CHOSEN_SETTINGS if (value := getattr(wanted, name)) != "auto"}
    same = {name: getattr(wanted, name) for name in ("fusion", "sentences", "candidates", "late_depth")}
    settings = DEFAULT_SEARCH.model_copy(update=same | given)
    if len(validation.queries) < MINIMUM_QUERIES:
        return settings
    for name, (what, values) in CHOSEN_SETTINGS.items():
        if name in given:
            continue
        quick = {} if name == "late" else {"late": 0.0}
        tried = {value: settings.model_copy(update=quick | {name: value}) for value in values}
        scores = dict(zip(tried, validation.scores(model, list(tried.values())), strict=True))
        value, choice = choose_setting(what, scores, getattr(DEFAULT_SEARCH, name), work.recipe.seed)
        settings = settings.model_copy(update={name: value})
        choices.append(asdict(choice))
    return settings


def make_model(work: Workspace, draft: Draft) -> None:
    """The chosen model in the Hugging Face and sentence-transformers formats."""
    export_checkpoint(work.base if work.choice["model"] == "base" else work.trained_checkpoint(), draft.folder)


def make_index(work: Workspace, draft: Draft) -> None:
    """Passages, BM25, vectors and settings in one folder that stands alone."""
    link_folder(work.path("corpus"), draft.folder / "corpus")
    link_folder(work.path("lexical"), draft.folder / "lexical")
    # What DenseIndex.save would write, without a second copy of the vectors.
    link_file(work.path(work.choice["model"]) / "vectors.npy", draft.folder / "dense" / "vectors.npy")
    save_array(draft.folder / "dense" / "ids.npy", np.arange(work.corpus.n_passages))
    if work.choice["settings"]["sentences"] > 0:
        for name in (VECTORS, FIRST):
            link_file(work.path("sentences") / name, draft.folder / "sentences" / name)
    work.encoding(work.choice["model"]).save(draft.folder)
    (draft.folder / "settings.json").write_text(json.dumps(work.choice["settings"], indent=2), encoding="utf-8")


def make_evaluation(work: Workspace, draft: Draft) -> None:
    """The chosen search and all it is made of, against the best starting point."""
    evaluations = []
    test = work.queries("test")
    ids, seed = work.corpus.document_ids, work.recipe.seed
    alone = ("base", "adapted") if work.was_trained else None
    if test is not None:
        missing = test.missing(ids.rows(test.judged))
        note = f"Relevant documents that are not in the index: {len(missing)}." if missing else ""
        evaluations.append(compare(test, _systems(work, None), ids, "judged", note, seed, alone))
    if work.is_demonstration:
        queries, _ = work.demonstration
        systems = _systems(work, "demonstration")
        evaluations.append(compare(queries, systems, ids, "demonstration", NOTE, seed, alone))
    known = work.heldout.query_set("report", ids)
    if len(known) >= MINIMUM_QUERIES:
        systems = _systems(work, "heldout")
        evaluations.append(compare(known, systems, ids, "known-item", KNOWN_ITEM_NOTE, seed, alone))
    (draft.folder / "evaluation.json").write_text(json.dumps(evaluations, indent=1), encoding="utf-8")


def _systems(work: Workspace, collection: str | None) -> list[System]:
    """Starting points, the trained model, and search as built."""
    base = _engine(work, "base", collection)
    systems = [
        System("bm25", "BM25", base, "lexical", PLAIN_FUSION, True),
        System("base", f"base model ({work.base.name})", base, "dense", PLAIN_FUSION, True),
        System("base-fusion", "BM25 + base model", base, "fused", PLAIN_FUSION, True),
    ]
    final = base
    if work.was_trained:
        trained = _engine(work, "trained", collection)
        kept = work.choice["model"] == "trained"
        name = "adapted model" if kept else "trained model (not kept)"
        systems.append(System("adapted", name, trained, "dense", PLAIN_FUSION, False))
        systems.append(System("adapted-fusion", f"BM25 + {name}", trained, "fused", PLAIN_FUSION, False))
        final = trained if kept else base
    systems.append(System("built", "search as built", final, "fused", work.chosen_search, False))
    return systems
