"""What a corpus's words cost under the base's vocabulary, and what another one would buy: measured, nothing written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from corpusmith.corpus.base import Dropped
from corpusmith.corpus.build import forbidden
from corpusmith.corpus.clean import kind_of
from corpusmith.corpus.store import describe_reasons
from corpusmith.model.arithmetic import best_device
from corpusmith.model.huggingface import load_checkpoint
from corpusmith.pipeline.plan import encoding_speed
from corpusmith.pipeline.settle import learner_for
from corpusmith.recipe import Recipe
from corpusmith.vocabulary.config import AutoConfig, ExtendConfig, ReplaceConfig
from corpusmith.vocabulary.decide import Decision, decide
from corpusmith.vocabulary.fertility import FertilityReport

TYPICAL_TOKENS = 128
"""Length of the sequences for which FLOPs per token are told."""


def survey_vocabulary(
    paths: Sequence[Path],
    recipe: Recipe,
    extend: ExtendConfig,
    replace: ReplaceConfig,
    say: Callable[[str], object] = lambda text: None,
) -> tuple[FertilityReport, Decision]:
    """The base's tokenizer on a sample of the documents, beside the base's extended and one learned from the sample;
    and what a build with `start = "auto"` would do. Both are of the same sample, learned on one half of the documents
    and measured on the other. `say` is told what of the documents read is left out.

    Raises:
        CorpusError: the documents hold no text, or one is left out and `corpus.strict` is set.
        ModelError: the base cannot be loaded.
    """
    checkpoint = load_checkpoint(recipe.model.base, allow_download=recipe.model.allow_download).to(best_device())
    asked = recipe.start.vocabulary
    options, counts = asked if isinstance(asked, AutoConfig) else AutoConfig(), Counter[str]()

    def count(dropped: Dropped) -> None:
        if recipe.corpus.strict:
            raise forbidden(dropped)
        counts[kind_of(dropped.reason)] += 1

    learner = learner_for(options, recipe, paths, checkpoint, count)
    if counts:
        say(f"{counts.total():,} document{'s' * (counts.total() > 1)} left out: {describe_reasons(counts)}.")
    more = learner.learn(extend).size - checkpoint.tokenizer.size
    name = "bytes" if replace.algorithm == "bytes" else f"{replace.algorithm} of these texts"
    report = learner.measure(
        {f"with {more:,} more pieces": extend, name: replace},
        encoding_speed(checkpoint, recipe.encoding.method),
        checkpoint.encoder.flops([TYPICAL_TOKENS]) / TYPICAL_TOKENS,
    )
    return report, decide(learner)
