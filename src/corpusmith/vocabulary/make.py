"""From options to a tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from corpusmith.corpus.config import CorpusConfig
from corpusmith.corpus.read import read
from corpusmith.vocabulary.config import DecidedVocabulary, KeepConfig, ReplaceConfig
from corpusmith.vocabulary.extend import extend_tokenizer
from corpusmith.vocabulary.sample import sample_documents
from corpusmith.vocabulary.tokenizer import Tokenizer
from corpusmith.vocabulary.train import train_tokenizer


def make_tokenizer(options: DecidedVocabulary, source: Tokenizer, texts: Sequence[str], seed: int) -> Tokenizer:
    """The tokenizer that the options make of the base's.

    Args:
        options: what becomes of the vocabulary.
        source: the base's tokenizer; given back where it is kept.
        texts: a sample of the corpus, of `options.sample_characters`.
        seed: draws the sample of the general text, where there is one.

    Raises:
        CorpusError: the texts hold no word, or the general text cannot be read.
        ModelError: the base's tokenizer cannot be extended.
        RecipeError: the size has no room for the special tokens and an alphabet.
    """
    if isinstance(options, KeepConfig):
        return source
    if isinstance(options, ReplaceConfig):
        return train_tokenizer(options, source, texts)
    general: Sequence[str] = ()
    if options.general is not None:
        documents = read([Path(options.general)], CorpusConfig())
        general = sample_documents(documents, options.sample_characters, seed).texts
    return extend_tokenizer(options, source, texts, general)
