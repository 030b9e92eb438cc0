"""One model of several: their weights averaged.

    uniform soup    theta = mean of theta_1 ... theta_n
    greedy soup     the best one by a score on data held out; then, from the second best on, each one is taken into the
                    mean if the mean scores at least as well with it as without

Several models that were trained from one start with other options (seeds, learning rates, objectives, data) often lie
in one basin of the loss, and their mean is as good as the best of them or better, at the cost of one. The greedy soup
scores at least as well as the best model alone, on what it is chosen by. Models of different starts lie in different
basins, and their mean is worth nothing; `align.py` puts the units of one in the order of the other's first.

A masked-language head is averaged where all models have one. What objectives keep beside their models is left behind.

Where we depart from the paper or it is silent:
- The paper's models are fine-tuned ones with the same head. Here they are encoders, before or after fine-tuning.
- Whether models come from one start cannot be told from their weights, and is not checked.

Example:
    >>> soup, taken = greedy_soup(checkpoints, score=lambda checkpoint: validator(checkpoint.encoder))

Citation: Wortsman, Ilharco, Gadre and others (2022), "Model soups: averaging weights of multiple fine-tuned models
improves accuracy without increasing inference time", ICML, section 2, recipe 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, replace

import torch

from corpusmith.errors import ModelError
from corpusmith.growth.weights import Weights, model_of, weights_of
from corpusmith.model.checkpoint import Checkpoint
from corpusmith.model.config import EncoderConfig

Score = Callable[[Checkpoint], float]
"""How good a model is, on data held out; higher is better."""


def uniform_soup(checkpoints: Sequence[Checkpoint]) -> Checkpoint:
    """The mean of all these models.

    Raises:
        ModelError: there is none, or they have different shapes, tokenizers or vectors.
    """
    return weighted_mean(checkpoints, [1 / max(1, len(checkpoints))] * len(checkpoints))


def greedy_soup(checkpoints: Sequence[Checkpoint], score: Score) -> tuple[Checkpoint, list[int]]:
    """The greedy soup of these models, and the numbers of those that it is made of, the best one first.

    Raises:
        ModelError: there is none, or they have different shapes, tokenizers or vectors.
    """
    check_alike(checkpoints)
    scores = [score(checkpoint) for checkpoint in checkpoints]
    best, *others = sorted(range(len(checkpoints)), key=lambda number: -scores[number])
    soup, reached, taken = checkpoints[best], scores[best], [best]
    for number in others:
        tried = uniform_soup([checkpoints[i] for i in (*taken, number)])
        if (found := score(tried)) >= reached:
            soup, reached, taken = tried, found, [*taken, number]
    return (soup if len(taken) > 1 else uniform_soup([soup])), taken


def interpolated(first: Checkpoint, second: Checkpoint, share: float) -> Checkpoint:
    """The model that lies on the line from `first` (share 0) to `second` (share 1).

    Raises:
        ModelError: they have different shapes, tokenizers or vectors.
    """
    return weighted_mean([first, second], [1 - share, share])


def midpoint_barrier(first: Checkpoint, second: Checkpoint, loss: Score) -> float:
    """How much higher the loss is half way between two models than it is on average at both ends."""
    return loss(interpolated(first, second, 0.5)) - (loss(first) + loss(second)) / 2


def weighted_mean(checkpoints: Sequence[Checkpoint], shares: Sequence[float]) -> Checkpoint:
    """The mean of these models with these weights, as a new one; what is no weight is the first one's.

    Raises:
        ModelError: there is none, or they have different shapes, tokenizers or vectors.
    """
    check_alike(checkpoints)
    all_weights = [weights_of(checkpoint.encoder, checkpoint.head) for checkpoint in checkpoints]
    mean: Weights = {}
    for name in (name for name in all_weights[0] if all(name in weights for weights in all_weights)):
        stacked = torch.stack([weights[name].float() for weights in all_weights])
        mean[name] = torch.tensordot(torch.tensor(shares, device=stacked.device), stacked, dims=1)
    encoder, head = model_of(checkpoints[0].encoder.config, mean)
    names = [checkpoint.name for checkpoint in checkpoints]
    return replace(
        checkpoints[0],
        encoder=encoder,
        head=head,
        name=f"mean of {', '.join(names)}" if len(names) > 1 else names[0],
        parts={},
    )


def check_alike(checkpoints: Sequence[Checkpoint]) -> None:
    """Raise ModelError if there is no model, or if their weights do not mean the same."""
    if not checkpoints:
        raise ModelError("there is no model to average.")
    first, *others = checkpoints
    for other in others:
        ours = first.encoder.config
        theirs = replace(other.encoder.config, initializer_range=ours.initializer_range)
        if theirs != ours:
            raise ModelError(
                f"{first.name} and {other.name} have different shapes ({_difference(ours, theirs)}), and only weights "
                "of one shape can be averaged."
            )
        if first.tokenizer.fingerprint != other.tokenizer.fingerprint:
            raise ModelError(
                f"{first.name} and {other.name} have different tokenizers, so that rows of their token embeddings "
                "stand for different words; only models of one start can be averaged."
            )
        if _use(first) != _use(other):
            raise ModelError(
                f"{first.name} and {other.name} make their vectors differently ({_use(first)}; {_use(other)}); only "
                "models of one start can be averaged."
            )
        if first.prompts != other.prompts:
            raise ModelError(
                f"{first.name} and {other.name} put different prompts before texts ({first.prompts}; {other.prompts}), "
                "and their mean can have those of one alone; make them the same in config_sentence_transformers.json."
            )


def _use(checkpoint: Checkpoint) -> str:
    """How a model makes its vectors, in a few words."""
    scaled = "scaled" if checkpoint.normalize else "not scaled"
    return f"{checkpoint.pooling} pooling, {checkpoint.dimension} dimensions, {scaled}"


def _difference(ours: EncoderConfig, theirs: EncoderConfig) -> str:
    """Wherein two shapes differ, in a few words."""
    if (ours.layers, ours.hidden_size) != (theirs.layers, theirs.hidden_size):
        return f"L{ours.layers}-H{ours.hidden_size}, L{theirs.layers}-H{theirs.hidden_size}"
    name = next(field.name for field in fields(ours) if getattr(ours, field.name) != getattr(theirs, field.name))
    return f"{name} {getattr(ours, name)}, {getattr(theirs, name)}"
