from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from corpusmith.errors import CorpusError, ModelError
from corpusmith.model.encoder import Encoder
from corpusmith.model.packed import pack
from corpusmith.objective.config import MaskedLanguageConfig, Matryoshka2dConfig, RetroMAEConfig
from corpusmith.objective.matryoshka_2d import Matryoshka2d
from corpusmith.objective.registry import build_objective
from corpusmith.training.budget import BudgetConfig
from corpusmith.training.config import TrainingConfig
from corpusmith.training.loop import train


@pytest.fixture
def build(tiny_checkpoint, tiny_data):
    def make(config: Matryoshka2dConfig, data=tiny_data, layers=2, **changes) -> tuple[Matryoshka2d, object]:
        plain = tiny_checkpoint().encoder.config
        encoder = Encoder(replace(plain, layers=layers, **changes), torch.Generator().manual_seed(7))
        checkpoint = tiny_checkpoint(encoder=encoder)
        return build_objective(config, data, checkpoint, seed=0), checkpoint

    return make


def texts_of(packed) -> list[np.ndarray]:
    return [packed.ids[a:b].numpy() for a, b in pairwise(packed.cu_seqlens.tolist())]


def states_after(encoder: Encoder, text: np.ndarray, layers: int) -> torch.Tensor:
    """By an encoder of so many layers that has the other one's weights."""
    windowed = encoder.config.windowed[:layers]
    small = Encoder(replace(encoder.config, layers=layers, windowed=windowed))
    for ours, theirs in ((small.embeddings, encoder.embeddings), (small.final_norm, encoder.final_norm)):
        ours.__dict__.update(theirs.__dict__)
    for number in range(layers):
        small.layers[number] = encoder.layers[number]
    return small(pack([text]))


def plain_info_nce(vectors: torch.Tensor, excluded: torch.Tensor) -> torch.Tensor:
    size, losses = len(excluded), []
    vectors = torch.stack([vector / vector.norm() for vector in vectors])
    for query in range(size):
        scores = vectors[size:] @ vectors[query] / 0.05
        losses.append(-scores[query] + scores[~excluded[query]].logsumexp(dim=0))
    return torch.stack(losses).mean()


MODERN = {
    "model_type": "modernbert",
    "rotary": True,
    "norm_first": True,
    "gated": True,
    "type_vocabulary_size": 0,
    "local_window": 2,
    "windowed": (False, True, True),
}


@pytest.mark.parametrize("changes", [{}, MODERN], ids=["norms behind", "norms first"])
def test_loss_and_gradients_are_those_of_four_plain_models_and_the_alignment(build, changes):
    config = Matryoshka2dConfig(dimensions=(12,), alignment=0.7, alignment_temperature=0.2)
    objective, checkpoint = build(config, layers=3, **changes)
    encoder = checkpoint.encoder
    batch = objective.collate(range(5), np.random.default_rng(1))
    loss = objective.loss(encoder, batch)
    loss.total.backward()
    found = {name: parameter.grad.clone() for name, parameter in encoder.named_parameters()}
    encoder.zero_grad()
    inputs, drawn = batch.inputs.inner, batch.inputs.layers
    assert 1 <= drawn < 3
    texts = texts_of(inputs.pieces[0])
    last, lower = (torch.stack([states_after(encoder, t, n).mean(dim=0) for t in texts]) for n in (3, drawn))
    losses = [plain_info_nce(vectors, inputs.excluded) for vectors in (last, last[:, :12], lower, lower[:, :12])]
    wanted = (last.detach() / 0.2).softmax(dim=1)
    aligned = (wanted * (wanted.log() - (lower / 0.2).log_softmax(dim=1))).sum(dim=1).mean()
    expected = sum(losses) + 0.7 * aligned
    expected.backward()
    assert float(loss.total.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    assert loss.parts["alignment"] == pytest.approx(float(aligned.detach()), rel=1e-4, abs=1e-7)
    assert loss.parts["shallow_and_narrow"] == pytest.approx(float(losses[3].detach()), rel=1e-5)
    for name, parameter in encoder.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, atol=1e-5, rtol=1e-3)


def test_every_layer_below_the_last_and_every_width_is_drawn_evenly(build):
    objective, _ = build(Matryoshka2dConfig(dimensions=(4, 8, 16)), layers=4)
    inputs = [objective.collate([0], np.random.default_rng([3, step])).inputs for step in range(300)]
    layers, dimensions = (np.array([getattr(i, name) for i in inputs]) for name in ("layers", "dimension"))
    assert set(np.unique(layers)) == {1, 2, 3}
    assert set(np.unique(dimensions)) == {4, 8, 16}
    assert min(np.bincount(layers)[1:].min(), *(np.sum(dimensions == d) for d in (4, 8, 16))) > 70


def test_all_parts_of_a_batch_have_the_same_size_and_equal_the_whole(build):
    objective, checkpoint = build(Matryoshka2dConfig(objective=MaskedLanguageConfig(), alignment=0), layers=4)
    examples = [3, 1, 15, 8, 20]
    for seed in range(5):
        whole = objective.collate(examples, np.random.default_rng([seed, 7]))
        again = objective.collate(examples, np.random.default_rng([seed, 7]))
        assert torch.equal(whole.inputs.inner.packed.ids, again.inputs.inner.packed.ids)
        rng = np.random.default_rng([seed, 7])
        parts = [objective.collate(part, rng) for part in (examples[:2], examples[2:])]
        for part in (again, *parts):
            assert (part.inputs.layers, part.inputs.dimension) == (whole.inputs.layers, whole.inputs.dimension)
        ids = torch.cat([part.inputs.inner.packed.ids for part in parts])
        assert torch.equal(ids, whole.inputs.inner.packed.ids)
    assert objective.divisible
    losses = [objective.loss(checkpoint.encoder, part) for part in (whole, *parts)]
    assert losses[0].weight == sum(loss.weight for loss in losses[1:])
    for name in ("whole", "narrow", "shallow", "shallow_and_narrow"):
        joined = sum(loss.parts[name] * loss.weight for loss in losses[1:]) / losses[0].weight
        assert joined == pytest.approx(losses[0].parts[name], rel=1e-5)


def test_with_an_alignment_which_is_a_mean_over_texts_no_batch_is_cut(build):
    assert not build(Matryoshka2dConfig(objective=MaskedLanguageConfig()))[0].divisible


def test_the_encoder_runs_once_and_the_decoder_four_times(build):
    objective, checkpoint = build(Matryoshka2dConfig(objective=RetroMAEConfig()))
    runs, decoded = [], []
    checkpoint.encoder.layers[0].register_forward_hook(lambda *_: runs.append(1))
    objective.inner.decoder.register_forward_hook(lambda *_: decoded.append(1))
    batch = objective.collate(range(4), np.random.default_rng(0))
    objective.loss(checkpoint.encoder, batch)
    assert (len(runs), len(decoded)) == (1, 4)
    run = 3 * checkpoint.encoder.flops(batch.lengths.tolist())
    plain = replace(batch, inputs=batch.inputs.inner)
    beside = objective.inner.flops(checkpoint.encoder, plain) - run
    assert objective.flops(checkpoint.encoder, batch) == pytest.approx(run + 4 * beside)


def test_the_alignment_moves_the_lower_layer_and_not_the_last(build):
    objective, checkpoint = build(Matryoshka2dConfig(), layers=2)
    encoder = checkpoint.encoder
    batch = objective.collate(range(4), np.random.default_rng(0))
    with_it = objective.loss(encoder, batch).total
    objective.config = objective.config.model_copy(update={"alignment": 0.0})
    without = objective.loss(encoder, batch)
    assert "alignment" not in without.parts
    difference = with_it - without.total
    upper, lower = (layer.mlp.up.weight for layer in reversed(encoder.layers))
    gradients = torch.autograd.grad(difference, [upper, lower])
    assert gradients[0].abs().max() < 1e-5 < gradients[1].abs().max()


def test_after_training_few_layers_and_dimensions_do_nearly_what_all_do(build, tmp_path):
    from benchmarks.claims.mechanics.matryoshka_2d import check

    objective, checkpoint = build(Matryoshka2dConfig(dimensions=(4, 8)))
    records = []
    settings = TrainingConfig(learning_rate=3e-3, batch_tokens=1000, evaluations=0, max_epochs=100)
    train(checkpoint.encoder, objective, settings, BudgetConfig(tokens=15_000), tmp_path, 0, report=records.append)
    for name in ("whole", "narrow", "shallow", "shallow_and_narrow"):
        assert np.mean([r.parts[name] for r in records[-3:]]) < 0.7 * np.mean([r.parts[name] for r in records[:3]])
    found = check(objective, checkpoint.encoder, np.random.default_rng(0))
    assert found["holds"]
    assert found["shallow_and_narrow"] < 1


def test_one_pair_and_passages_of_one_token_are_taken(build):
    objective, checkpoint = build(Matryoshka2dConfig())
    assert torch.isfinite(objective.loss(checkpoint.encoder, objective.collate([0], np.random.default_rng(0))).total)
    objective, checkpoint = build(Matryoshka2dConfig(objective=RetroMAEConfig()))
    objective.inner.max_tokens = 3
    batch = objective.collate([0, 1], np.random.default_rng(0))
    assert batch.lengths.tolist() == [3, 3]
    assert torch.isfinite(objective.loss(checkpoint.encoder, batch).total)


def test_models_without_a_lower_layer_and_widths_that_are_not_below_the_whole_are_refused(build, tiny_data):
    with pytest.raises(ModelError, match="1 layers"):
        build(Matryoshka2dConfig(), layers=1)
    with pytest.raises(ModelError, match=r"asked for are \[32, 8\]"):
        build(Matryoshka2dConfig(dimensions=(32, 8)))
    with pytest.raises(CorpusError, match="pairs"):
        build(Matryoshka2dConfig(), replace(tiny_data, pairs=None))


@pytest.mark.parametrize(
    "wrong", [{"dimensions": (0,)}, {"alignment": -1}, {"alignment_temperature": 0}, {"objective": {"kind": "sum"}}]
)
def test_options_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match="validation error"):
        Matryoshka2dConfig.model_validate(wrong)
