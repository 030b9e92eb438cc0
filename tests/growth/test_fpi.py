from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tests.growth.examples import ODD, WIDE, operator, shape
from torch.nn import functional as F

from corpusmith.growth.base import GrowthInput, grown_checkpoint
from corpusmith.model.huggingface import export_checkpoint
from corpusmith.model.packed import pack
from corpusmith.model.pooling import pool


def grow(source: Any, target: Any, **options: Any) -> Any:
    return grown_checkpoint(operator("fpi", **options), GrowthInput(source, target, torch.Generator().manual_seed(1)))


def trained(checkpoint: Any, loss: Any, steps: int = 5) -> Any:
    parameters = [*checkpoint.encoder.parameters(), *checkpoint.head.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=1e-3)
    for step in range(steps):
        loss(checkpoint.encoder, checkpoint.head, step).backward()
        optimiser.step()
        optimiser.zero_grad()
    return checkpoint


@pytest.mark.parametrize("family", ["bert", "roberta", "modernbert"])
def test_a_whole_multiple_repeats_the_states(family: str, model: Any, batch: Any) -> None:
    source = model(shape(family))
    grown = grow(source, shape(family, **WIDE))
    torch.testing.assert_close(grown.encoder(batch), source.encoder(batch).repeat(1, 2), atol=1e-5, rtol=1e-5)


def test_vectors_keep_their_similarities(model: Any, batch: Any) -> None:
    source = model(shape("bert"))
    grown = grow(source, shape("bert", **WIDE))
    before, after = (F.normalize(pool(m.encoder(batch), batch, "mean"), dim=1) for m in (source, grown))
    torch.testing.assert_close(after @ after.T, before @ before.T, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_between_multiples_the_function_is_kept_about(family: str, model: Any, batch: Any) -> None:
    source = model(shape(family))
    grown = grow(source, shape(family, **ODD))
    before, after = source.encoder(batch), grown.encoder(batch)[:, :24]
    error = (after - before).norm() / before.norm()
    unrelated = (model(shape(family, **ODD)).encoder(batch)[:, :24] - before).norm() / before.norm()
    assert 1e-3 < error < 0.7 * unrelated


def test_copies_that_are_read_alike_stay_copies_and_noise_parts_them(model: Any, masked_loss: Any, batch: Any) -> None:
    source, target = model(shape("bert")), shape("bert", **WIDE)
    apart = {}
    for noise in (0.0, 0.5):
        grown = trained(grow(source, target, noise=noise), masked_loss(target))
        first, second = grown.encoder(batch).detach().chunk(2, dim=1)
        apart[noise] = float((first - second).abs().max())
    assert apart[0.0] < 1e-3 < 1e-2 < apart[0.5]


def test_transformers_gives_the_sources_logits_from_an_export(model: Any, tmp_path: Path) -> None:
    source = model(shape("bert"))
    export_checkpoint(grow(source, shape("bert", hidden_size=72, intermediate_size=100)), tmp_path, with_head=True)
    reference = transformers.AutoModelForMaskedLM.from_pretrained(tmp_path).eval()
    ids = torch.arange(5, 25)
    hidden = source.encoder(pack([ids.numpy()]))
    logits = source.head(hidden, source.encoder.token_embedding.weight)
    with torch.no_grad():
        torch.testing.assert_close(reference(ids[None]).logits[0], logits.detach(), atol=1e-4, rtol=1e-4)


def test_a_model_without_a_head_grows_without_one(model: Any) -> None:
    source = model(shape("bert"))
    source.head = None
    assert grow(source, shape("bert", **WIDE)).head is None


def test_the_same_shape_gives_the_same_weights(model: Any) -> None:
    source = model(shape("modernbert"))
    found = grow(source, shape("modernbert")).encoder.state_dict()
    assert all(torch.equal(weight, found[name]) for name, weight in source.encoder.state_dict().items())
