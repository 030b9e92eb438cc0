"""What holds for all objectives that restore damaged passages."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace

import numpy as np
import pytest
import torch

from corpusmith.corpus.shards import TokenShards
from corpusmith.errors import CorpusError
from corpusmith.model.encoder import Encoder
from corpusmith.model.heads import MaskedLanguageHead
from corpusmith.objective.config import (
    BagOfWordsConfig,
    CondenserConfig,
    CoTMAEConfig,
    DupMAEConfig,
    ElectraConfig,
    MaskedLanguageConfig,
    RetroMAEConfig,
    SeedEncoderConfig,
    SimLMConfig,
    TSDAEConfig,
)
from corpusmith.objective.registry import build_objective

CONFIGS = [
    BagOfWordsConfig(),
    CondenserConfig(),
    CoTMAEConfig(),
    DupMAEConfig(),
    ElectraConfig(),
    MaskedLanguageConfig(),
    RetroMAEConfig(),
    SeedEncoderConfig(),
    SimLMConfig(),
    TSDAEConfig(),
]
pytestmark = pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.kind)

EXAMPLES = [3, 1, 10, 8, 2]


@pytest.fixture
def make(config, tiny_checkpoint, tiny_data):
    def start(data=tiny_data, checkpoint=None, seed=0):
        return build_objective(config, data, checkpoint or tiny_checkpoint(), seed)

    return start


def tensors(inputs) -> list[torch.Tensor]:
    """All tensors inside a batch's inputs."""
    if isinstance(inputs, torch.Tensor):
        return [inputs]
    parts = inputs if isinstance(inputs, tuple) else []
    if is_dataclass(inputs):
        parts = [getattr(inputs, field.name) for field in fields(inputs)]
    return [tensor for part in parts for tensor in tensors(part)]


def texts(tiny_data, lengths: list[int], tokens: np.ndarray):
    """Training data of one document, with passages of these lengths."""
    shards = TokenShards(np.resize(tokens, sum(lengths)), np.cumsum([0, *lengths]))
    count = len(lengths)
    return replace(tiny_data, passages=shards, rows=np.arange(count), documents=np.zeros(count, dtype=np.int64))


def test_collating_is_deterministic_and_all_chance_comes_from_rng(make):
    objective = make()
    first, second, other = (tensors(objective.collate(EXAMPLES, np.random.default_rng(s)).inputs) for s in (9, 9, 8))
    assert all(torch.equal(one, two) for one, two in zip(first, second, strict=True))
    assert not all(torch.equal(one, two) for one, two in zip(first, other, strict=True))


def test_a_batch_collated_in_parts_has_the_loss_of_the_whole(make, tiny_checkpoint):
    objective, encoder = make(), tiny_checkpoint().encoder
    whole = objective.loss(encoder, objective.collate(EXAMPLES, np.random.default_rng(5)))
    rng = np.random.default_rng(5)
    parts = [objective.loss(encoder, objective.collate(part, rng)) for part in (EXAMPLES[:2], EXAMPLES[2:])]
    assert sum(part.weight for part in parts) == whole.weight
    for value, of_parts in [
        (whole.total.detach(), [part.total.detach() for part in parts]),
        *((whole.parts[name], [part.parts[name] for part in parts]) for name in whole.parts),
    ]:
        mean = sum(float(v) * part.weight for v, part in zip(of_parts, parts, strict=True)) / whole.weight
        assert mean == pytest.approx(float(value), rel=1e-5)


def test_the_loss_repeats_and_leaves_the_objective_as_it_is(make, tiny_checkpoint):
    objective, encoder = make(), tiny_checkpoint().encoder
    before = {name: tensor.clone() for name, tensor in objective.state_dict().items()}
    batch = objective.collate(EXAMPLES, np.random.default_rng(0))
    losses = [float(objective.loss(encoder, batch).total.detach()) for _ in range(2)]
    assert losses[0] == losses[1]
    assert all(torch.equal(tensor, before[name]) for name, tensor in objective.state_dict().items())


def test_lengths_are_what_a_batch_costs(make, tiny_data):
    for data in (tiny_data, texts(tiny_data, [1, 70, 3, 40], tiny_data.passages[0])):
        objective = make(data=data)
        for example, length in enumerate(objective.lengths()):
            assert objective.collate([example], np.random.default_rng(0)).tokens == length


def test_passages_of_one_token_and_longer_than_the_model_takes_can_be_trained_on(make, tiny_data, tiny_checkpoint):
    objective, encoder = make(data=texts(tiny_data, [1, 1, 70, 2], tiny_data.passages[0])), tiny_checkpoint().encoder
    count = len(objective.lengths())
    for examples in (*([example] for example in range(count)), range(count)):
        loss = objective.loss(encoder, objective.collate(examples, np.random.default_rng(0)))
        assert torch.isfinite(loss.total)
        assert loss.weight > 0


def test_unknown_words_alone_have_no_weight_and_no_loss(make, tiny_data, tiny_checkpoint, tiny_tokenizer):
    unknown = np.array([tiny_tokenizer.unk], dtype=np.uint16)
    objective, encoder = make(data=texts(tiny_data, [5, 6], unknown)), tiny_checkpoint().encoder
    loss = objective.loss(encoder, objective.collate([0], np.random.default_rng(0)))
    loss.total.backward()
    assert (loss.weight, float(loss.total.detach())) == (0, 0)
    assert all(p.grad is None or not p.grad.any() for p in encoder.parameters())


def test_nothing_to_train_on_is_one_clear_sentence(make, tiny_data):
    for data in (replace(tiny_data, rows=np.array([], dtype=np.int64)), texts(tiny_data, [0, 0], np.ones(1))):
        with pytest.raises(CorpusError, match=r"there is no passage .*add documents"):
            make(data=data)


def test_every_weight_learns(make, tiny_checkpoint):
    objective, encoder = make(), tiny_checkpoint().encoder
    objective.loss(encoder, objective.collate(range(12), np.random.default_rng(0))).total.backward()
    still = [name for name, p in objective.named_parameters() if p.grad is None or not p.grad.any()]
    still += [name for name, p in encoder.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []


def test_parts_and_head_are_kept_and_training_goes_on_from_them(make, tiny_checkpoint):
    one, other, encoder = make(seed=1), make(seed=2), tiny_checkpoint().encoder
    batch = one.collate(EXAMPLES, np.random.default_rng(0))
    assert one.parts() or one.head_tensors()
    assert not any(name.startswith("head.") for name in one.parts())
    assert not torch.equal(one.loss(encoder, batch).total, other.loss(encoder, batch).total)
    other.continue_from(one.parts())
    if one.head_tensors():
        other.head.load_state_dict(one.head_tensors())
    assert torch.equal(one.loss(encoder, batch).total, other.loss(encoder, batch).total)


def test_what_is_fresh_is_all_but_the_checkpoints_own_head(make, tiny_checkpoint):
    head = MaskedLanguageHead(tiny_checkpoint().encoder.config)
    for objective in (make(), make(checkpoint=tiny_checkpoint(head=head))):
        pretrained = {id(p) for p in head.parameters()} & {id(p) for p in objective.parameters()}
        fresh = {id(p) for p in objective.fresh_parameters()}
        assert fresh == {id(p) for p in objective.parameters()} - pretrained


def test_bf16_gives_nearly_the_same_loss(make, tiny_checkpoint):
    objective, encoder = make(), tiny_checkpoint().encoder
    batch = objective.collate(range(12), np.random.default_rng(0))
    exact = float(objective.loss(encoder, batch).total.detach())
    encoder.compute_dtype = torch.bfloat16
    assert float(objective.loss(encoder, batch).total.detach()) == pytest.approx(exact, rel=0.02)


def test_an_encoder_with_rotary_positions_is_trained_as_well(make, tiny_checkpoint):
    plain = tiny_checkpoint().encoder.config
    config = replace(
        plain, model_type="modernbert", rotary=True, norm_first=True, gated=True, type_vocabulary_size=1,
        local_window=4, windowed=(False, True),
    )  # fmt: skip
    checkpoint = tiny_checkpoint(encoder=Encoder(config))
    objective = make(checkpoint=checkpoint)
    objective.loss(checkpoint.encoder, objective.collate(range(4), np.random.default_rng(0))).total.backward()
    assert all(layer.attention.qkv.weight.grad.abs().sum() > 0 for layer in checkpoint.encoder.layers)
