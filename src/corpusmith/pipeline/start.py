"""What training begins with: the base over another vocabulary, and then in another shape, where the recipe says so."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from corpusmith.artefact import Draft
from corpusmith.growth.base import GrowthInput, GrowthOperator, grown_checkpoint
from corpusmith.growth.registry import build_operator
from corpusmith.model.arithmetic import best_device, fastest_precision
from corpusmith.model.checkpoint import Checkpoint
from corpusmith.model.encoder import Encoder
from corpusmith.model.heads import MaskedLanguageHead
from corpusmith.model.huggingface import export_checkpoint
from corpusmith.objective.base import Batch
from corpusmith.objective.config import MaskedLanguageConfig
from corpusmith.objective.masked_language import MaskedLanguage
from corpusmith.pipeline.settle import SHAPE, shapes_on_the_way, wanted_shape
from corpusmith.pipeline.train import training_data
from corpusmith.pipeline.workspace import Workspace
from corpusmith.recipe import Recipe, StartConfig
from corpusmith.training.batches import batches_from
from corpusmith.training.loop import computing_in
from corpusmith.vocabulary.carry import carry
from corpusmith.vocabulary.config import ExtendConfig, ReplaceConfig
from corpusmith.vocabulary.fertility import report_fertility
from corpusmith.vocabulary.make import make_tokenizer
from corpusmith.vocabulary.sample import sample_corpus
from corpusmith.vocabulary.transfer.registry import build_transfer


def make_vocabulary(work: Workspace, draft: Draft) -> None:
    """The base over another vocabulary; what that does to the corpus's words goes into the manifest."""
    options, base, seed = work.recipe.start.vocabulary, work.checkpoint_of(""), work.recipe.start_seed
    assert isinstance(options, ExtendConfig | ReplaceConfig)
    sample = sample_corpus(work.corpus, options.sample_characters, seed)
    tokenizer = make_tokenizer(options, base.tokenizer, sample.texts, seed)
    transfer = build_transfer(work.recipe.start.transfer)
    carried = carry(base, tokenizer, transfer, sample.texts, np.random.default_rng([seed, 0x7C]))
    draft.cost["flops"] = transfer.flops
    if sample.characters < sample.total_characters:  # in the very texts that it was learned from it would save more
        sample = sample_corpus(work.corpus, options.sample_characters, seed + 1)
    report = report_fertility(sample, base.name, base.tokenizer, {options.kind: tokenizer})
    saved = report.gains[0].saved
    draft.facts.update(entries=tokenizer.size, tokens_saved=saved, fertility=report.to_json())
    does = f"save {saved:.1%} of the corpus's tokens" if saved >= 0 else f"need {-saved:.1%} more tokens for the corpus"
    work.watcher.say(f"  {tokenizer.size:,} entries {does}")
    _export(carried, draft)


def make_growth(work: Workspace, draft: Draft) -> None:
    """The model in the shape wanted, operator by operator; learned ones spend FLOPs, which are counted."""
    start, seed = work.recipe.start, work.recipe.start_seed
    checkpoint = work.checkpoint_of("vocabulary" if start.changes_vocabulary else "")
    wanted = wanted_shape(checkpoint.encoder.config, start)
    flops = 0.0
    shapes = shapes_on_the_way(start.operators, checkpoint.encoder.config, wanted)
    for number, (options, target) in enumerate(zip(start.operators, shapes, strict=True)):
        operator, config, loss = build_operator(options), checkpoint.encoder.config, None
        if operator.steps:
            checkpoint, loss = _with_loss(work, checkpoint, operator)
        generator = torch.Generator().manual_seed(seed + number)
        checkpoint = grown_checkpoint(operator, GrowthInput(checkpoint, target, generator, loss))
        flops += operator.flops(config, target) + (loss.flops if loss else 0.0)
    draft.cost["flops"] = flops
    draft.facts.update(
        {name: getattr(checkpoint.encoder.config, name) for name in SHAPE},
        parameters=checkpoint.encoder.parameter_count(),
    )
    _export(checkpoint, draft)


def encoder_to_train(work: Workspace) -> Encoder:
    """An encoder of about the size that training begins with, without memory of its own: a vocabulary learned from a
    small corpus can turn out smaller than was asked for."""
    start, config = work.recipe.start, work.whole_base.encoder.config
    entries = start.vocabulary.entries(config.vocabulary_size)
    with torch.device("meta"):
        return Encoder(replace(wanted_shape(config, start), vocabulary_size=entries))


def learning_tokens(start: StartConfig) -> int:
    """How many tokens the operators learn from."""
    operators = [build_operator(options) for options in start.operators]
    return sum(operator.steps * operator.batch_tokens for operator in operators)


def transfer_tokens(recipe: Recipe) -> int:
    """How many tokens the transfer of embeddings learns from."""
    start = recipe.start
    return build_transfer(start.transfer).learning_tokens if start.changes_vocabulary else 0


def learning_batch(start: StartConfig) -> int:
    """Tokens of the largest batch that an operator learns from."""
    return max((build_operator(options).batch_tokens for options in start.operators), default=0)


class _CorpusLoss:
    """The masked-language loss on batches of the corpus, for operators that are learned; counts what it spends."""

    def __init__(self, objective: MaskedLanguage, operator: GrowthOperator, seed: int) -> None:
        self.objective, self.seed, self.flops = objective, seed, 0.0
        self.precision = fastest_precision(best_device())
        batches = batches_from(objective.lengths(), operator.batch_tokens, seed)
        self._examples = [next(batches) for _ in range(operator.steps)]

    def __call__(self, encoder: Encoder, head: MaskedLanguageHead | None, step: int) -> torch.Tensor:
        """The loss of this encoder and this head on the batch of this step."""
        batch = self._batch(step)
        self.flops += self.objective.flops(encoder, batch)
        assert head is not None, "grown from the head that `_with_loss` gave"
        self.objective.head = head
        with computing_in(encoder, self.precision):
            return self.objective.loss(encoder, batch).total

    def _batch(self, step: int) -> Batch:
        return self.objective.collate(self._examples[step], np.random.default_rng([self.seed, step]))


def _with_loss(work: Workspace, checkpoint: Checkpoint, operator: GrowthOperator) -> tuple[Checkpoint, _CorpusLoss]:
    """The loss for an operator, and the checkpoint with the masked-language head that grows beside it."""
    seed = work.recipe.start_seed
    objective = MaskedLanguage(MaskedLanguageConfig(), training_data(work), checkpoint, seed)
    return replace(checkpoint, head=objective.head), _CorpusLoss(objective, operator, seed)


def _export(checkpoint: Checkpoint, draft: Draft) -> None:
    model = draft.folder / "model"
    model.mkdir()
    export_checkpoint(checkpoint, model, with_head=checkpoint.head is not None)
