"""Alignment: the units of one model put in the order of another's, so that the two can be averaged.

Neurons of a feed-forward part, heads, and dimensions within a head can be put in any order without changing what a
model computes. Two models that learnt the same may have it in different places, and their mean then mixes what does not
belong together. Weight matching chooses the permutations P that bring one's weights nearest to the other's,

    P = argmax  sum over weights  < W_reference , P(W) >,

space by space (`spaces.py`): with all others held fixed, the best order of a space of n units is a linear assignment
over the [n, n] products of the two models' weights, summed over all matrices in which the space occurs. Each turn can
only raise the sum; when every space has had one without gain, that is all. Heads are assigned in two steps: for each
pair of heads the best order of the dimensions within, and with these sums the best order of heads.

Models of one start have the same residual stream, and are aligned without touching it. Models of different starts need
`residual`: the dimensions of the states are then put in another order as well, everywhere at once. The permuted model
gives the same logits, and the same vectors in another order of dimensions.

Where we depart from the papers or they are silent:
- Ainsworth et al. have no attention. Rotary positions tie the dimensions of queries and keys to places within a head,
  which then keep their order.
- They visit spaces in random order; here the states' dimensions, of which token embeddings tell most, come first, and
  then the layers from below.
- The head's own matrix has the states' dimensions on both axes, which no linear assignment can weigh; it is left out
  of the sum, and permuted like the rest.
- Nothing is trained or run. Their straight-through estimator and matching by activations, and the mean of more than two
  models (align each with the first, then `merge.uniform_soup`), are left out.

Example:
    >>> middle = interpolated(first, aligned(first, second), share=0.5)

Citation: Ainsworth, Hayase, Srinivasa (2023), "Git Re-Basin: Merging Models modulo Permutation Symmetries", ICLR,
section 3.2, algorithm 1; Ito, Yamada, Kumagai (2024), "Analysis of Linear Mode Connectivity via Permutation-Based
Weight Matching", for why it works: directions of large singular values agree afterwards (`direction_agreement`), more
than distances shrink.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch

from corpusmith.growth.merge import check_alike
from corpusmith.growth.spaces import HIDDEN, Along, Spaces, select, spaces_of
from corpusmith.growth.weights import Weights, layer_of, model_of, weights_of
from corpusmith.model.checkpoint import Checkpoint
from corpusmith.model.config import EncoderConfig

MOST_ROUNDS = 100
LEAST_GAIN = 1e-6
"""Share by which a space's sum must rise for another round to be worth it."""


def aligned(reference: Checkpoint, checkpoint: Checkpoint, residual: bool = False) -> Checkpoint:
    """`checkpoint` with its units in the order of `reference`'s, as a new model.

    Args:
        reference: the model to be like.
        checkpoint: the model whose units are moved.
        residual: move the dimensions of the states too; then its vectors have their dimensions in another order.

    Raises:
        ModelError: the two have different shapes, tokenizers or vectors.
    """
    check_alike([reference, checkpoint])
    config = checkpoint.encoder.config
    ours, weights = (weights_of(found.encoder, found.head) for found in (reference, checkpoint))
    orders = matching_orders(ours, weights, config, residual)
    encoder, head = model_of(config, select(weights, spaces_of(config), orders))
    return replace(
        checkpoint,
        encoder=encoder,
        head=head,
        name=f"{checkpoint.name} (aligned with {reference.name})",
        parts={},
    )


def matching_orders(
    reference: Mapping[str, torch.Tensor], weights: Mapping[str, torch.Tensor], config: EncoderConfig, residual: bool
) -> Weights:
    """For each space the order (int64 `[units]`) in which the units of `weights` are most like those of `reference`."""
    spaces = spaces_of(config)
    shared = [name for name in weights if name in reference]
    reference, weights = ({name: w[name].float().cpu() for name in shared} for w in (reference, weights))
    orders: Weights = {}
    sums: dict[str, float] = {}
    for _ in range(MOST_ROUNDS if residual else 1):
        gained = False
        for turn in _turns(config, residual):
            similar = {space: _similarity(reference, weights, spaces, orders, space) for space in turn}
            orders |= _assigned_heads(similar, config) if len(turn) > 1 else _assigned(similar)
            for space, matrix in similar.items():
                reached = float(matrix.gather(1, orders[space][:, None]).sum())
                gained |= space not in sums or reached > sums[space] + LEAST_GAIN * abs(sums[space])
                sums[space] = reached
        if not gained:
            break
    return orders


def direction_agreement(first: Checkpoint, second: Checkpoint, above: float = 0.3) -> float:
    """How far the main directions of two models' layers agree, 1 where they are the same.

    The mean over singular vectors u_i, v_i of the first's matrices, and over all matrices inside layers, of
    `sum_j (u_i . u'_j) (v_i . v'_j)`, both with singular values of at least `above` times the matrix's largest.
    """
    ours, theirs = (weights_of(found.encoder, found.head) for found in (first, second))
    agreement, directions = 0.0, 0
    for name in (name for name, tensor in ours.items() if layer_of(name)[0] is not None and tensor.ndim == 2):
        (u, v), (other_u, other_v) = (_main_directions(weights[name].float(), above) for weights in (ours, theirs))
        agreement += float(((u.T @ other_u) * (v @ other_v.T)).sum())
        directions += u.shape[1]
    return agreement / directions


def _main_directions(matrix: torch.Tensor, above: float) -> tuple[torch.Tensor, torch.Tensor]:
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    kept = values >= above * values[0]
    return left[:, kept], right[kept]


def _turns(config: EncoderConfig, residual: bool) -> list[tuple[str, ...]]:
    """The spaces in the order in which they are assigned, those in one tuple together."""
    layers = [f"layers.{number}" for number in range(config.layers)]
    turns: list[tuple[str, ...]] = [(HIDDEN,)] if residual else []
    for layer in layers:
        turns += [(f"{layer}.queries", f"{layer}.values"), (f"{layer}.neurons",)]
    return turns


def _similarity(
    reference: Mapping[str, torch.Tensor],
    weights: Mapping[str, torch.Tensor],
    spaces: Spaces,
    orders: Weights,
    space: str,
) -> torch.Tensor:
    """`[units, units]`: the products of each unit's weights in `reference` (rows) with each one's in `weights`, all
    other spaces in their present order."""
    found = torch.zeros(())
    for name, tensor in weights.items():
        places = [number for number, along in enumerate(spaces[name]) if space in along]
        if len(places) != 1:
            continue
        (place,) = places
        elsewhere = {name: tuple((None,) if i == place else along for i, along in enumerate(spaces[name]))}
        theirs = select({name: tensor}, elsewhere, orders)[name]
        along = spaces[name][place]
        rows = (_rows(reference[name], place, along), _rows(theirs, place, along))
        for one, other, part in zip(*rows, along, strict=True):
            if part == space:
                found = found + one @ other.T
    return found


def _rows(tensor: torch.Tensor, number: int, along: Along) -> tuple[torch.Tensor, ...]:
    """The parts of an axis, one a space: each unit's weights as a row."""
    return tensor.movedim(number, 0).reshape(tensor.shape[number], -1).chunk(len(along))


def _assigned(similar: Weights) -> Weights:
    """For each space the order of the largest sum."""
    return {space: torch.from_numpy(_best(matrix.numpy())) for space, matrix in similar.items()}


def _assigned_heads(similar: Weights, config: EncoderConfig) -> Weights:
    """The orders of queries and values, of the largest sum among those that keep heads together."""
    heads, size = config.heads, config.head_size
    inner: dict[str, np.ndarray] = {}
    total = np.zeros((heads, heads))
    for space, matrix in similar.items():
        blocks = matrix.view(heads, size, heads, size).transpose(1, 2).numpy()
        keeps_places = config.rotary and space.endswith("queries")
        inner[space] = np.array([[np.arange(size) if keeps_places else _best(b) for b in row] for row in blocks])
        total += np.take_along_axis(blocks, inner[space][..., None], axis=3).sum(axis=(2, 3))
    chosen = _best(total)
    return {
        space: torch.from_numpy((chosen[:, None] * size + within[np.arange(heads), chosen]).ravel())
        for space, within in inner.items()
    }


def _best(similar: np.ndarray) -> np.ndarray:
    """For each row its column, every column once, so that the sum of what stands there is the largest."""
    from scipy.optimize import linear_sum_assignment

    return linear_sum_assignment(similar, maximize=True)[1]
