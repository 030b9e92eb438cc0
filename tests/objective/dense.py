"""What objectives compute, written down plainly: one passage at a time, dense, float32, loops where they are clear."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch.nn import functional as F

from corpusmith.corpus.shards import TokenShards
from corpusmith.model.encoder import Encoder
from corpusmith.model.heads import MaskedLanguageHead
from corpusmith.model.layers import TransformerLayer
from corpusmith.objective.data import TrainingData
from corpusmith.objective.decoders import BottleneckDecoder
from corpusmith.vocabulary.tokenizer import Tokenizer


def norm(part: torch.nn.LayerNorm, x: torch.Tensor) -> torch.Tensor:
    """Layer norm by its formula."""
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + part.eps).sqrt() * part.weight + part.bias


def attended(layer: TransformerLayer, x: torch.Tensor, seen: torch.Tensor | None = None) -> torch.Tensor:
    """The first half of a layer with norms behind, `[L, D]`; `seen` is bool `[L, L]`."""
    heads = layer.attention.heads
    q, k, v = (x @ layer.attention.qkv.weight.T + layer.attention.qkv.bias).chunk(3, dim=1)
    outs = []
    for q_h, k_h, v_h in zip(q.chunk(heads, 1), k.chunk(heads, 1), v.chunk(heads, 1), strict=True):
        scores = q_h @ k_h.T / q_h.shape[1] ** 0.5
        if seen is not None:
            scores = scores.masked_fill(~seen, -torch.inf)
        outs.append(scores.softmax(1) @ v_h)
    output = layer.attention.output
    return norm(layer.attention_norm, x + torch.cat(outs, 1) @ output.weight.T + output.bias)


def fed(layer: TransformerLayer, x: torch.Tensor) -> torch.Tensor:
    """The second half of a layer with norms behind."""
    up, down = layer.mlp.up, layer.mlp.down
    return norm(layer.mlp_norm, x + F.gelu(x @ up.weight.T + up.bias) @ down.weight.T + down.bias)


def embedded(encoder: Encoder, ids: torch.Tensor) -> torch.Tensor:
    """The encoder's embeddings of one passage, `[L, D]`."""
    parts = encoder.embeddings
    summed = parts.tokens.weight[ids] + parts.positions.weight[: len(ids)] + parts.types.weight[0]
    return norm(parts.norm, summed)


def encoded(encoder: Encoder, ids: torch.Tensor) -> torch.Tensor:
    """Hidden states of one passage, `[L, D]`."""
    hidden = embedded(encoder, ids)
    for layer in encoder.layers:
        hidden = fed(layer, attended(layer, hidden))
    return hidden


def decoded(
    decoder: BottleneckDecoder,
    encoder: Encoder,
    vector: torch.Tensor,
    ids: torch.Tensor,
    seen: torch.Tensor | None = None,
) -> torch.Tensor:
    """States of a bottleneck decoder that is given one vector `[D]` and the tokens behind it."""
    tokens = torch.cat([vector[None], encoder.embeddings.tokens.weight[ids[1:]]])
    hidden = norm(decoder.norm, tokens + decoder.positions.weight[: len(ids)])
    for layer in decoder.layers:
        hidden = fed(layer, attended(layer, hidden, seen))
    return hidden


def negative_log_likelihoods(
    head: MaskedLanguageHead, encoder: Encoder, hidden: torch.Tensor, targets: torch.Tensor
) -> torch.Tensor:
    """`[M]` from states `[M, D]` and the tokens that they should name."""
    features = norm(head.norm, F.gelu(hidden @ head.dense.weight.T + head.dense.bias))
    logits = features @ encoder.embeddings.tokens.weight.T + head.bias
    return -logits.log_softmax(1)[torch.arange(len(targets)), targets]


def passages(packed, *token_tensors: torch.Tensor):
    """The passages of a packed batch, one after the other: their ids, and their part of each `[T]` tensor."""
    for a, b in zip(packed.cu_seqlens[:-1].tolist(), packed.cu_seqlens[1:].tolist(), strict=True):
        yield packed.ids[a:b], *(tensor[a:b] for tensor in token_tensors)


def by_token(packed, places: torch.Tensor, values: torch.Tensor, otherwise: float = -1) -> torch.Tensor:
    """`values[M]` of `places[M]` laid out over all tokens `[T]`, `otherwise` elsewhere."""
    full = torch.full((len(packed.ids),), otherwise, dtype=values.dtype)
    full[places] = values
    return full


def assert_same(objective, encoder: Encoder, batch, expected: torch.Tensor) -> None:
    """The objective's loss is the one expected, and so are its gradients by all parameters."""
    parameters = [*encoder.parameters(), *objective.parameters()]
    found = objective.loss(encoder, batch).total
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-5)
    ours, theirs = (torch.autograd.grad(loss, parameters, allow_unused=True) for loss in (found, expected))
    for one, other, parameter in zip(ours, theirs, parameters, strict=True):
        zero = torch.zeros_like(parameter)
        torch.testing.assert_close(zero if one is None else one, zero if other is None else other, atol=2e-5, rtol=1e-3)
    assert sum(gradient is not None for gradient in ours) > len(list(objective.parameters()))


def documents_of_one_word(data: TrainingData, tokenizer: Tokenizer) -> TrainingData:
    """Eight documents of two passages, all tokens of a document the same: whoever has its vector can name them all."""
    lengths = np.tile([9, 12], 8)
    words = np.setdiff1d(np.flatnonzero(tokenizer.is_word_start), tokenizer.special_ids)
    tokens = np.repeat(np.repeat(words[:: len(words) // 8][:8], 2), lengths).astype(np.uint16)
    shards = TokenShards(tokens, np.concatenate([[0], np.cumsum(lengths)]))
    return replace(data, passages=shards, rows=np.arange(16), documents=np.arange(16) // 2)
