"""Tiny shapes: norms behind, and norms first with windows and rotary positions."""

from __future__ import annotations

from typing import Any

from corpusmith.model.config import EncoderConfig

FAMILIES: dict[str, dict[str, Any]] = {
    "bert": {},
    "modernbert": {
        "type_vocabulary_size": 0,
        "rotary": True,
        "local_window": 3,
        "norm_first": True,
        "norm_epsilon": 1e-5,
        "norm_bias": False,
        "attention_bias": False,
        "mlp_bias": False,
        "gated": True,
        "head_bias": False,
    },
}
SIZES = {"hidden_size": 24, "layers": 3, "heads": 2, "intermediate_size": 40, "max_positions": 40}


def shape(family: str, **choices: Any) -> EncoderConfig:
    """A shape of this family; every second layer of a modernbert sees a window."""
    sizes = SIZES | choices
    windowed = tuple(number % 2 == 1 for number in range(sizes["layers"])) if family == "modernbert" else ()
    fields = FAMILIES[family] | {"windowed": windowed, "vocabulary_size": 400, "initializer_range": 0.2} | sizes
    return EncoderConfig(model_type=family, **fields)
