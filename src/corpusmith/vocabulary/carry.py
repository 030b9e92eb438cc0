"""A model over another vocabulary, with nothing left to its user.

The vectors come from an embedding transfer (`vocabulary/transfer`). Everything else that knows of the vocabulary is
carried here, for all transfers alike:

- The masked-language head's bias: shared pieces keep theirs; new ones get the same mixture as their vector where the
  transfer mixes old vectors, so that their logits are mixtures of old logits too, and the mean of all others.
- Special tokens: matched by kind, however the two tokenizers write them, so that what the model reads as an opening or
  a mask token stays that.
- Sizes and token ids in the configs that other libraries read, and the inputs and length that they take.
- What objectives keep beside the encoder: parts with a tensor as long as the old vocabulary begin anew, others stay.

Layers, position table, pooling and prompts do not depend on the vocabulary and are copied.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from corpusmith.errors import ModelError
from corpusmith.model.checkpoint import Checkpoint
from corpusmith.model.config import EncoderConfig
from corpusmith.vocabulary.tokenizer import Tokenizer
from corpusmith.vocabulary.transfer.base import EmbeddingTransfer, MixingTransfer, TransferInput
from corpusmith.vocabulary.transfer.correspondence import matching_pieces, ordinary_ids, special_matches
from corpusmith.vocabulary.transfer.mixtures import copied, filled, mix

TOKEN_IDS = {
    "pad_token_id": "pad",
    "bos_token_id": "cls",
    "cls_token_id": "cls",
    "eos_token_id": "sep",
    "sep_token_id": "sep",
    "mask_token_id": "mask",
    "unk_token_id": "unk",
}
"""Special tokens by the names that config.json may have for their ids."""

MODERNBERT_IDS = ("pad_token_id", "bos_token_id", "cls_token_id", "eos_token_id", "sep_token_id")
"""Those that `transformers` fills with ids of ModernBERT's own vocabulary where config.json says nothing."""


def carry(
    checkpoint: Checkpoint,
    target: Tokenizer,
    transfer: EmbeddingTransfer,
    texts: Sequence[str],
    rng: np.random.Generator,
) -> Checkpoint:
    """The same model over the vocabulary of `target`; it shares no weights with the old one.

    Exported with its head (`export_checkpoint(..., with_head=True)`) it loads in `transformers` and
    `sentence-transformers`, and it is trained on as any other checkpoint.

    Args:
        checkpoint: the model; it is not changed.
        target: the new tokenizer.
        transfer: makes the vectors.
        texts: a sample of the corpus, for transfers that learn from it.
        rng: source of all randomness.

    Raises:
        ModelError: the model counts positions from its padding token, and the tokenizer has another one there; or a
            part that an objective keeps is damaged.
        CorpusError: a text that the transfer's options name cannot be used.

    Example:
        >>> carried = carry(checkpoint, target, build_transfer(FocusConfig()), texts, np.random.default_rng(0))
    """
    config = checkpoint.encoder.config
    _check_positions(checkpoint, target)
    same = matching_pieces(checkpoint.tokenizer, target)
    vectors, bias = _carried(TransferInput(checkpoint, target, texts, rng), transfer, same)
    encoder, head = copy.deepcopy(checkpoint.encoder), copy.deepcopy(checkpoint.head)
    device = encoder.token_embedding.weight.device
    encoder.config = replace(config, vocabulary_size=target.size)
    encoder.embeddings.tokens = nn.Embedding.from_pretrained(torch.from_numpy(vectors).to(device), freeze=False)
    if head is not None and bias is not None:
        head.bias = nn.Parameter(torch.from_numpy(bias).to(device))
    kept = int((same >= 0).sum())
    parts = checkpoint.parts.items()
    return replace(
        checkpoint,
        encoder=encoder,
        head=head,
        tokenizer=_told_of_the_model(target, config),
        name=f"{checkpoint.name} (vocabulary of {target.size:,}: {kept:,} pieces kept, {target.size - kept:,} new)",
        hf_config=_renumbered(checkpoint.hf_config, config.model_type, target),
        parts={kind: path for kind, path in parts if not _has_an_axis_of(path, config.vocabulary_size)},
    )


def _check_positions(checkpoint: Checkpoint, target: Tokenizer) -> None:
    """Where positions are counted from the padding token (RoBERTa), `transformers` finds them by its id."""
    offset = checkpoint.encoder.config.position_offset
    if offset and target.pad != offset - 1:
        raise ModelError(
            f"{checkpoint.name} counts positions from its padding token, entry {offset - 1} of its vocabulary, and the "
            f"new tokenizer has {'no padding token' if target.pad is None else f'its padding token at {target.pad}'}; "
            f"make the tokenizer with the padding token as entry {offset - 1}"
        )


def _carried(
    given: TransferInput, transfer: EmbeddingTransfer, same: np.ndarray
) -> tuple[np.ndarray, np.ndarray | None]:
    """The new vectors, float32 `[V', D]`, and the head's bias `[V']` where there is one."""
    kept = copied(same if transfer.keeps_shared else special_matches(same, given.target), len(given.vectors))
    if isinstance(transfer, MixingTransfer):
        weights = transfer.weights(given)
        vectors, kept = transfer.mixed(weights, given), filled(kept, weights)
    else:
        vectors = transfer.embed(given)
    head = given.source.head
    if head is None or head.bias is None:
        return vectors, None
    return vectors, mix(kept, head.bias.detach().cpu().numpy(), ordinary_ids(given.source.tokenizer))


def _told_of_the_model(target: Tokenizer, config: EncoderConfig) -> Tokenizer:
    """The tokenizer with settings that make `transformers` give the model what it reads, and no more than it can."""
    segments = ["token_type_ids"] if config.type_vocabulary_size > 1 else []
    inputs = ["input_ids", *segments, "attention_mask"]
    told = copy.copy(target)
    # A class with a name of its own would rebuild the tokenizer from its vocabulary, with that class's normalisation.
    told.settings = {"tokenizer_class": "PreTrainedTokenizerFast", **target.settings}
    told.settings |= {"model_input_names": inputs, "model_max_length": config.max_tokens}
    return told


def _renumbered(content: dict[str, Any], model_type: str, target: Tokenizer) -> dict[str, Any]:
    """The content of config.json with the new vocabulary's size and ids."""
    renumbered = content | {"vocab_size": target.size}
    for name, kind in TOKEN_IDS.items():
        if content.get(name) is not None or (model_type == "modernbert" and name in MODERNBERT_IDS):
            renumbered[name] = getattr(target, kind)
    return renumbered


def _has_an_axis_of(path: Path, size: int) -> bool:
    """Whether a tensor of a safetensors file has an axis of this length. One of another meaning may happen to be as
    long; then a part begins anew that need not."""
    try:
        with safe_open(path, framework="pt") as file:
            names = file.keys()
            return any(size in file.get_slice(name).get_shape() for name in names)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path} is damaged ({error}); remove the file to begin these parts anew.") from error
