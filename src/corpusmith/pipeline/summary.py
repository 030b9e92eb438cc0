"""What a build did and found, in the form that the report shows (`report/base.py`), and kept as summary.json."""

from __future__ import annotations

import json
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import corpusmith
from corpusmith import environment
from corpusmith.artefact import Manifest, is_kept_aside, open_artefact, read_manifest, refuse_mismatch
from corpusmith.corpus.read import encodable
from corpusmith.disk import write_whole
from corpusmith.errors import ArtefactError
from corpusmith.evaluation.compare import DECIDING_MEASURE
from corpusmith.report import base as report
from corpusmith.report import notation
from corpusmith.report.html import write_report
from corpusmith.training.log import LOG, TIMING, read_records, read_timing

if TYPE_CHECKING:
    from corpusmith.pipeline.workspace import Workspace

DEMONSTRATION_SEARCHES = (
    "solve a linear system when the matrix is sparse and symmetric",
    "remove rows that contain missing values",
    "learning rate that decreases when the loss stops improving",
)
REPORT_SEARCHES = 3
RESULTS_A_SEARCH = 3
POINTS_A_CURVE = 300
VALIDATION_MEASURE = "mean of dense and fused nDCG@10 on a small pool"


def summarise(work: Workspace) -> report.Summary:
    """The summary of a finished work."""
    recipe = work.recipe
    evaluations = json.loads((work.path("evaluation") / "evaluation.json").read_text(encoding="utf-8"))
    return {
        "title": encodable(", ".join(path.name for path in work.paths)) or "installed documentation",
        "created": environment.now(),
        "corpusmith": corpusmith.__version__,
        "recipe": recipe.name,
        "seed": recipe.seed,
        "seconds": sum(manifest.seconds for manifest in work.manifests.values()),
        "budget": str(recipe.budget),
        "machine": environment.machine(),
        "versions": environment.versions(),
        "verdict": _verdict(work, evaluations),
        "corpus": _corpus(work),
        "vocabulary": work.manifests["vocabulary"].facts["fertility"] if "vocabulary" in work.manifests else None,
        "evaluations": evaluations,
        "choices": [_choice(choice, work.choice["queries"]) for choice in work.choice["choices"]],
        "training": [_training(work, name) for name in work.manifests if name.startswith("stage-")],
        "searches": _searches(work),
        "chain": [_link(name, manifest, name in work.reused) for name, manifest in work.manifests.items()],
        "dropped_file": "steps/corpus/dropped.jsonl",
    }


def write_outputs(summary: report.Summary, folder: Path) -> None:
    """Write summary.json and report.html."""
    write_whole(folder / "summary.json", json.dumps(summary, indent=1, ensure_ascii=False))
    write_report(summary, folder / "report.html")


def chain_of(folder: Path, *, check: bool = False) -> list[report.Link]:
    """Every artefact of a build, parents first, or the one that `folder` itself is (a merged model); with `check` every
    file's digest is verified.

    Where several are of one kind, as in a comparison, each is called by its folder.

    Raises:
        ArtefactError: there is no artefact in `folder`, or (with `check`) a file is missing or damaged, or
            the index was made with another model.
    """
    if not folder.is_dir():
        raise ArtefactError(f"no such folder: {folder}.")
    found: dict[str, dict[str, Manifest]] = {}
    for path in chain.from_iterable(map(folder.glob, ("steps/*/manifest.json", "*/manifest.json", "manifest.json"))):
        if is_kept_aside(path.parent):
            continue
        manifest = open_artefact(path.parent) if check else read_manifest(path.parent)
        found.setdefault(manifest.kind, {})[path.parent.name] = manifest
    if not found:
        raise ArtefactError(f"{folder} holds no build; `corpusmith build PATH --out {folder}` makes one.")
    index, model = (found.get(kind, {}).get(kind) for kind in ("index", "model"))
    if check and index and model:
        refuse_mismatch(folder, index, model)
    parents = {kind: {name for made in found[kind].values() for name in made.parents} & found.keys() for kind in found}
    ordered: list[str] = []
    while len(ordered) < len(found):
        ready = [kind for kind in sorted(found) if kind not in ordered and parents[kind] <= set(ordered)]
        ordered += ready or sorted(set(found) - set(ordered))
    return [
        _link(name if len(found[kind]) > 1 else kind, manifest, reused=False)
        for kind in ordered
        for name, manifest in sorted(found[kind].items())
    ]


def _link(name: str, manifest: Manifest, reused: bool) -> report.Link:
    return {
        "name": name,
        "kind": manifest.kind,
        "digest": manifest.digest,
        "parents": manifest.parents,
        "seconds": manifest.seconds,
        "bytes": manifest.bytes,
        "tokens": manifest.cost.get("tokens"),
        "flops": manifest.cost.get("flops"),
        "peak_memory_bytes": manifest.peak_memory_bytes,
        "reused": reused,
    }


def _verdict(work: Workspace, evaluations: list[report.Evaluation]) -> list[str]:
    """Plain sentences: what was chosen and what it brought."""
    reason = work.recipe.start.reason
    sentences = [f"Start: {reason}."] if reason else []
    sentences += _vocabulary(work)
    sentences += [
        f"{choice['what'].capitalize()}: {choice['chosen']}. {choice['reason']}" for choice in work.choice["choices"]
    ]
    for evaluation in evaluations:
        data = f"On {evaluation['name']} ({evaluation['queries']} queries)"
        built = report.comparison_of(evaluation, report.BUILT)
        if built is not None:
            against = report.name_of(evaluation, built["against"])
            sentences.append(
                f"{data} search as built scores {_difference(built)} against the best starting point, {against}: "
                f"{report.finding(built)} (adjusted p = {built['p_adjusted']:.3f})."
            )
        if "alone" in evaluation:
            alone = evaluation["alone"]
            sentences.append(
                f"{data} the {report.name_of(evaluation, alone['system'])} alone ({_what_became_of_the_base(work)}) "
                f"scores {_difference(alone)} against the base model as it was: {report.finding(alone)} "
                f"({notation.probability(alone['p'])})."
            )
    if not evaluations:
        sentences.append("The corpus gives too few held-out queries to measure anything; nothing is claimed.")
    return sentences


def _difference(comparison: report.Comparison) -> str:
    low, high = comparison["low"], comparison["high"]
    return f"{comparison['difference']:+.3f} {comparison['measure']} [{low:+.3f}, {high:+.3f}]"


def _what_became_of_the_base(work: Workspace) -> str:
    """What start and training changed, in a few words."""
    changes = [f"{_new_vocabulary(work)} vocabulary"] if "vocabulary" in work.manifests else []
    if "growth" in work.manifests:
        facts = work.manifests["growth"].facts
        changes.append(f"shape L{facts['layers']}-H{facts['hidden_size']}")
    stages = [manifest for name, manifest in work.manifests.items() if name.startswith("stage-")]
    trained = any(manifest.facts.get("kept_step", 0) for manifest in stages)
    return ", ".join([*changes, "trained" if trained else "no training kept"])


def _new_vocabulary(work: Workspace) -> str:
    return "extended" if work.recipe.start.vocabulary.kind == "extend" else "replaced"


def _vocabulary(work: Workspace) -> list[str]:
    """What another vocabulary gave, and what of the passages the model does not read with the one it has."""
    tokens, sentences = work.manifests["tokens"], []
    if work.recipe.start.changes_vocabulary:
        entries, was = work.manifests["vocabulary"].facts["entries"], tokens.cost["tokens"]
        tokens = work.manifests["vocabulary-tokens"]
        now, seconds = tokens.cost["tokens"], work.manifests["base"].seconds
        sentences.append(
            f"The vocabulary has {entries:,} entries and cuts the passages into {now:,.0f} tokens instead of "
            f"{was:,.0f} ({now / max(was, 1) - 1:+z.1%}); at the base's speed one pass over them takes "
            f"{notation.duration(seconds * now / max(was, 1))} instead of {notation.duration(seconds)}."
        )
    note = tokens.facts.get("note")
    return [*sentences, note] if note else sentences


def _corpus(work: Workspace) -> report.Corpus:
    facts = work.manifests["corpus"].facts
    return {
        "read": facts["documents_read"],
        "kept": facts["documents"],
        "dropped": facts["dropped"],
        "duplicates": facts["exact_duplicates"] + facts["near_duplicates"],
        "passages": facts["passages"],
        "words": facts["words"],
    }


def _choice(choice: dict[str, Any], queries: int) -> report.Choice:
    return {
        "what": choice["what"],
        "chosen": choice["chosen"],
        "reason": choice["reason"],
        "candidates": choice["candidates"],
        "measure": DECIDING_MEASURE,
        "data": "held-out validation queries",
        "queries": queries,
    }


def _training(work: Workspace, name: str) -> report.Training:
    """One stage: its cost, and the curves from its log, thinned to a few hundred points."""
    manifest = work.manifests[name]
    facts, run = manifest.facts, work.path(name) / "run"
    lines = read_records(run / LOG)
    timing = read_timing(run / TIMING, "tokens", "seconds", "utilisation", "peak_memory_bytes")
    steps = [line for line in lines if "loss" in line]
    thinned = steps[:: max(1, len(steps) // POINTS_A_CURVE)]
    seconds = sum(line["seconds"] for line in timing)
    plan = json.loads((run / "plan.json").read_text(encoding="utf-8")) if timing else {}
    return {
        "objective": facts.get("objective", name),
        "note": facts.get("note"),
        "steps": facts.get("steps", 0),
        "tokens": int(manifest.cost.get("tokens", 0)),
        "flops": manifest.cost.get("flops", 0.0),
        "seconds": facts.get("seconds", 0.0),
        "tokens_per_second": sum(line["tokens"] for line in timing) / seconds if seconds else 0.0,
        "utilisation": sum(line["utilisation"] * line["seconds"] for line in timing) / seconds if seconds else 0.0,
        "padding_avoided": plan.get("padding_avoided", 0.0),
        "precision": plan.get("precision", ""),
        "peak_memory_bytes": int(max((line["peak_memory_bytes"] for line in timing), default=0)),
        "loss": [[line["step"], line["loss"]] for line in thinned],
        "validation": [[line["step"], line["score"]] for line in lines if "score" in line],
        "kept_step": facts.get("kept_step"),
        "validation_measure": VALIDATION_MEASURE,
        "learning_rate": max((line["learning_rate"] for line in steps), default=0.0),
    }


def _searches(work: Workspace) -> list[report.Search]:
    """A few queries with what search as built finds for them; by what is open already, since a second copy of model and
    index would need as much memory again."""
    from corpusmith.search import Searcher

    if work.is_demonstration:
        queries = list(DEMONSTRATION_SEARCHES)
    else:
        test = work.queries("test")
        known = [query.text for query in work.heldout.queries if query.part == "report"]
        queries = (list(test.queries.values()) if test else known)[:REPORT_SEARCHES]
    model = work.choice["model"]
    engine = work.engine(model)
    engine.settings = work.chosen_search
    searcher = Searcher(work.corpus, engine, work.retriever(model))
    return [
        {
            "query": query,
            "results": [
                {
                    "rank": result.rank,
                    "title": result.title or result.document_id,
                    "document_id": result.document_id,
                    "snippet": " ".join(result.text.split())[:300],
                    "score": result.score,
                }
                for result in searcher.search(query, RESULTS_A_SEARCH)
            ],
        }
        for query in queries
    ]
