"""What a start leaves open is decided here, before anything is built: the vocabulary and the operators of growth.

The vocabulary is decided on a sample of the documents (`vocabulary/decide.py`), operators by the two shapes. Whether
operators can make the shape wanted of the base's is found out here too, and not after an hour of encoding, also for
those that the recipe names. Decisions depend on the documents, the base and the recipe alone, and stand in the recipe
that a build leaves in its folder, with the reason.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from corpusmith.corpus.base import Document, Dropped
from corpusmith.corpus.read import read
from corpusmith.errors import ModelError, RecipeError
from corpusmith.growth.base import GrowthOperator
from corpusmith.growth.config import ChooseLayersConfig, FPIConfig, GrowthConfig, IdentityConfig, SliceWidthConfig
from corpusmith.growth.registry import build_operator
from corpusmith.model.checkpoint import Checkpoint
from corpusmith.model.config import EncoderConfig
from corpusmith.model.huggingface import load_checkpoint
from corpusmith.pipeline.extent import file_bytes
from corpusmith.recipe import Recipe, StartConfig
from corpusmith.vocabulary.config import AutoConfig, DecidedVocabulary
from corpusmith.vocabulary.decide import Decision, Learner, decide
from corpusmith.vocabulary.fertility import PassageLength
from corpusmith.vocabulary.sample import TextSample, sample_documents
from corpusmith.vocabulary.tokenizer import SPECIAL_TOKENS

SHAPE = ("layers", "hidden_size", "intermediate_size", "heads")
"""The options of a start that say which shape is wanted."""
READ_CHARACTERS = 20_000_000
"""How much of the documents is read for the sample; what a larger corpus has in all is estimated from its files."""


@dataclass(frozen=True, slots=True)
class Settled:
    """A recipe with nothing left open, and what decided its vocabulary; None where the recipe did."""

    recipe: Recipe
    decision: Decision | None = None


def settle(recipe: Recipe, paths: Sequence[Path]) -> Recipe:
    """The recipe with nothing left open in its start; the recipe itself where nothing is.

    Raises:
        CorpusmithError: the base cannot be loaded, the documents hold no text, or no operators make the shape wanted.
    """
    return settle_measured(recipe, paths).recipe


def settle_measured(recipe: Recipe, paths: Sequence[Path]) -> Settled:
    """As `settle`, with what was measured."""
    start, decision = recipe.start, None
    if not start.is_open and not start.changes_shape:
        return Settled(recipe)
    base = load_checkpoint(recipe.model.base, allow_download=recipe.model.allow_download)
    reasons = [start.reason] if start.reason else []
    if isinstance(start.vocabulary, AutoConfig):
        decision = decide(learner_for(start.vocabulary, recipe, paths, base))
        start = start.model_copy(update={"vocabulary": decision.options})
        reasons.append(decision.sentence)
    if start.changes_shape:
        source = base.encoder.config
        wanted = wanted_shape(source, start)
        chosen = start.growth == "auto"
        operators = decide_growth(source, wanted) if chosen else start.operators
        grown = shapes_on_the_way(operators, source, wanted)
        if chosen or not start.reason:
            reasons.append(_of_growth(operators, source, grown))
        sizes = {} if operators else dict.fromkeys(SHAPE)  # a size is only asked for where an operator makes it
        start = start.model_copy(update={"growth": operators} | sizes)
    elif start.growth == "auto":
        start = start.model_copy(update={"growth": ()})
    start = start.model_copy(update={"reason": "; ".join(reason for reason in reasons if reason)})
    return Settled(recipe.model_copy(update={"start": start}), decision)


def learner_for(
    options: AutoConfig,
    recipe: Recipe,
    paths: Sequence[Path],
    base: Checkpoint,
    dropped: Callable[[Dropped], object] = lambda _: None,
) -> Learner:
    """What learns and measures vocabularies on a sample of these documents; `dropped` is told of those left out.

    Raises:
        CorpusError: the documents hold no text.
    """
    limit = recipe.model.max_tokens or base.max_tokens
    return Learner(
        recipe.model.base,
        base.tokenizer,
        _sample(recipe, paths, options.sample_characters, dropped),
        recipe.seed,
        PassageLength(recipe.corpus.passage_words, limit - SPECIAL_TOKENS),
    )


def decide_vocabulary(
    options: AutoConfig, recipe: Recipe, paths: Sequence[Path], base: Checkpoint
) -> tuple[DecidedVocabulary, str]:
    """What becomes of the vocabulary for these documents, and why."""
    decision = decide(learner_for(options, recipe, paths, base))
    return decision.options, decision.sentence


def _sample(recipe: Recipe, paths: Sequence[Path], characters: int, dropped: Callable[[Dropped], object]) -> TextSample:
    """A sample of the documents; of a large corpus, of those that come first."""
    documents = _FirstDocuments(read(paths, recipe.corpus), READ_CHARACTERS)
    sample = sample_documents(documents, characters, recipe.seed, recipe.corpus, dropped)
    if not documents.cut or not paths:
        return sample
    a_character = sum(len(text.encode()) for text in sample.texts) / sample.characters
    in_all = file_bytes(paths, recipe.corpus) / a_character
    if recipe.corpus.maximum_documents is not None:
        in_all = min(in_all, recipe.corpus.maximum_documents * documents.characters / documents.number)
    kept = min(1.0, sample.total_characters / documents.characters)
    return replace(sample, total_characters=max(sample.total_characters, round(kept * in_all)))


class _FirstDocuments:
    """Documents until they have so many characters; `number` and `characters` count them, and `cut` says whether there
    are more."""

    def __init__(self, documents: Iterable[Document | Dropped], most: int) -> None:
        self._documents, self._most = documents, most
        self.number = self.characters = 0
        self.cut = False

    def __iter__(self) -> Iterator[Document | Dropped]:
        for document in self._documents:
            if self.characters >= self._most:
                self.cut = True
                return
            if isinstance(document, Document):
                self.number += 1
                self.characters += len(document.title) + len(document.text)
            yield document


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
    if wider:
        found.append(FPIConfig())
    if wanted.layers > base.layers:
        found.append(IdentityConfig())
    return tuple(found)


def shapes_on_the_way(
    operators: Sequence[GrowthConfig], source: EncoderConfig, wanted: EncoderConfig
) -> list[EncoderConfig]:
    """The shape that each operator makes, one after the other; the last one is the one wanted.

    Raises:
        RecipeError: an operator cannot make its part, has nothing to change, or the last one ends elsewhere.
    """
    shapes: list[EncoderConfig] = []
    for options in operators:
        operator = build_operator(options)
        try:
            target = operator.reaches(source, wanted)
            if target == source:
                raise RecipeError(
                    f"start.growth names {options.kind}, which has nothing to change there; leave it out."
                )
            operator.check(source, target)
        except ModelError as error:
            raise RecipeError(f"start.growth, {options.kind}: {error}") from error
        shapes.append(target)
        source = target
    missing = [name for name in SHAPE if getattr(source, name) != getattr(wanted, name)]
    if missing:
        raise RecipeError(
            f"start.growth ends with {missing[0]} = {getattr(source, missing[0])}, and {getattr(wanted, missing[0])} "
            "is wanted; add an operator that changes it."
        )
    return shapes


def _of_growth(operators: Sequence[GrowthConfig], source: EncoderConfig, shapes: Sequence[EncoderConfig]) -> str:
    """Which operators make the shape, and whether they keep what the model computes."""
    losing: list[str] = []
    for options, target in zip(operators, shapes, strict=True):
        operator = build_operator(options)
        if not operator.preserves_function(source, target):
            losing.append(f"{options.kind} does not keep what the model computes{_keeping(operator, source, target)}")
        source = target
    if not operators:
        return "the base has the shape wanted"
    made = f"the shape wanted is made by {' and '.join(options.kind for options in operators)}"
    keeping = f"which keep{'s' if len(operators) == 1 else ''} what the model computes"
    return f"{made}; {'; '.join(losing)}" if losing else f"{made}, {keeping}"


def _keeping(operator: GrowthOperator, source: EncoderConfig, target: EncoderConfig) -> str:
    """Which next larger hidden size the operator would keep the function with, where there is one."""
    width = _next_multiple(target.hidden_size, source.hidden_size)
    if target.hidden_size <= source.hidden_size:
        return ""
    larger = replace(target, hidden_size=width, heads=width // source.head_size)
    return f" (hidden_size = {width} would)" if operator.preserves_function(source, larger) else ""


def wanted_shape(base: EncoderConfig, start: StartConfig) -> EncoderConfig:
    """The base's config with the sizes that the recipe wants; what it does not say follows the base's proportions, and
    which layers see a window the base's order.

    Raises:
        RecipeError: the heads do not divide the hidden size.
    """
    width, layers = start.hidden_size or base.hidden_size, start.layers or base.layers
    usable = _usable_heads(base, width)
    heads = start.heads or min(usable, key=lambda number: abs(width / number - base.head_size), default=0)
    if not heads:
        raise RecipeError(
            f"start: a hidden size of {width} cannot be divided into heads that are made from {base.heads} of "
            f"{base.head_size}; choose a multiple of {base.head_size}, such as {_next_multiple(width, base.head_size)}."
        )
    if width % heads:
        near = " or ".join(str(number) for number in sorted(usable, key=lambda number: abs(number - heads))[:2])
        raise RecipeError(
            f"start: {heads} heads do not divide a hidden size of {width} evenly; "
            f"{f'set start.heads to {near}' if near else 'choose another number'}, or choose another hidden_size."
        )
    return replace(
        base,
        layers=layers,
        windowed=tuple(base.windowed[number % base.layers] for number in range(layers)) if base.windowed else (),
        hidden_size=width,
        intermediate_size=start.intermediate_size or round(base.intermediate_size * width / base.hidden_size),
        heads=heads,
    )


def _usable_heads(base: EncoderConfig, width: int) -> list[int]:
    """Numbers of heads that divide a hidden size: of a wider model no fewer and no smaller heads than the base's, of a
    narrower one no more and no larger ones."""
    dividing = [number for number in range(1, width + 1) if width % number == 0]
    if width < base.hidden_size:
        return [n for n in dividing if n <= base.heads and width // n <= base.head_size]
    return [n for n in dividing if n >= base.heads and width // n >= base.head_size]


def _next_multiple(number: int, of: int) -> int:
    """The least multiple that is no smaller than `number`."""
    return math.ceil(number / of) * of
