"""Which shapes can be made of which, and which layer of the source a layer of the grown model begins as."""

from __future__ import annotations

from dataclasses import fields

from corpusmith.errors import ModelError
from corpusmith.model.config import EncoderConfig

SIZES = ("hidden_size", "heads", "head_size", "intermediate_size", "layers")
"""What growth makes larger."""

FREE = (*SIZES, "windowed", "initializer_range")
"""What may differ between source and target; which layers see a window is said layer by layer."""


def check_larger(kind: str, source: EncoderConfig, target: EncoderConfig, *, deeper: bool) -> None:
    """Refuse what no widening can do.

    Args:
        kind: the operator's name, for the message.
        source, target: the two shapes.
        deeper: whether the target may have more layers.

    Raises:
        ModelError: the two differ in more than their sizes, a size is smaller than it was, or rotary positions would
            have to turn by angles that the source's heads do not have.
    """
    for name in (field.name for field in fields(EncoderConfig)):
        if name not in FREE and getattr(source, name) != getattr(target, name):
            raise ModelError(
                f"{kind} changes sizes alone, and {name} is {getattr(source, name)!r} in the source "
                f"and {getattr(target, name)!r} in the target"
            )
    for name in SIZES:
        if getattr(target, name) < getattr(source, name):
            raise ModelError(
                f"{kind} makes models larger, and the target's {name} of {getattr(target, name)} is below the "
                f"source's {getattr(source, name)}"
            )
    if not deeper and target.layers > source.layers:
        raise ModelError(
            f"{kind} makes models wider and no deeper, and the source has {source.layers} layers and the target "
            f"{target.layers}; deepen the model in a step of its own"
        )
    if not deeper and target.windowed != source.windowed:
        raise ModelError(f"{kind} makes models wider, and in the target other layers see a window than in the source")
    if source.rotary and target.head_size % source.head_size:
        raise ModelError(
            f"{kind} cannot carry rotary positions from heads of {source.head_size} dimensions to heads of "
            f"{target.head_size}, which turn by other angles; choose a whole multiple"
        )


def stacked_layers(source: EncoderConfig, target: EncoderConfig) -> list[int]:
    """For each layer of the target the layer of the source that it begins as: the whole stack, again and again.

    A layer that sees a window begins as one that does, and one that sees all as one that does, where the source has
    any such: each kind is stacked by itself.
    """
    homes = []
    for layer in range(target.layers):
        alike = [number for number in range(source.layers) if _sees(source, number) == _sees(target, layer)]
        before = sum(_sees(target, number) == _sees(target, layer) for number in range(layer))
        pool = alike or list(range(source.layers))
        homes.append(pool[before % len(pool)])
    return homes


def _sees(config: EncoderConfig, layer: int) -> bool:
    """Whether this layer sees all tokens."""
    return config.window(layer) is None
