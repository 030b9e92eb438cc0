"""Models of another depth: which layer of the source each layer of the new model begins as a copy of.

Stacking, interleaving, depth up-scaling and the choice of layers for a smaller model differ in nothing else. What is
not in a layer (embeddings, last norm, masked-language head) is carried over as it is.

Two things about layers must be seen to wherever one is put in another place:

- A layer keeps its window. How far it sees and the base of its rotary positions are part of what its weights have
  learnt, so the shape wanted must say the same of the copies (`LayerCopies.reaches` gives such a shape).
- Where norms stand first, the lowest layer has none before its attention, since the embeddings' norm is just there. A
  copy of it further up gets the weights of that one. A higher layer that becomes the lowest gives its own up.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import fields, replace

from corpusmith.errors import ModelError
from corpusmith.growth.base import GrowthInput, GrowthOperator
from corpusmith.growth.weights import Weights, layer_names, layer_weight, model_of, outside_layers, weights_of
from corpusmith.model.config import EncoderConfig
from corpusmith.model.encoder import Encoder
from corpusmith.model.heads import MaskedLanguageHead

FREE = ("layers", "windowed", "initializer_range")
"""What a model may differ in from one of another depth."""


class LayerCopies(GrowthOperator):
    """Base of operators that copy layers; see the module's text."""

    @abstractmethod
    def numbers(self, source: int, target: int) -> list[int]:
        """For each of the `target` layers wanted the one that it copies, 0 to `source` - 1.

        Raises:
            ModelError: this operator cannot make that many of so many.
        """

    def reaches(self, source: EncoderConfig, wanted: EncoderConfig) -> EncoderConfig:
        """See the base class; copies keep their windows."""
        return source if wanted.layers == source.layers else self.shape(source, wanted.layers)

    def shape(self, source: EncoderConfig, layers: int) -> EncoderConfig:
        """The shape of a model of so many layers made of one of shape `source`, each layer with its window.

        Raises:
            ModelError: this operator cannot make that many.
        """
        numbers = self.numbers(source.layers, layers)
        windowed = tuple(source.windowed[number] for number in numbers) if source.windowed else ()
        return replace(source, layers=layers, windowed=windowed)

    def check(self, source: EncoderConfig, target: EncoderConfig) -> None:
        """See the base class."""
        check_depth_alone(source, target)
        check_windows(source, target, self.numbers(source.layers, target.layers))

    def grow(self, given: GrowthInput) -> tuple[Encoder, MaskedLanguageHead | None]:
        """See the base class."""
        return model_of(given.target, self.copied_weights(given))

    def copied_weights(self, given: GrowthInput) -> Weights:
        """The weights of the source with each layer as often as it is copied; a tensor may be there more than once."""
        weights = weights_of(given.source.encoder, given.source.head)
        copied = outside_layers(weights)
        names = layer_names(given.target)
        for place, number in enumerate(self.numbers(given.source.encoder.config.layers, given.target.layers)):
            copied |= {f"encoder.layers.{place}.{name}": layer_weight(weights, number, name) for name in names}
        return copied


def check_depth_alone(source: EncoderConfig, target: EncoderConfig) -> None:
    """Raise ModelError if the shapes differ in more than their layers."""
    names = [field.name for field in fields(source) if field.name not in FREE]
    differing = [name for name in names if getattr(source, name) != getattr(target, name)]
    if differing:
        raise ModelError(
            f"this way changes the number of layers alone, and the shape wanted has another {' and '.join(differing)}; "
            "change that by an operator for width, before or after."
        )


def check_windows(source: EncoderConfig, target: EncoderConfig, numbers: Sequence[int]) -> None:
    """Raise ModelError if a layer wanted has another window than the one that it would be a copy of."""
    for place, number in enumerate(numbers):
        wanted, found = target.window(place), source.window(number)
        if wanted != found:
            raise ModelError(
                f"layer {place + 1} would be a copy of layer {number + 1}, which sees {_reach(found)}, and the shape "
                f"wanted lets it see {_reach(wanted)}; copies keep their windows."
            )


def _reach(window: int | None) -> str:
    return "all tokens" if window is None else f"{window} tokens to either side"
