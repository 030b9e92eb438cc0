"""Tokenizers of the usual kinds, made of a few texts by the library's own trainers."""

from __future__ import annotations

from collections.abc import Sequence

import tokenizers

SPECIALS = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]


def byte_level(texts: Sequence[str]) -> tokenizers.Tokenizer:
    """A tokenizer of RoBERTa's kind."""
    backend = tokenizers.Tokenizer(tokenizers.models.BPE())
    backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=SPECIALS,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    return backend


def unigram(texts: Sequence[str]) -> tokenizers.Tokenizer:
    """A tokenizer of XLM-RoBERTa's kind."""
    backend = tokenizers.Tokenizer(tokenizers.models.Unigram())
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    backend.decoder = tokenizers.decoders.Metaspace()
    trainer = tokenizers.trainers.UnigramTrainer(
        vocab_size=300, special_tokens=SPECIALS, unk_token="<unk>", show_progress=False
    )
    backend.train_from_iterator(texts, trainer)
    return backend


def falling_back_on_bytes(letters: str) -> tokenizers.Tokenizer:
    """A tokenizer of Gemma's kind, which mmBERT has: these letters, bytes for all others, and texts shown whole."""
    pieces = ["<pad>", "</s>", "<s>", "<unk>", "<mask>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *letters]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    model = tokenizers.models.BPE(vocabulary, [], unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    backend = tokenizers.Tokenizer(model)
    backend.normalizer = tokenizers.normalizers.Replace(" ", "▁")
    backend.decoder = tokenizers.decoders.Sequence(
        [
            tokenizers.decoders.Replace("▁", " "),
            tokenizers.decoders.ByteFallback(),
            tokenizers.decoders.Fuse(),
        ]
    )
    backend.add_special_tokens(SPECIALS)
    return backend
