"""What a run will do, written down before it does it.

The number of steps depends on the machine when the budget is in minutes. It is therefore measured once and kept in
`plan.json`, with the settings it holds for and the score of the starting point: a resumed run follows the same
schedule, and a folder is never continued with other settings by mistake.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np

from corpusmith import environment
from corpusmith.digests import seal, unseal
from corpusmith.errors import ArtefactError
from corpusmith.model.arithmetic import DTYPES, Precision
from corpusmith.training.budget import StepCost

MEASURED_STEPS = 8
"""Steps from which the cost of a step is estimated, beside a first one that is left out."""


@dataclass(frozen=True, slots=True)
class Plan:
    """`steps` to take and what one was found to cost: tokens and FLOPs on average, seconds (None where they did not
    matter); score and held-out loss of the starting point (None where not evaluated); the precision computed in;
    `padding_avoided`, the share of tokens that would be padding in batches drawn at random and padded to their longest
    sequence; `settings` it was made for."""

    steps: int
    step_tokens: float
    step_flops: float
    step_seconds: float | None
    evaluation_seconds: float | None
    baseline: tuple[float, float | None] | None
    precision: Precision
    padding_avoided: float
    settings: dict[str, Any]

    def evaluates_after(self, step: int, evaluations: int) -> bool:
        """Whether one of so many evaluations, evenly spread, falls right after this step (from 1)."""
        return step * evaluations // self.steps > (step - 1) * evaluations // self.steps

    def to_json(self) -> str:
        """The content of plan.json."""
        return seal(asdict(self))

    @classmethod
    def read(cls, path: Path) -> Plan:
        """Read plan.json.

        Raises:
            ArtefactError: it is damaged.
        """
        try:
            content = unseal(path.read_bytes())
            if content["baseline"] is not None:
                content["baseline"] = tuple(content["baseline"])
            if content["precision"] not in DTYPES:
                raise ValueError(f"no such precision: {content['precision']}")
            return cls(**content)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ArtefactError(f"{path} is damaged ({error}); delete {path.parent} and train again.") from error


def measure(
    batches: Sequence[np.ndarray], lengths: np.ndarray, spend: Callable[[int, np.ndarray], float], most_seconds: float
) -> StepCost:
    """What a step costs on average over an epoch's `batches`, from a few of them.

    Costs are proportional to tokens in the main, so they are taken per token and multiplied by an average step's
    tokens. Of the seconds the median is taken (other processes disturb), without the first step (caches are cold).

    Args:
        batches: an epoch of example numbers.
        lengths: `int[N]` tokens of each example.
        spend: does the work of step number n on these examples and tells its FLOPs.
        most_seconds: measuring ends early, after at least two steps, once it has taken this long.
    """
    seconds, flops = [], []
    started = environment.seconds()
    for number, batch in enumerate(islice(cycle(batches), MEASURED_STEPS + 1)):
        before = environment.seconds()
        spent, tokens = spend(number, batch), int(lengths[batch].sum())
        seconds.append((environment.seconds() - before) / tokens)
        flops.append(spent / tokens)
        if number > 0 and environment.seconds() - started > most_seconds:
            break
    step_tokens = float(lengths[np.concatenate(batches)].sum()) / len(batches)
    return StepCost(step_tokens, step_tokens * mean(flops), step_tokens * median(seconds[1:]))
