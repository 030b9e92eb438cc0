"""What a start leaves open is decided here, before anything is built: the vocabulary and the operators of growth.

The vocabulary is decided on a sample of the documents, by the tokens that pieces learned from one half of it save in
the other. Operators are decided by the two shapes. Decisions depend on the documents, the base and the recipe alone,
and stand in the recipe that a build leaves in its folder, with the reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from corpusmith.corpus.base import Document, Dropped
from corpusmith.corpus.read import read
from corpusmith.growth.config import ChooseLayersConfig, FPIConfig, GrowthConfig, IdentityConfig, SliceWidthConfig
from corpusmith.model.checkpoint import Checkpoint
from corpusmith.model.config import EncoderConfig
from corpusmith.model.huggingface import load_checkpoint
from corpusmith.recipe import Recipe, StartConfig
from corpusmith.vocabulary.config import AutoConfig, DecidedVocabulary, ExtendConfig, KeepConfig, ReplaceConfig
from corpusmith.vocabulary.fertility import report_fertility
from corpusmith.vocabulary.make import make_tokenizer
from corpusmith.vocabulary.sample import TextSample, sample_documents
from corpusmith.vocabulary.tokenizer import Tokenizer

SHAPE = ("layers", "hidden_size", "intermediate_size", "heads")
"""The options of a start that say which shape is wanted."""
LEAST_SAVED = 0.1
"""Share of the tokens that other pieces must save, or the vocabulary stays: what is saved is soon less than what new
vectors must learn."""
MANY_TOKENS_A_WORD = 2.0
"""From here on the base's vocabulary is another language's, and little of it is worth keeping."""
READ_CHARACTERS = 20_000_000
"""How much of the documents is read for the sample."""


def settle(recipe: Recipe, paths: Sequence[Path]) -> Recipe:
    """The recipe with nothing left open in its start; the recipe itself where nothing is.

    Raises:
        CorpusmithError: the base cannot be loaded, or the documents hold no text.
    """
    start = recipe.start
    if not start.is_open:
        return recipe
    base = load_checkpoint(recipe.model.base, allow_download=recipe.model.allow_download)
    reasons = [start.reason] if start.reason else []
    if isinstance(start.vocabulary, AutoConfig):
        vocabulary, why = decide_vocabulary(start.vocabulary, recipe, paths, base)
        start = start.model_copy(update={"vocabulary": vocabulary})
        reasons.append(why)
    if start.growth == "auto":
        operators = decide_growth(base.encoder.config, wanted_shape(base.encoder.config, start))
        start = start.model_copy(update={"growth": operators})
        if operators:
            reasons.append(f"the shape wanted is made by {' and '.join(options.kind for options in operators)}")
    return recipe.model_copy(update={"start": start.model_copy(update={"reason": "; ".join(reasons)})})


def decide_vocabulary(
    options: AutoConfig, recipe: Recipe, paths: Sequence[Path], base: Checkpoint
) -> tuple[DecidedVocabulary, str]:
    """What becomes of the vocabulary for these documents, and why."""
    documents = _as_far_as(read(paths, recipe.corpus), READ_CHARACTERS)
    sample = sample_documents(documents, options.sample_characters, recipe.seed, recipe.corpus.minimum_words)
    extended, replaced = ExtendConfig(), ReplaceConfig()
    made: dict[str, Tokenizer] = {
        each.kind: make_tokenizer(each, base.tokenizer, sample.texts[::2], recipe.seed) for each in (extended, replaced)
    }
    report = report_fertility(_every_second(sample), base.name, base.tokenizer, made)
    saved = {gain.fertility.name: gain.saved for gain in report.gains}
    fertility = report.base.tokens_per_word
    measured = (
        f"the base's vocabulary takes {fertility or 0:.2f} tokens a word here; {extended.pieces:,} more pieces save "
        f"{saved['extend']:.0%} of the tokens, a vocabulary of these documents {saved['replace']:.0%}"
    )
    if fertility is not None and fertility >= MANY_TOKENS_A_WORD and saved["replace"] >= LEAST_SAVED:
        return replaced, f"{measured}: it is replaced"
    if saved["extend"] < LEAST_SAVED:
        return KeepConfig(), f"{measured}: too little, and it is kept"
    return extended, f"{measured}: it is extended"


def decide_growth(base: EncoderConfig, wanted: EncoderConfig) -> tuple[GrowthConfig, ...]:
    """The operators that make the base's shape the one wanted: what is smaller first, and then what is larger by ways
    that keep what the model computes."""
    narrower = any(getattr(wanted, name) < getattr(base, name) for name in SHAPE[1:])
    wider = any(getattr(wanted, name) > getattr(base, name) for name in SHAPE[1:])
    found: list[GrowthConfig] = []
    if wanted.layers < base.layers:
        found.append(ChooseLayersConfig())
    if narrower:
        found.append(SliceWidthConfig())
    if wider and not narrower:
        found.append(FPIConfig())
    if wanted.layers > base.layers:
        found.append(IdentityConfig())
    return tuple(found)


def wanted_shape(base: EncoderConfig, start: StartConfig) -> EncoderConfig:
    """The base's config with the sizes that the recipe wants; what it does not say follows the base's proportions, and
    which layers see a window the base's order."""
    width, layers = start.hidden_size or base.hidden_size, start.layers or base.layers
    return replace(
        base,
        layers=layers,
        windowed=tuple(base.windowed[number % base.layers] for number in range(layers)) if base.windowed else (),
        hidden_size=width,
        intermediate_size=start.intermediate_size or round(base.intermediate_size * width / base.hidden_size),
        heads=start.heads or max(1, width // base.head_size),
    )


def _every_second(sample: TextSample) -> TextSample:
    """The second, fourth, ... text; all, where there is only one."""
    texts = sample.texts[1::2] or sample.texts
    return replace(sample, texts=texts, characters=sum(map(len, texts)))


def _as_far_as(documents: Iterable[Document | Dropped], characters: int) -> Iterator[Document | Dropped]:
    for document in documents:
        yield document
        characters -= 0 if isinstance(document, Dropped) else len(document.text)
        if characters <= 0:
            return
