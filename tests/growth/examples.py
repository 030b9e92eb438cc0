"""Tiny shapes of three families, and for each kind of growth operator a few that it makes of them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from pydantic import TypeAdapter

from corpusmith.growth.base import GrowthOperator
from corpusmith.growth.registry import GrowthConfig, build_operator
from corpusmith.model.config import EncoderConfig

VOCABULARY = 400
"""At least as many as the tiny tokenizer has entries."""

FAMILIES: dict[str, dict[str, Any]] = {
    "bert": {"max_positions": 40},
    "roberta": {"max_positions": 42, "position_offset": 2, "type_vocabulary_size": 1},
    "modernbert": {
        "max_positions": 40,
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

SMALL = {"hidden_size": 24, "layers": 3, "heads": 2, "intermediate_size": 48}


@dataclass(frozen=True)
class Example:
    """Options of an operator, how the source differs from `SMALL` and the target from the source; and whether the
    operator is to say that it preserves the function there. `windowed` are the target's layers that see a window, in
    the family that has such, unless they alternate; `families` those that the operator takes."""

    target: dict[str, int]
    source: dict[str, int] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    preserves: bool = False
    windowed: tuple[bool, ...] | None = None
    families: tuple[str, ...] = tuple(FAMILIES)


WIDE = {"hidden_size": 48, "heads": 4, "intermediate_size": 96}
ODD = {"hidden_size": 36, "heads": 3, "intermediate_size": 52}
LARGER_HEADS = {"hidden_size": 72, "intermediate_size": 100}
WIDE_AND_DEEP = WIDE | {"layers": 5}
LEARNED = {"steps": 2, "learning_rate": 1e-3}

EXAMPLES: dict[str, tuple[Example, ...]] = {
    "fpi": (
        Example(WIDE, preserves=True),
        Example(LARGER_HEADS, preserves=True),
        Example({"hidden_size": 96, "heads": 4}, preserves=True),
        Example({"intermediate_size": 77}, preserves=True),
        Example(WIDE | {"layers": 1}, {"layers": 1}, preserves=True),
        Example(WIDE, options={"noise": 0}, preserves=True),
        Example(ODD),
    ),
    "aki": (Example(WIDE), Example(LARGER_HEADS), Example(ODD)),
    "ligo": (Example(WIDE_AND_DEEP, options=LEARNED), Example(ODD, options=LEARNED)),
    "mango": (
        Example(WIDE_AND_DEEP, options=LEARNED),
        Example({"hidden_size": 36, "heads": 3, "intermediate_size": 108}, options=LEARNED | {"rank": 2}),
    ),
    "mixture": (Example(WIDE_AND_DEEP), Example(LARGER_HEADS), Example(ODD)),
    "stack": (Example({"layers": 6}), Example({"layers": 9})),
    "interleave": (Example({"layers": 5}),),
    "depth_upscaling": (Example({"layers": 4}),),
    "identity": (
        Example({"layers": 4}, preserves=True),
        Example({"layers": 9}, preserves=True),
        Example({"layers": 5}, options={"place": "end"}, preserves=True),
    ),
    "choose_layers": (Example({"layers": 2}), Example({"layers": 2}, options={"which": "ends"})),
    "slice_width": (
        Example({"hidden_size": 12, "heads": 1, "intermediate_size": 20}),
        Example({"hidden_size": 12, "heads": 1}, options={"by": "loss", "batches": 2}),
    ),
}
"""For every kind in the registry."""

CASES = [
    pytest.param(kind, example, family, id=f"{kind}-{number}-{family}")
    for kind, examples in EXAMPLES.items()
    for number, example in enumerate(examples)
    for family in example.families
]
"""Kind, example and family: every example in every family."""


def shape(family: str, **choices: Any) -> EncoderConfig:
    """A shape of this family; `SMALL`, but for these choices. Every second layer of a modernbert sees a window."""
    choices = SMALL | choices
    windowed = tuple(number % 2 == 1 for number in range(choices["layers"])) if family == "modernbert" else ()
    return EncoderConfig(
        model_type=family,
        vocabulary_size=VOCABULARY,
        windowed=windowed,
        initializer_range=0.2,
        **(FAMILIES[family] | choices),
    )


def shapes(kind: str, example: Example, family: str) -> tuple[EncoderConfig, EncoderConfig]:
    """Source and target of an example."""
    source, target = shape(family, **example.source), shape(family, **(example.source | example.target))
    target = operator(kind, **example.options).reaches(source, target)
    if target.windowed and example.windowed is not None:
        target = replace(target, windowed=example.windowed)
    return source, target


def operator(kind: str, **options: Any) -> GrowthOperator:
    """An operator of this kind with these options."""
    return build_operator(TypeAdapter(GrowthConfig).validate_python({"kind": kind} | options))
