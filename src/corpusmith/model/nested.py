"""Models inside the model: its first layers, and the leading dimensions of their states.

Training asks many of them for their loss at once. The lower layers are the same for all, so the encoder runs once and
each `EncoderView` takes the states after its own number of layers (`SharedRun`). Behind the leading dimensions a view's
states are zero rather than gone: lengths and inner products are those of the cut vectors, and whatever reads states
(heads, decoders) keeps its shape. Its weights for the other dimensions then do nothing, as if they were cut too.

Where norms stand first, a layer gives states that no norm has seen yet, and the encoder's last norm is put behind
whichever layer is a view's last: so it is in a checkpoint of that many layers. With norms behind, every layer ends with
its own.

`cut_checkpoint` makes such a model one of its own.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import torch
from torch import nn
from torch.nn import functional as F

from corpusmith.errors import ModelError
from corpusmith.model.checkpoint import Checkpoint
from corpusmith.model.config import EncoderConfig
from corpusmith.model.encoder import Embeddings, Encoder
from corpusmith.model.packed import PackedBatch
from corpusmith.model.pooling import Pooling, pool


class SharedRun:
    """The runs of an encoder on a few batches, from which views of several sizes take their states.

    Every view must be given the same batches in the same order, as one objective does each time it is asked for the
    loss of one batch. The first view runs the encoder; the others find its states.

    Args:
        encoder: what runs.
        layers: numbers of layers after which a view will ask for states, from 1 to all.
        frozen: how many of the first layers (and with them the embeddings) no gradient flows through.
    """

    def __init__(self, encoder: Encoder, layers: Iterable[int], frozen: int = 0) -> None:
        self.encoder, self.layers, self.frozen = encoder, sorted(set(layers)), frozen
        self._runs: list[tuple[PackedBatch, dict[int, torch.Tensor]]] = []

    def view(self, layers: int, dimension: int) -> EncoderView:
        """The encoder of the first `layers` layers, whose states are zero behind the leading `dimension`s."""
        return EncoderView(self, layers, dimension)

    def states(self, call: int, packed: PackedBatch, layers: int) -> torch.Tensor:
        """States `[T, D]` after `layers` layers, normed as those of a last layer, of the batch given in this call.

        Raises:
            ValueError: it is not the batch that the first view was given.
        """
        if call == len(self._runs):
            found = self.encoder.hidden_states(packed, self.layers, self.frozen)
            self._runs.append((packed, dict(zip(self.layers, map(self._normed, self.layers, found), strict=True))))
        seen, states = self._runs[call]
        if not torch.equal(seen.cu_seqlens, packed.cu_seqlens):
            raise ValueError("the views of a shared run were given other batches, or in another order")
        return states[layers]

    def vectors(self, layers: int, pooling: Pooling) -> torch.Tensor:
        """float32 `[B, D]`, pooled after so many layers, of all sequences in the order in which they were given."""
        return torch.cat([pool(states[layers], packed, pooling) for packed, states in self._runs])

    def _normed(self, layers: int, states: torch.Tensor) -> torch.Tensor:
        return states if layers == self.encoder.config.layers else self.encoder.final_norm(states)


class EncoderView:
    """A smaller encoder inside another one; it answers what objectives ask of an `Encoder`. See the module's text."""

    def __init__(self, run: SharedRun, layers: int, dimension: int) -> None:
        self.run, self.layers, self.dimension = run, layers, dimension
        self.config = cut_config(run.encoder.config, layers)
        self._calls = 0

    def __call__(self, packed: PackedBatch) -> torch.Tensor:
        """States `[T, D]` in `compute_dtype`, zero behind the leading dimensions."""
        states = self.run.states(self._calls, packed, self.layers)
        self._calls += 1
        beyond = states.shape[1] - self.dimension
        return F.pad(states[:, : self.dimension], (0, beyond)) if beyond else states

    @property
    def embeddings(self) -> Embeddings:
        """The encoder's."""
        return self.run.encoder.embeddings

    @property
    def token_embedding(self) -> nn.Embedding:
        """The encoder's."""
        return self.run.encoder.token_embedding

    @property
    def compute_dtype(self) -> torch.dtype:
        """The encoder's."""
        return self.run.encoder.compute_dtype

    @property
    def dropout(self) -> float:
        """The encoder's."""
        return self.run.encoder.dropout

    @property
    def training(self) -> bool:
        """The encoder's."""
        return self.run.encoder.training

    def parameters(self) -> Iterator[nn.Parameter]:
        """The encoder's."""
        return self.run.encoder.parameters()

    def flops(self, lengths: Sequence[int] | torch.Tensor | PackedBatch) -> float:
        """0: the run belongs to the encoder, and is counted with it."""
        return 0.0


def cut_config(config: EncoderConfig, layers: int) -> EncoderConfig:
    """The config of the first `layers` layers."""
    return replace(config, layers=layers, windowed=config.windowed[:layers])


def cut_checkpoint(checkpoint: Checkpoint, layers: int | None = None, dimension: int | None = None) -> Checkpoint:
    """A smaller checkpoint: the first layers, and vectors of the leading dimensions. It shares no weights with the
    whole one.

    Its vectors are those of the whole model's states after that layer, cut. They are good vectors where a nested
    objective (`matryoshka`, `matryoshka_2d`, `starbucks`) has trained that size. The masked-language head and what
    objectives keep are those of the whole model.

    Args:
        checkpoint: the whole one.
        layers: how many layers are left; all of them, if None.
        dimension: how many dimensions its vectors have; all of them, if None.

    Raises:
        ModelError: the model has fewer layers or dimensions than that.
    """
    config = checkpoint.encoder.config
    layers = config.layers if layers is None else layers
    kept = checkpoint.dimension if dimension is None else dimension
    if not 1 <= layers <= config.layers:
        raise ModelError(f"{checkpoint.name} has {config.layers} layers and cannot be cut to {layers}")
    if not 1 <= kept <= checkpoint.dimension:
        raise ModelError(
            f"the vectors of {checkpoint.name} have {checkpoint.dimension} dimensions and cannot be cut to {kept}"
        )
    encoder = copy.deepcopy(checkpoint.encoder)
    encoder.config = cut_config(config, layers)
    encoder.layers = encoder.layers[:layers]
    changes = [f"{layers} layers"] * (layers < config.layers) + [f"{kept} dimensions"] * (kept < checkpoint.dimension)
    name = f"{checkpoint.name} ({', '.join(changes)})" if changes else checkpoint.name
    return replace(checkpoint, encoder=encoder, name=name, cut_dimension=kept if kept < config.hidden_size else None)
