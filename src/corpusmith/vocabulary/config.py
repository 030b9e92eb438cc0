"""What becomes of the base's vocabulary: kept, extended by pieces of the domain, or replaced by the domain's own."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from corpusmith.config import Config

Algorithm = Literal["wordpiece", "unigram", "bpe", "bytes"]
"""How a vocabulary is learned and texts are cut by it."""


class VocabularyOptions(Config):
    """Base of all options."""

    def entries(self, base: int) -> int:
        """How many entries there will be at most, where the base has so many."""
        return base


class LearnedOptions(VocabularyOptions):
    """What vocabularies that are learned from the corpus have in common."""

    sample_characters: int = Field(default=10_000_000, ge=1000, le=1_000_000_000)
    """How much of the corpus is looked at, in texts drawn from it at random. Characters, 1000 to 1e9; more than the
    default changes few pieces."""


class KeepConfig(VocabularyOptions):
    """The base's vocabulary stays as it is."""

    kind: Literal["keep"] = "keep"
    """The base's own vocabulary."""


class ExtendConfig(LearnedOptions):
    """The base's vocabulary gets more pieces; those it has keep their ids."""

    kind: Literal["extend"] = "extend"
    """The base's vocabulary with pieces of the domain."""

    pieces: int = Field(default=2000, ge=1, le=200_000)
    """Pieces added, where the corpus gives so many. 1 to 200,000; each costs a row of the token embedding."""

    choose: Literal["saved", "balanced"] = "saved"
    """Which pieces are added. 'saved': the word, beginning or end of a word that saves the most tokens, one after the
    other. 'balanced': those that a vocabulary learned from the corpus and a general text, both with the same weight,
    has and the base's has not."""

    general: str | None = None
    """A folder or file of general text, in the corpus's language, for choose = 'balanced'."""

    minimum_count: int = Field(default=5, ge=1)
    """A piece is added only if it occurs so often in the sample. At least 1."""

    balanced_size: int = Field(default=32_000, ge=300, le=1_000_000)
    """Entries of the vocabulary learned from the corpus and the general text, for choose = 'balanced'. 300 to 1e6."""

    def entries(self, base: int) -> int:
        """See the base class."""
        return base + self.pieces

    @model_validator(mode="after")
    def _general_text_fits(self) -> Self:
        if (self.choose == "balanced") != (self.general is not None):
            raise ValueError("choose = 'balanced' needs a general text (general = 'a path'), and nothing else does")
        return self


class ReplaceConfig(LearnedOptions):
    """A new vocabulary in place of the base's; special tokens stay, and so do those that somebody added to the base."""

    kind: Literal["replace"] = "replace"
    """A vocabulary learned from the corpus."""

    algorithm: Algorithm = "wordpiece"
    """How it is learned: 'wordpiece' (BERT), 'unigram' (SentencePiece, XLM-RoBERTa), 'bpe' on bytes (RoBERTa,
    ModernBERT), or 'bytes' alone, which needs no learning and knows every script, at three to six times the tokens."""

    size: int = Field(default=16_000, ge=300, le=1_000_000)
    """Entries, special and added tokens included. 300 to 1e6; a small corpus gives fewer. Not used by 'bytes', which
    has 256 besides these."""

    lowercase: bool | None = None
    """Whether case is dropped. Unset: as the base's tokenizer does. 'bytes' never drops it."""

    strip_accents: bool = False
    """Whether accents and other combining marks are dropped, whatever the base's tokenizer does (uncased BERT drops
    them). It makes one word of 'schon' and 'schön', and ruins scripts that write vowels as marks (Hindi, Thai)."""

    def entries(self, base: int) -> int:
        """See the base class."""
        return self.size


class AutoConfig(VocabularyOptions):
    """Kept, extended or replaced, as the documents want it: decided on a sample, before a build begins."""

    kind: Literal["auto"] = "auto"
    """What a sample of the documents says."""

    sample_characters: int = Field(default=2_000_000, ge=1000, le=1_000_000_000)
    """How much of the documents is looked at. Characters, 1000 to 1e9; one half is learned from and the other
    measured."""


DecidedVocabulary = KeepConfig | ExtendConfig | ReplaceConfig
VocabularyConfig = Annotated[DecidedVocabulary | AutoConfig, Field(discriminator="kind")]
"""What becomes of the vocabulary; `kind` says which."""
