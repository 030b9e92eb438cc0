"""Tokenizers of three kinds over vocabularies that a test chooses, and models of three architectures over them."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest
import tokenizers
import torch
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from corpusmith.model.checkpoint import Checkpoint
from corpusmith.model.config import EncoderConfig
from corpusmith.model.encoder import Encoder
from corpusmith.model.heads import MaskedLanguageHead
from corpusmith.vocabulary.tokenizer import Tokenizer

BERT_SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
ROBERTA_SPECIALS = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")

SIZES = {"hidden_size": 32, "layers": 2, "heads": 2, "intermediate_size": 48, "initializer_range": 0.3}
ARCHITECTURES = {
    "bert": {"max_positions": 64},
    "roberta": {"max_positions": 66, "position_offset": 2, "type_vocabulary_size": 1, "norm_epsilon": 1e-5},
    "modernbert": {
        "max_positions": 64,
        "type_vocabulary_size": 0,
        "rotary": True,
        "local_window": 4,
        "windowed": (False, True),
        "norm_first": True,
        "norm_epsilon": 1e-5,
        "norm_bias": False,
        "attention_bias": False,
        "mlp_bias": False,
        "gated": True,
        "head_bias": False,
    },
}


class Makers:
    """Makes what the tests of this room need."""

    @staticmethod
    def word_piece(pieces: Sequence[str], specials: Sequence[str] = BERT_SPECIALS) -> Tokenizer:
        """WordPiece with these pieces behind the special tokens, which come in the order pad, unk, cls, sep, mask."""
        vocabulary = {piece: i for i, piece in enumerate([*specials, *pieces])}
        backend = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token=specials[1]))
        backend.normalizer = normalizers.BertNormalizer()
        backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        backend.decoder = decoders.WordPiece()
        backend.add_special_tokens(list(specials))
        cls, sep = specials[2:4]
        backend.post_processor = processors.BertProcessing((sep, vocabulary[sep]), (cls, vocabulary[cls]))
        kinds = ("pad", "unk", "cls", "sep", "mask")
        return Tokenizer(backend, {}, dict(zip(kinds, specials, strict=True)))

    @staticmethod
    def letters(texts: Sequence[str]) -> list[str]:
        """Pieces that cut any of these texts into single letters."""
        found = sorted({letter for text in texts for letter in text.lower() if letter.isalnum()})
        return [".", ",", *found, *(f"##{letter}" for letter in found)]

    @staticmethod
    def words(texts: Sequence[str]) -> list[str]:
        """The words of these texts."""
        return sorted(set(re.findall(r"\w\w+", " ".join(texts).lower())))

    @staticmethod
    def byte_level(texts: Sequence[str], size: int, specials: Sequence[str] = ROBERTA_SPECIALS) -> Tokenizer:
        """Byte-level BPE of RoBERTa's kind."""
        backend = tokenizers.Tokenizer(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=size, special_tokens=list(specials), initial_alphabet=alphabet, show_progress=False
        )
        backend.train_from_iterator(texts, trainer)
        backend.post_processor = processors.RobertaProcessing(
            ("</s>", backend.token_to_id("</s>")), ("<s>", backend.token_to_id("<s>")), add_prefix_space=False
        )
        return Tokenizer(backend, {}, {})

    @staticmethod
    def unigram(texts: Sequence[str], size: int) -> Tokenizer:
        """Unigram of XLM-RoBERTa's kind."""
        backend = tokenizers.Tokenizer(models.Unigram())
        backend.pre_tokenizer = pre_tokenizers.Metaspace()
        backend.decoder = decoders.Metaspace()
        trainer = trainers.UnigramTrainer(
            vocab_size=size, special_tokens=list(ROBERTA_SPECIALS), unk_token="<unk>", show_progress=False
        )
        backend.train_from_iterator(texts, trainer)
        return Tokenizer(backend, {}, {})

    @staticmethod
    def checkpoint(tokenizer: Tokenizer, architecture: str = "bert") -> Checkpoint:
        """A random model with a head, random in its biases too."""
        shape = SIZES | ARCHITECTURES[architecture]
        config = EncoderConfig(model_type=architecture, vocabulary_size=tokenizer.size, **shape)
        generator = torch.Generator().manual_seed(7)
        encoder, head = Encoder(config, generator), MaskedLanguageHead(config, generator)
        with torch.no_grad():
            for parameter in [*encoder.parameters(), *head.parameters()]:
                if parameter.ndim == 1:
                    parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.2)
        ids = {"pad_token_id": tokenizer.pad, "bos_token_id": tokenizer.cls, "eos_token_id": tokenizer.sep}
        return Checkpoint(
            encoder, head, tokenizer, "mean", True, 48, f"tiny {architecture}", config.to_hugging_face() | ids
        )


@pytest.fixture(scope="session")
def makers() -> type[Makers]:
    return Makers


@pytest.fixture(scope="session")
def old_words(makers: type[Makers], sentences: list[str]) -> Tokenizer:
    """Short words, and letters for all others."""
    return makers.word_piece([*makers.letters(sentences), *(w for w in makers.words(sentences) if len(w) <= 5)])


@pytest.fixture(scope="session")
def new_words(makers: type[Makers], sentences: list[str]) -> Tokenizer:
    """All words but the shortest, in another order, and letters for the others."""
    words = [w for w in makers.words(sentences) if len(w) >= 3]
    return makers.word_piece([*words[::-1], *makers.letters(sentences)])


@pytest.fixture(scope="session")
def old_bytes(makers: type[Makers], sentences: list[str]) -> Tokenizer:
    return makers.byte_level(sentences, 330)


@pytest.fixture(scope="session")
def new_bytes(makers: type[Makers], sentences: list[str]) -> Tokenizer:
    return makers.byte_level(sentences[::-1], 450)
