"""What a report is made from: one summary, plain JSON, that the pipeline fills and keeps beside the report.

The report computes nothing but positions on a page: every number it shows stands in the summary, with the measure,
the data, the number of queries and seeds, and the interval it came with. So the HTML report, the tables in the
terminal and whatever else reads `summary.json` cannot disagree. The shapes are `TypedDict`s, because the summary is
JSON and stays JSON: a report can be made again from the file alone.

A word is guarded here: a system is called better or worse than another only by `finding`, which asks the adjusted
p-value of the paired test; everything else is "not distinguishable".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NotRequired, TypedDict

SIGNIFICANCE = 0.05
BUILT = "built"
"""The key of the system that the build leaves in its folder: the one whose gain is the headline."""

Finding = Literal["better", "worse", "not distinguishable"]


class Estimate(TypedDict):
    """A mean over queries with its 95% confidence interval."""

    mean: float
    low: float
    high: float


class System(TypedDict):
    """One system's measures, as {"nDCG@10": Estimate, ...}."""

    key: str
    name: str
    measures: Mapping[str, Estimate]


class Comparison(TypedDict):
    """The mean paired difference `system` - `against` with its 95% interval, the p-value of the paired test, the same
    adjusted for the number of comparisons, and on how many queries the system wins, loses and ties."""

    system: str
    against: str
    measure: str
    difference: float
    low: float
    high: float
    p: float
    p_adjusted: float
    wins: int
    losses: int
    ties: int


class Example(TypedDict):
    """A query that gained or lost: the rank of its relevant document before and after, None if not among the first
    found."""

    query: str
    gained: bool
    before: int | None
    after: int | None
    document: str


class Evaluation(TypedDict):
    """Several systems on the same queries. `note` says what the queries show and what they do not; `baseline` is the
    key of the best system that needs no training; in a comparison of recipes, of the first recipe. `alone` sets the
    vectors of the trained model against those of the base as it was, where there is a trained one: one test of its
    own, so that nothing is adjusted."""

    name: str
    kind: Literal["judged", "known-item", "demonstration", "comparison"]
    note: str
    queries: int
    seeds: int
    baseline: str
    systems: list[System]
    comparisons: list[Comparison]
    alone: NotRequired[Comparison]
    examples: NotRequired[list[Example]]


class Candidate(TypedDict):
    """An option that could have been chosen: its mean score with 95% interval."""

    name: str
    score: float
    low: float
    high: float


class Choice(TypedDict):
    """What was chosen among which candidates, and why. `measure`, `data` and `queries` say what the scores are."""

    what: str
    chosen: str
    candidates: list[Candidate]
    reason: str
    measure: NotRequired[str]
    data: NotRequired[str]
    queries: NotRequired[int]


class Training(TypedDict):
    """One stage of training: cost, and curves as [[step, value], ...].

    `learning_rate` is the highest one; `seconds` include evaluations, `tokens_per_second` and `utilisation` (model
    FLOPs utilisation, against a plain matrix product timed on the same machine) are of the steps alone;
    `padding_avoided` is the share of tokens that would be padding in batches drawn at random and padded to their
    longest sequence. `note` says why no step was taken, None where some were.
    """

    objective: str
    note: NotRequired[str | None]
    steps: int
    tokens: int
    flops: float
    seconds: float
    tokens_per_second: float
    utilisation: float
    padding_avoided: float
    precision: str
    peak_memory_bytes: int
    loss: list[list[float]]
    validation: list[list[float]]
    learning_rate: float
    kept_step: NotRequired[int | None]
    validation_measure: NotRequired[str]


class Corpus(TypedDict):
    """What was read and what is left of it; `dropped` counts documents by reason."""

    read: int
    kept: int
    dropped: dict[str, int]
    duplicates: int
    passages: int
    words: int


class Result(TypedDict):
    """One document found."""

    rank: int
    title: str
    document_id: str
    snippet: str
    score: float


class Search(TypedDict):
    """A query with what was found for it."""

    query: str
    results: list[Result]


class Link(TypedDict):
    """One artefact of the chain. `parents` maps names of artefacts or inputs to digests; costs not known are None."""

    name: str
    kind: str
    digest: str
    parents: dict[str, str]
    seconds: float
    bytes: int
    tokens: float | None
    flops: float | None
    peak_memory_bytes: int
    reused: bool


class PlannedStep(TypedDict):
    """One step of a build before it runs; `seconds` is None where a budget other than minutes decides."""

    step: str
    reused: bool
    seconds: float | None
    memory_bytes: int
    disk_bytes: int
    note: str


class Summary(TypedDict):
    """All that a build did and found. Evaluations, choices, training and searches may be empty; `vocabulary` is the
    `FertilityReport` of the base's vocabulary and the one that took its place, None where none did."""

    title: str
    created: str
    corpusmith: str
    recipe: str
    seed: int
    seconds: float
    budget: str
    machine: str
    versions: dict[str, str]
    verdict: list[str]
    corpus: Corpus
    vocabulary: NotRequired[dict[str, Any] | None]
    evaluations: list[Evaluation]
    choices: list[Choice]
    training: list[Training]
    searches: list[Search]
    chain: list[Link]
    dropped_file: str


class ComparedRecipe(TypedDict):
    """One recipe of a comparison: what its training cost (means over seeds), and by mode ("dense", "fused") the
    deciding measure of each seed with their standard deviation, None with one seed."""

    name: str
    base: str
    objectives: list[str]
    steps: float
    tokens: float
    flops: float
    seconds: float
    by_seed: dict[str, list[float]]
    spread: dict[str, float | None]


class ComparisonSummary(TypedDict):
    """Recipes compared at equal cost: an evaluation a mode (dense, then fused), each query's scores averaged over
    seeds; `per_query[mode][recipe][seed][query]` is the deciding measure before that."""

    title: str
    created: str
    corpusmith: str
    machine: str
    versions: dict[str, str]
    budget: str
    seeds: list[int]
    measure: str
    evaluations: list[Evaluation]
    recipes: list[ComparedRecipe]
    notes: list[str]
    query_ids: list[str]
    per_query: dict[str, dict[str, list[list[float]]]]


def baseline_name(evaluation: Evaluation) -> str:
    """What the system that the others are set against is called."""
    return "the first recipe" if evaluation["kind"] == "comparison" else "the best start"


def finding(comparison: Comparison) -> Finding:
    """What may be said of a comparison: better or worse only where the adjusted p-value is below 0.05."""
    if comparison["p_adjusted"] < SIGNIFICANCE and comparison["difference"] != 0:
        return "better" if comparison["difference"] > 0 else "worse"
    return "not distinguishable"


def name_of(evaluation: Evaluation, key: str) -> str:
    """What the system `key` is called."""
    return next((system["name"] for system in evaluation["systems"] if system["key"] == key), key)


def comparison_of(evaluation: Evaluation, key: str) -> Comparison | None:
    """The comparison of the system `key`, None for the baseline itself."""
    return next((entry for entry in evaluation["comparisons"] if entry["system"] == key), None)


def method(evaluation: Evaluation) -> str:
    """How the numbers of an evaluation came about, in a line to stand under them."""
    seeds = f"{evaluation['seeds']} seed" + ("s" if evaluation["seeds"] != 1 else "")
    averaged = " (each query's scores averaged over them)" if evaluation["seeds"] > 1 else ""
    text = f"{evaluation['queries']:,} queries, {seeds}{averaged}; means with 95% bootstrap intervals"
    if evaluation["comparisons"]:
        text += "; p of the paired randomisation test, two-sided, adjusted by Holm's method"
    return text + "."
