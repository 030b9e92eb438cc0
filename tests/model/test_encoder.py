"""The packed encoder against `transformers`: the same numbers, the same gradients, from the same weights."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from corpusmith.model.config import EncoderConfig
from corpusmith.model.encoder import Encoder
from corpusmith.model.huggingface import load_checkpoint
from corpusmith.model.packed import pack
from corpusmith.model.weights import encoder_sources, head_sources

LENGTHS = [
    [1],
    [40],
    [1, 2, 3, 40, 40, 7],
    [12, 12, 12],
    [5, 40, 6, 1, 39, 6, 5, 17, 17, 18, 19, 20, 20, 33],
]


@pytest.mark.parametrize("kind", ["bert", "minilm", "roberta", "xlm-roberta", "modernbert"])
def test_states_logits_and_gradients_equal_those_of_transformers(kind: str, tmp_path: Path, reference: Any) -> None:
    theirs = reference.masked_language_model(kind)
    ours = load_checkpoint(reference.save(theirs, tmp_path))
    assert ours.head is not None
    config = ours.encoder.config
    for lengths in LENGTHS:
        batch = reference.sequences(lengths)
        ids, mask = reference.padded(batch, pad=1 if "roberta" in kind else 0)
        expected = theirs(input_ids=ids, attention_mask=mask).logits[mask.bool()]
        logits = ours.head(ours.encoder(pack(batch)), ours.encoder.token_embedding.weight)
        torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)

        targets = torch.arange(len(logits)) % config.vocabulary_size
        theirs.zero_grad()
        torch.nn.functional.cross_entropy(expected, targets).backward()
        ours.encoder.zero_grad()
        ours.head.zero_grad()
        torch.nn.functional.cross_entropy(logits, targets).backward()
        prefix = "model." if kind == "modernbert" else "roberta." if "roberta" in kind else "bert."
        gradients = {name: parameter.grad for name, parameter in theirs.named_parameters(remove_duplicate=False)}
        for module, sources in ((ours.encoder, encoder_sources(config, prefix)), (ours.head, head_sources(config))):
            for name, parameter in module.named_parameters():
                wanted = torch.cat([gradients[source] for source in sources[name]])
                torch.testing.assert_close(parameter.grad, wanted, atol=1e-4, rtol=1e-3, msg=partial(_named, name))


def _named(name: str, message: str) -> str:
    return f"gradient of {name}: {message}"


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=24))
def test_a_sequence_gets_the_same_states_alone_and_in_any_company(reference: Any, lengths: list[int]) -> None:
    encoder = tiny_encoder()
    batch = reference.sequences(lengths)
    with torch.no_grad():
        together = encoder(pack(batch))
        alone = torch.cat([encoder(pack([sequence])) for sequence in batch])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


def test_too_long_a_sequence_is_refused(reference: Any) -> None:
    with pytest.raises(ValueError, match="a sequence of 41 tokens; this model takes 40"):
        tiny_encoder()(pack(reference.sequences([41])))


def test_bf16_training_keeps_float32_masters_and_close_gradients(reference: Any) -> None:
    batch = pack(reference.sequences([9, 30, 31, 4]))
    encoder = tiny_encoder()
    direction = torch.linspace(-1, 1, 32)
    (encoder(batch) @ direction).square().mean().backward()
    exact = encoder.layers[0].mlp.up.weight.grad.clone()
    encoder.zero_grad()
    encoder.compute_dtype = torch.bfloat16
    hidden = encoder(batch)
    assert hidden.dtype == torch.bfloat16
    (hidden.float() @ direction).square().mean().backward()
    gradient = encoder.layers[0].mlp.up.weight.grad
    assert gradient.dtype == torch.float32
    assert {parameter.dtype for parameter in encoder.parameters()} == {torch.float32}
    assert torch.cosine_similarity(gradient.flatten(), exact.flatten(), dim=0) > 0.99


def test_inference_copy_does_not_follow_training(reference: Any) -> None:
    encoder = tiny_encoder()
    batch = pack(reference.sequences([5, 8]))
    copy = encoder.for_inference(torch.float32)
    before = copy(batch)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(1.0)
    torch.testing.assert_close(copy(batch), before)
    assert not any(parameter.requires_grad for parameter in copy.parameters())
    assert all(parameter.requires_grad for parameter in encoder.parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_inference_copy_computes_what_the_encoder_computes(dtype: torch.dtype, reference: Any) -> None:
    encoder = tiny_encoder()
    batch = pack(reference.sequences([5, 8, 8, 31]))
    encoder.compute_dtype = dtype
    with torch.no_grad():
        expected = encoder(batch)
    torch.testing.assert_close(encoder.for_inference(dtype)(batch), expected)


def test_fresh_weights_follow_the_generator_and_the_initializer_range() -> None:
    first = Encoder(tiny_config(), torch.Generator().manual_seed(3))
    second = Encoder(tiny_config(), torch.Generator().manual_seed(3))
    other = Encoder(tiny_config(), torch.Generator().manual_seed(4))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert not torch.equal(first.token_embedding.weight, other.token_embedding.weight)
    assert first.token_embedding.weight.std().item() == pytest.approx(0.02, rel=0.1)


def test_flops_are_those_of_the_matrix_products() -> None:
    config = tiny_config()
    size, inner, layers = config.hidden_size, config.intermediate_size, config.layers
    linear = layers * (4 * size * size + 2 * size * inner)
    assert Encoder(config).flops([10, 3]) == 2 * 13 * linear + 4 * size * layers * (10**2 + 3**2)


def test_windowed_layers_cost_their_window_only(reference: Any) -> None:
    shape = reference.configs["modernbert"].to_dict()
    config = EncoderConfig.from_hugging_face(shape)
    wide = EncoderConfig.from_hugging_face(shape | {"layer_types": ["full_attention"] * config.layers})
    saved = Encoder(wide).flops([40]) - Encoder(config).flops([40])
    assert saved == 4 * config.hidden_size * sum(config.windowed) * (40 * 40 - 40 * 11)


def tiny_config() -> EncoderConfig:
    return EncoderConfig(
        model_type="bert",
        vocabulary_size=97,
        hidden_size=32,
        layers=2,
        heads=4,
        intermediate_size=48,
        max_positions=40,
    )


def tiny_encoder() -> Encoder:
    return Encoder(tiny_config())


def test_states_of_any_layer_are_those_of_an_encoder_that_ends_there(reference: Any) -> None:
    batch = pack(reference.sequences([9, 3, 30]))
    encoder = tiny_encoder()
    with torch.no_grad():
        states = encoder.hidden_states(batch, (2, 0, 1))
        torch.testing.assert_close(states[0], encoder(batch), rtol=0, atol=0)
        embedded = encoder.embeddings(batch.ids, batch.positions)
        torch.testing.assert_close(states[1], embedded, rtol=0, atol=1e-6)
        del encoder.layers[1:]
        encoder.config = replace(encoder.config, layers=1)
        torch.testing.assert_close(states[2], encoder(batch), rtol=0, atol=1e-6)


def test_dropout_acts_in_training_alone_and_follows_the_seed(reference: Any) -> None:
    batch, encoder = pack(reference.sequences([9, 3, 30])), tiny_encoder()
    whole = encoder.eval()(batch)
    encoder.dropout = 0.1
    torch.testing.assert_close(encoder(batch), whole, rtol=0, atol=0)
    encoder.train()
    dropped = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        dropped.append(encoder(batch))
    assert torch.equal(dropped[0], dropped[1])
    assert not torch.allclose(dropped[0], dropped[2])
    encoder.dropout = 0.0
    torch.testing.assert_close(encoder(batch), whole, rtol=0, atol=0)
