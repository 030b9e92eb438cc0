"""What a corpus's words cost under the base's vocabulary, and what another one would buy: measured, nothing written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from corpusmith.corpus.read import read
from corpusmith.model.arithmetic import best_device
from corpusmith.model.huggingface import load_checkpoint
from corpusmith.pipeline.plan import encoding_speed
from corpusmith.recipe import Recipe
from corpusmith.vocabulary.config import ExtendConfig, ReplaceConfig
from corpusmith.vocabulary.fertility import FertilityReport, report_fertility
from corpusmith.vocabulary.make import make_tokenizer
from corpusmith.vocabulary.sample import sample_documents

TYPICAL_TOKENS = 128
"""Length of the sequences for which FLOPs per token are told."""


def survey_vocabulary(
    paths: Sequence[Path], recipe: Recipe, extend: ExtendConfig, replace: ReplaceConfig
) -> FertilityReport:
    """The base's tokenizer on a sample of the documents, beside the base's extended and one learned from the sample.

    Raises:
        CorpusmithError: the base cannot be loaded, or the documents hold no text.
    """
    checkpoint = load_checkpoint(recipe.model.base, allow_download=recipe.model.allow_download).to(best_device())
    documents = read(paths, recipe.corpus)
    sample = sample_documents(documents, replace.sample_characters, recipe.seed, recipe.corpus.minimum_words)
    base = checkpoint.tokenizer
    extended = make_tokenizer(extend, base, sample.texts, recipe.seed)
    learned = make_tokenizer(replace, base, sample.texts, recipe.seed)
    name = "bytes" if replace.algorithm == "bytes" else f"{replace.algorithm} of these texts"
    return report_fertility(
        sample,
        recipe.model.base,
        base,
        {f"with {extended.size - base.size:,} more pieces": extended, name: learned},
        encoding_speed(checkpoint, recipe.encoding.method),
        checkpoint.encoder.flops([TYPICAL_TOKENS]) / TYPICAL_TOKENS,
    )
