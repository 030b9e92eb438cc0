"""The learning rate over a run: warmup, stable, decay.

A constant rate with a short final decay reaches what a cosine reaches, and the run may be stopped early, prolonged or
branched before the decay without having been planned for it (Hu et al. 2024, "MiniCPM", section 4; Hägele et al.
2024, "Scaling Laws and Compute-Optimal Training Beyond Fixed Training Durations", who find the 1 - sqrt shape of the
decay best).
"""

from __future__ import annotations

import math


def learning_rate_factor(step: int, steps: int, warmup: float, decay: float) -> float:
    """Share of the peak learning rate at `step` (from 0) of `steps`: above 0, at most 1.

    It rises linearly over the first `warmup` share of the steps, stays at 1, and falls as 1 - sqrt(x) over the last
    `decay` share.
    """
    warmup_steps, decay_steps = math.ceil(warmup * steps), math.floor(decay * steps)
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    into_decay = step - (steps - decay_steps)
    if into_decay < 0:
        return 1.0
    return 1 - math.sqrt((into_decay + 1) / (decay_steps + 1))
