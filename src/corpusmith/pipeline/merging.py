"""Several trained models made one: their mean, or the greedy soup that a build's held-out queries choose.

The models are taken from where they lie and nothing is trained. What is averaged, and how units are put in order first,
stands in `growth/merge.py` and `growth/align.py`. A greedy soup is judged by dense search alone, on the held-out
validation queries of a finished build: every candidate encodes the held-out collection anew. The score that it reaches
is what it was chosen by and no measure of its quality; the build's report half stays unseen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import corpusmith
from corpusmith import environment
from corpusmith.artefact import STEPS, open_artefact, read_manifest, step_key, tidy, writing
from corpusmith.corpus.store import Corpus
from corpusmith.disk import naming_machine_errors
from corpusmith.errors import ArtefactError, RecipeError
from corpusmith.evaluation.compare import DECIDING_MEASURE, DEPTH, measured_ranking
from corpusmith.evaluation.heldout import MINIMUM_QUERIES, Heldout
from corpusmith.growth.align import aligned
from corpusmith.growth.merge import check_alike, greedy_soup, uniform_soup
from corpusmith.index.dense import DenseIndex
from corpusmith.index.lexical import LexicalIndex
from corpusmith.index.search import SearchEngine
from corpusmith.locks import locked_file
from corpusmith.model.arithmetic import best_device
from corpusmith.model.checkpoint import Checkpoint
from corpusmith.model.huggingface import export_checkpoint, load_checkpoint
from corpusmith.pipeline.chain import Silent, Watcher
from corpusmith.pipeline.workspace import fingerprint, model_folder
from corpusmith.retrieval.encoding import Encoding, make_retriever


@dataclass(frozen=True, slots=True)
class MergeResult:
    """Where the model is, the models that it is made of (in the order given; the best one first, if it was chosen
    greedily), and what each candidate scored, the mixtures tried among them."""

    folder: Path
    taken: tuple[str, ...]
    scores: tuple[tuple[str, float], ...] = ()


def merge(
    models: Sequence[str | Path],
    out: str | Path,
    align: bool = False,
    greedy: str | Path | None = None,
    watcher: Watcher | None = None,
) -> MergeResult:
    """Average models into the new folder `out`, for transformers, sentence-transformers and `load_checkpoint`.

    Args:
        models: folders with a model, or folders that a build wrote.
        out: a folder that is not there yet, or an empty one.
        align: put the units of each further model in the order of the first's before anything is averaged.
        greedy: a finished build, whose held-out validation queries choose among the models; None takes them all.
        watcher: is told of every candidate and its score.

    Raises:
        CorpusmithError: one sentence on what is wrong and what to do, such as that another merge into `out` is
            running; nothing is left there then.
    """
    environment.keep_freed_memory()
    watcher, out = watcher or Silent(), Path(out)
    if len(models) < 2:
        raise RecipeError("there is only one model to merge; name two or more.")
    _refuse_occupied(out)
    judge = HeldoutScore(Path(greedy), watcher) if greedy is not None else None
    checkpoints = [_load(model) for model in models]
    check_alike(checkpoints)
    names = [checkpoint.name for checkpoint in checkpoints]
    parents = dict(zip(names, map(fingerprint, checkpoints), strict=True))
    with _claimed(out):
        if judge is not None:
            for model in models:
                judge.warn_of_training(Path(model))
        if align:
            first, *others = checkpoints
            checkpoints = [first, *(aligned(first, other) for other in others)]
        if judge is None:
            soup, taken = uniform_soup(checkpoints), list(range(len(models)))
        else:
            soup, taken = greedy_soup(checkpoints, judge)
        result = MergeResult(out, tuple(names[i] for i in taken), tuple(judge.scores if judge else ()))
        config = {"corpusmith": corpusmith.__version__, "align": align, "judge": judge.digest if judge else None}
        _write(soup, result, config, parents)
    return result


@contextmanager
def _claimed(out: Path) -> Iterator[None]:
    """Hold `out`, a new folder or an empty one, for one merge at a time.

    Raises:
        MachineError: another merge holds it, or nothing can be written there.
        RecipeError: one that ended just now has filled it.
    """
    place = out.resolve()
    with naming_machine_errors(place):
        place.parent.mkdir(parents=True, exist_ok=True)
    with locked_file(place):
        _refuse_occupied(out)
        yield


def _write(soup: Checkpoint, result: MergeResult, config: dict[str, Any], parents: dict[str, str]) -> None:
    """Write the model into its folder; an attempt that fails leaves nothing beside it."""
    place = result.folder.resolve()
    try:
        with writing(place, "merge", config, parents, seed=0) as draft:
            draft.facts.update(taken=result.taken, scores=result.scores)
            export_checkpoint(soup, draft.folder, with_head=soup.head is not None)
    finally:
        tidy(place, step_key("merge", config, parents, seed=0))


class HeldoutScore:
    """Called with a checkpoint, gives its dense nDCG@10 on the held-out validation queries of the build in `folder`.

    Attributes:
        digest: of the queries and what they are asked of.
        scores: name and score of every checkpoint so far.

    Raises:
        ArtefactError: there is no finished build with its steps in `folder`.
        RecipeError: it has too few held-out queries to choose by.
    """

    def __init__(self, folder: Path, watcher: Watcher) -> None:
        self.watcher = watcher
        self.scores: list[tuple[str, float]] = []
        if not folder.is_dir():
            raise ArtefactError(f"no such folder: {folder}.")
        index, manifest = read_manifest(folder / "index"), open_artefact(folder / STEPS / "heldout", "heldout")
        if index.parents["corpus"] != manifest.parents["corpus"]:
            raise ArtefactError(f"{folder} is being built anew; finish that first (the same command goes on).")
        corpus = Corpus.open(folder / "index" / "corpus")
        heldout = Heldout.open(folder / STEPS / "heldout", corpus)
        self.digest = manifest.digest
        self.method = Encoding.open(folder / "index").method
        self.collection, self.document_ids = heldout.collection, corpus.document_ids
        self.query_set = heldout.query_set("validation", corpus.document_ids)
        if len(self.query_set) < MINIMUM_QUERIES:
            raise RecipeError(
                f"{folder} has only {len(self.query_set)} held-out validation queries, and {MINIMUM_QUERIES} are the "
                "least to choose models by; judge by a build of more documents, or leave --greedy out."
            )
        self.contents = list(heldout.collection.contents())

    def __call__(self, checkpoint: Checkpoint) -> float:
        """The score of this checkpoint; higher is better."""
        started, watcher = environment.seconds(), self.watcher
        watcher.start("score", checkpoint.name, reused=False)
        retriever = make_retriever(checkpoint, self.method)
        dense = DenseIndex(retriever.dimension)
        dense.add(np.arange(len(self.contents)), retriever.encode_documents(self.contents, watcher.advance))
        engine = SearchEngine(LexicalIndex(), dense, retriever, self.collection.documents)
        found = engine.rank(list(self.query_set.queries.values()), DEPTH, "dense")
        score = measured_ranking(self.query_set, found, self.document_ids).mean(DECIDING_MEASURE)
        self.scores.append((checkpoint.name, score))
        watcher.finish(environment.seconds() - started)
        watcher.say(f"  {score:.4f} {DECIDING_MEASURE}: {checkpoint.name}")
        return score

    def warn_of_training(self, model: Path) -> None:
        """Say so where a model comes from a build that held out other documents: it may have been trained on these."""
        if (model / STEPS / "heldout").is_dir() and read_manifest(model / STEPS / "heldout").digest != self.digest:
            self.watcher.say(
                f"  {model} held out other documents: it may have been trained on those that judge it here, and score "
                "too high; builds of the same documents with the same seed hold out the same."
            )


def _load(model: str | Path) -> Checkpoint:
    checkpoint = load_checkpoint(model_folder(Path(model)))
    return replace(checkpoint.to(best_device()), name=str(model))


def _refuse_occupied(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise RecipeError(f"--out {out} is a file; choose another, a new folder.")
    if out.is_dir() and any(out.iterdir()):
        raise RecipeError(f"--out {out} is there already and not empty; choose another, a new folder.")
