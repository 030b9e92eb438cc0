"""What the axes of an encoder's weights stand for.

Growth in width treats a weight by what its axes index, not by its name. Five kinds of vectors go through an encoder:
the `stream` (hidden states, and what is added to them), queries, keys, values (a head's output is a mean of values) and
the `inner` activations of the feed-forward part. An axis of a weight makes one of them (`to_...`) or takes one in
(`from_...`). The features of the masked-language head count as a stream: they are multiplied with the token embedding,
whose columns make the stream. Its norm is the last thing that touches them, and counts as what takes them in: it is
there that they can be weighed.

Places of these vectors that go together, everywhere in the model, are units: see `spaces.py`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from corpusmith.model.config import EncoderConfig

Axis = Literal["to_stream", "from_stream", "to_query", "to_key", "to_value", "from_value", "to_inner", "from_inner"]


@dataclass(frozen=True, slots=True)
class Axes:
    """`rows` are what the equal parts of the first axis stand for, one after the other, and `columns` the second axis;
    None is an axis that does not grow (the vocabulary, positions), or, in `columns`, one that is not there."""

    rows: tuple[Axis | None, ...]
    columns: Axis | None = None


_STREAM = Axes(("to_stream",))
_TABLE = Axes((None,), "to_stream")

_AXES = {
    "embeddings.tokens": _TABLE,
    "embeddings.positions": _TABLE,
    "embeddings.types": _TABLE,
    "embeddings.norm": _STREAM,
    "attention_norm": _STREAM,
    "attention.qkv": Axes(("to_query", "to_key", "to_value"), "from_stream"),
    "attention.output": Axes(("to_stream",), "from_value"),
    "mlp_norm": _STREAM,
    "mlp.up": Axes(("to_inner",), "from_stream"),
    "mlp.down": Axes(("to_stream",), "from_inner"),
    "final_norm": _STREAM,
    "head.dense": Axes(("to_stream",), "from_stream"),
    "head.norm": Axes(("from_stream",)),
    "head": Axes((None,)),
}
"""What the axes of each module's weight stand for; a bias has the rows of its weight."""


def axes_of(name: str, config: EncoderConfig) -> Axes:
    """The axes of the weight of this name (`weights.py`)."""
    module, _, kind = re.sub(r"^encoder\.(layers\.\d+\.)?", "", name).rpartition(".")
    axes = _AXES[module]
    rows = axes.rows * 2 if module == "mlp.up" and config.gated else axes.rows
    return Axes(rows, None if kind == "bias" else axes.columns)
