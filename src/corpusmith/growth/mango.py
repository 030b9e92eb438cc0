"""Mango: one multi-linear map from all weights of a small model to all weights of a larger one, learned with the loss.

A layer's linear maps are cut into square blocks of the hidden size: queries, keys, values, output, and the feed-forward
part's F / D blocks each way. All blocks of all layers are one tensor `M[l, b, o, i]` (layer, type of block, output,
input), and every weight of the target depends on every weight of the source:

    M'[l', b', o', i'] = sum_{l b o i}  S[l' b' o' i', l b o i]  M[l, b, o, i]

    S[l' b' o' i', l b o i] = sum_{p q r s}  C_B[p, b', b, q] C_O[q, o', o, r] C_L[r, l', l, s] C_I[s, i', i, p]

The map is a ring of four small cores, joined by indices that run to `rank`: a full one would have as many entries as
the product of both models' weights. It is applied core by core, the small ends first.

Start: C_O and C_I copy and share as `fpi` does, C_B leaves types as they are, C_L stacks the layers.

Shapes: `M [L, B, D, D]` with B = 4 + 2 F / D (+ F / D where the feed-forward part is gated); C_B `[R, B', B, R]`,
C_O, C_I `[R, D', D, R]`, C_L `[R, L', L, R]`.

Where we depart from the paper or it is silent:
- Vectors and tables do not fit into the tensor. Norms, biases and embeddings are mapped by C_O and C_L, what takes
  features in by C_I, each at the first of the ring's indices, and types are not mixed there.
- An inner size that is no multiple of the hidden size is refused: it cannot be cut into blocks of one size.
- One map serves the stream, heads and inner activations, so that rotary positions allow no larger heads.
- Beyond rank 1 the ring's other entries start as small random numbers.
- Copies would learn alike; C_I begins with random numbers that sum to 0 over the copies of a dimension (`noise`).
- It learns for 100 steps; optimiser and rate are ours (`growth/learn.py`).

Relations: `ligo` has its own maps for every kind of vector, and mixes only layers of one kind.

Example:
    >>> given = GrowthInput(small, larger, torch.Generator().manual_seed(0), loss)
    >>> grown = grown_checkpoint(build_operator(MangoConfig(steps=100)), given)

Citation: Pan, Yuan, Yin, Shi, Xu, Zhang, Shang, Jiang, Liu (2023), "Reusing Pretrained Models by Multi-linear Operators
for Efficient Training", NeurIPS, section 3.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F

from corpusmith.errors import ModelError
from corpusmith.growth.axes import Axes, Axis, axes_of
from corpusmith.growth.config import MangoConfig
from corpusmith.growth.copies import copies, spread
from corpusmith.growth.learn import LearnedOperator, Maker, mapped
from corpusmith.growth.ligo import starting_map
from corpusmith.growth.shapes import stacked_layers
from corpusmith.growth.weights import Weights, layer_names, layer_stacks, outside_layers
from corpusmith.model.config import EncoderConfig

OTHER_ENTRIES = 0.01
"""Standard deviation of a core's entries that have no part in the start."""

MATRICES = ("attention.qkv.weight", "attention.output.weight", "mlp.up.weight", "mlp.down.weight")

AXES: tuple[Axis, ...] = (
    "to_stream",
    "to_query",
    "to_key",
    "to_value",
    "to_inner",
    "from_stream",
    "from_value",
    "from_inner",
)


class Mango(LearnedOperator):
    """The multi-linear operator; see the module's text."""

    kind = "mango"

    def __init__(self, config: MangoConfig) -> None:
        super().__init__(config)
        self.config = config

    def check(self, source: EncoderConfig, target: EncoderConfig) -> None:
        """Wider or deeper, with inner sizes that can be cut into blocks."""
        super().check(source, target)
        for config in (source, target):
            if config.intermediate_size % config.hidden_size:
                raise ModelError(
                    f"mango cuts the feed-forward part into blocks of the hidden size, and {config.intermediate_size} "
                    f"is no multiple of {config.hidden_size}; use ligo"
                )
        old, new = _blocks(source), _blocks(target)
        if new < old:
            raise ModelError(
                f"mango maps the {old} blocks of the source's feed-forward part to at least as many, and the target "
                f"has {new}; choose an intermediate_size of {old * target.hidden_size}"
            )
        if source.rotary and source.head_size != target.head_size:
            raise ModelError(
                "mango maps queries as it maps values, and rotary positions need heads of one size: the source's have "
                f"{source.head_size} dimensions and the target's {target.head_size}; use ligo"
            )

    def maker(
        self, weights: Weights, source: EncoderConfig, target: EncoderConfig, generator: torch.Generator
    ) -> Maker:
        """A ring that copies and stacks."""
        return TensorRing(weights, source, target, self.config.rank, self.config.noise, generator)


class TensorRing(Maker):
    """The four cores: `types`, `outputs`, `layers` and `inputs`, each `[R, new, old, R]`."""

    def __init__(
        self,
        weights: Weights,
        source: EncoderConfig,
        target: EncoderConfig,
        rank: int,
        noise: float,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.source, self.target = source, target
        self.halves = 2 if source.gated else 1
        self.outside = outside_layers(weights)
        stacks = layer_stacks(weights, source.layers, layer_names(target))
        self.vectors = {name: stack for name, stack in stacks.items() if name not in MATRICES}
        self.tensor = self._cut(*(stacks[name] for name in MATRICES))
        maps = copies(source, target, generator)
        self.blocks = spread(_blocks(source), _blocks(target), generator).tolist()
        stacked = F.one_hot(torch.tensor(stacked_layers(source, target)), source.layers).float()

        def core(start: torch.Tensor) -> nn.Parameter:
            entries = OTHER_ENTRIES * torch.randn(rank, *start.shape, rank, generator=generator)
            entries[0, :, :, 0] = start
            return nn.Parameter(entries)

        self.types = core(self._starting_types())
        self.outputs = core(maps["to_value"].matrix)
        self.layers = core(stacked)
        self.inputs = core(starting_map("from_value", maps["from_value"], noise, generator).detach())

    @property
    def query_scale(self) -> float:
        """What queries are multiplied by, so that scores stay what they were where heads grow."""
        return math.sqrt(self.source.head_size / self.target.head_size)

    def forward(self) -> Weights:
        """All weights of the larger model."""
        makes, takes = self.outputs[0, :, :, 0], self.inputs[0, :, :, 0]
        maps = {axis: makes if axis.startswith("to_") else takes for axis in AXES}
        made = {
            name: torch.cat(mapped(weight, axes_of(name, self.source), maps)) for name, weight in self.outside.items()
        }
        grown = self._uncut(self._mapped_tensor())
        for name, vector in self.vectors.items():
            grown[name] = torch.tensordot(self.layers[0, :, :, 0], self._mapped_vector(name, vector, maps), dims=1)
        for name, stack in grown.items():
            made |= {f"encoder.layers.{number}.{name}": layer for number, layer in enumerate(stack)}
        return made

    def _mapped_tensor(self) -> torch.Tensor:
        """`[L', B', D', D']`."""
        inner = torch.einsum("lboi,sjip->lbojsp", self.tensor, self.inputs)
        inner = torch.einsum("lbojsp,pcbq->lcojsq", inner, self.types)
        inner = torch.einsum("lcojsq,qtor->lctjsr", inner, self.outputs)
        return torch.einsum("lctjsr,rkls->kctj", inner, self.layers)

    def _mapped_vector(self, name: str, vector: torch.Tensor, maps: dict[Axis, torch.Tensor]) -> torch.Tensor:
        """`[L, n]` to `[L, n']`."""
        if name == "mlp.up.bias":
            blocks = vector.view(len(vector), self.halves, -1, self.source.hidden_size)
            copied = torch.stack([blocks[:, :, number] for number in self.blocks], dim=2)
            return (copied @ maps["to_inner"].T).flatten(1)
        parts = mapped(vector, self._axes(name), maps)
        if name == "attention.qkv.bias":
            parts[0] = parts[0] * self.query_scale
        return torch.cat(parts, dim=-1)

    def _axes(self, name: str) -> Axes:
        return axes_of(f"encoder.layers.0.{name}", self.source)

    def _cut(self, qkv: torch.Tensor, output: torch.Tensor, up: torch.Tensor, down: torch.Tensor) -> torch.Tensor:
        """`[L, B, D, D]` of a layer's maps: queries, keys, values, output, blocks of `up`, blocks of `down`."""
        size, layers = self.source.hidden_size, len(output)
        rows = [stack.reshape(layers, -1, size, size) for stack in (qkv, output, up)]
        columns = down.reshape(layers, size, -1, size).transpose(1, 2)
        return torch.cat([*rows, columns], dim=1)

    def _uncut(self, tensor: torch.Tensor) -> Weights:
        """The stacks of a layer's maps, from `[L', B', D', D']`."""
        blocks = _blocks(self.target)
        qkv, output, up, down = tensor.split([3, 1, self.halves * blocks, blocks], dim=1)
        stacks = (qkv.flatten(1, 2), output.flatten(1, 2), up.flatten(1, 2), down.transpose(1, 2).flatten(2))
        return dict(zip(MATRICES, stacks, strict=True))

    def _starting_types(self) -> torch.Tensor:
        """`[B', B]`: every type as it is; added blocks of the feed-forward part are copies, and share what is taken in.
        Larger heads need smaller queries."""
        copied = F.one_hot(torch.tensor(self.blocks), _blocks(self.source)).float()
        shared = copied / copied.sum(dim=0)
        attention = torch.eye(4)
        attention[0, 0] = self.query_scale
        return torch.block_diag(attention, *[copied] * self.halves, shared)


def _blocks(config: EncoderConfig) -> int:
    """Into how many blocks of the hidden size the inner size is cut."""
    return config.intermediate_size // config.hidden_size
