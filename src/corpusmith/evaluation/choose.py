"""Choosing on queries made from the corpus, cautiously.

Such queries resemble real ones only so far. So a search setting leaves its default, which was chosen on people's
queries over several collections, only where the difference on the held-out queries is significant, as the best of all
values that were tried. A trained model takes the base's place only if it is significantly better on kinds of queries
that it was not trained on, and not significantly worse on any kind: a model trained on titles wins by titles, and was
seen to lose on people's questions all the same.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from corpusmith.evaluation.significance import best_of_several, bootstrap_interval, paired_randomisation
from corpusmith.report.notation import probability

SIGNIFICANCE = 0.05


@dataclass(frozen=True, slots=True)
class Scored:
    """A candidate's mean score on the held-out queries, with its 95% interval."""

    name: str
    score: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Choice:
    """What was chosen among which candidates, and why, in a sentence."""

    what: str
    chosen: str
    reason: str
    candidates: tuple[Scored, ...]


def scored(name: str, scores: np.ndarray, seed: int) -> Scored:
    """The mean of per-query scores with a bootstrap interval."""
    interval = bootstrap_interval(scores, seed)
    return Scored(name, float(scores.mean()), interval.low, interval.high)


def choose_setting(what: str, scores: Mapping[float, np.ndarray], default: float, seed: int) -> tuple[float, Choice]:
    """The value with the best mean of per-query `scores[value]` if it is significantly better than the default's, even
    as the best of all that were tried."""
    best = max(scores, key=lambda value: float(scores[value].mean()))
    table = tuple(scored(str(value), values, seed) for value, values in scores.items())
    if best == default:
        return default, Choice(what, str(best), "The default is the best on the held-out queries.", table)
    gain = float((scores[best] - scores[default]).mean())
    p = best_of_several(np.stack([scores[value] - scores[default] for value in scores if value != default]), seed)
    if p >= SIGNIFICANCE:
        reason = f"{best} scores {gain:+.3f} against the default {default}, not distinguishable ({probability(p)})."
        return default, Choice(what, str(default), reason, table)
    reason = f"{best} scores {gain:+.3f} nDCG@10 against the default {default} ({probability(p)})."
    return best, Choice(what, str(best), reason, table)


def choose_model(
    base: np.ndarray,
    trained: np.ndarray,
    kinds: Sequence[str],
    practised: Collection[str],
    seed: int,
) -> tuple[bool, Choice]:
    """Whether the trained model takes the base's place, from per-query scores `[Q]` of both and each query's kind.

    Kinds that training practised on are no evidence of a gain, only of a loss.
    """
    fresh = ~np.isin(np.array(kinds, dtype=object), list(practised))
    before, after = base[fresh], trained[fresh]
    table = (scored("base", before, seed), scored("trained", after, seed))
    gain, p = float((after - before).mean()), paired_randomisation(after, before, seed)
    if gain <= 0 or p >= SIGNIFICANCE:
        verdict = "worse" if gain < 0 and p < SIGNIFICANCE else "not distinguishable"
        reason = (
            f"The trained model scores {gain:+.3f} nDCG@10 against the base, {verdict} ({probability(p)}); "
            "the base stays."
        )
        return False, Choice("model", "base", reason, table)
    for kind, (difference, kind_p) in _by_kind(base, trained, kinds, seed).items():
        if difference < 0 and kind_p < SIGNIFICANCE:
            reason = (
                f"The trained model gains {gain:+.3f} nDCG@10 overall but loses {difference:+.3f} on {kind} queries "
                f"({probability(kind_p)}); the base stays."
            )
            return False, Choice("model", "base", reason, table)
    reason = (
        f"The trained model scores {gain:+.3f} nDCG@10 against the base ({probability(p)}) and is worse on no kind of "
        "query."
    )
    return True, Choice("model", "trained", reason, table)


def _by_kind(
    base: np.ndarray, trained: np.ndarray, kinds: Sequence[str], seed: int
) -> Mapping[str, tuple[float, float]]:
    """Mean difference and p of each kind of query."""
    labels = np.array(kinds)
    found = {}
    for kind in sorted(set(kinds)):
        chosen = labels == kind
        difference = float((trained[chosen] - base[chosen]).mean())
        found[kind] = (difference, paired_randomisation(trained[chosen], base[chosen], seed))
    return found
