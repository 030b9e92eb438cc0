from __future__ import annotations

import numpy as np
import torch

from corpusmith.model.packed import pack
from corpusmith.model.pooling import pool

BATCH = pack([np.array([1, 2, 3]), np.array([4]), np.array([5, 6])])
HIDDEN = torch.arange(12, dtype=torch.bfloat16).view(6, 2)


def test_mean_is_over_each_sequence_alone_and_in_float32() -> None:
    pooled = pool(HIDDEN, BATCH, "mean")
    assert pooled.dtype == torch.float32
    assert pooled.tolist() == [[2, 3], [6, 7], [9, 10]]


def test_cls_is_the_first_token() -> None:
    assert pool(HIDDEN, BATCH, "cls").tolist() == [[0, 1], [6, 7], [8, 9]]
