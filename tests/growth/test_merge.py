from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import tokenizers
import torch
from tests.growth.examples import shape

from corpusmith.errors import ModelError
from corpusmith.growth.merge import greedy_soup, interpolated, midpoint_barrier, uniform_soup
from corpusmith.model.checkpoint import Checkpoint
from corpusmith.vocabulary.tokenizer import Tokenizer


@pytest.fixture
def near(model: Any) -> Any:
    """Makes a model near the one of the fixture: its weights, moved by as much along a direction of the seed's."""

    def make(seed: int, size: float = 0.05) -> Checkpoint:
        made = model(shape("bert"))
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in (*made.encoder.parameters(), *made.head.parameters()):
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=size)
        return replace(made, name=f"near {seed}")

    return make


@pytest.fixture
def closeness(model: Any) -> Any:
    """Minus the distance from the fixture's model: what all models near it vary about."""
    centre = model(shape("bert")).encoder.state_dict()

    def score(checkpoint: Checkpoint) -> float:
        own = checkpoint.encoder.state_dict()
        return -(float(sum((own[name] - tensor).square().sum() for name, tensor in centre.items())) ** 0.5)

    return score


def test_a_uniform_soup_is_the_mean_and_shares_nothing(near: Any) -> None:
    models = [near(1), near(2), near(3)]
    soup = uniform_soup(models)
    for part in ("encoder", "head"):
        for name, tensor in getattr(soup, part).state_dict().items():
            expected = sum(getattr(one, part).state_dict()[name].double() for one in models) / 3
            torch.testing.assert_close(tensor.double(), expected, atol=1e-6, rtol=1e-6)
    assert soup.name == "mean of near 1, near 2, near 3"
    alone = uniform_soup(models[:1])
    for ours, theirs in zip(alone.encoder.parameters(), models[0].encoder.parameters(), strict=True):
        assert torch.equal(ours, theirs)
        assert ours.data_ptr() != theirs.data_ptr()


def test_a_head_that_one_model_lacks_is_left_out(near: Any) -> None:
    assert uniform_soup([near(1), replace(near(2), head=None)]).head is None


def test_a_greedy_soup_takes_what_helps_and_leaves_what_harms(near: Any, closeness: Any) -> None:
    models = [near(1, 0.06), near(2, 0.05), near(3, 1.0), near(4, 0.055)]
    soup, taken = greedy_soup(models, closeness)
    assert taken == [1, 3, 0]
    assert closeness(soup) > max(map(closeness, models))
    expected = uniform_soup([models[i] for i in taken])
    assert all(torch.equal(w, expected.encoder.state_dict()[name]) for name, w in soup.encoder.state_dict().items())


def test_a_greedy_soup_is_the_best_model_where_no_other_helps(near: Any, closeness: Any) -> None:
    models = [near(1, 1.0), near(2, 0.01)]
    soup, taken = greedy_soup(models, closeness)
    assert taken == [1]
    assert closeness(soup) == pytest.approx(closeness(models[1]))
    assert soup.encoder is not models[1].encoder


def test_a_line_runs_from_one_end_to_the_other(near: Any, closeness: Any) -> None:
    first, second = near(1), near(2)
    for share, end in ((0.0, first), (1.0, second)):
        found = interpolated(first, second, share)
        assert all(torch.equal(w, end.encoder.state_dict()[name]) for name, w in found.encoder.state_dict().items())
    assert midpoint_barrier(first, second, lambda model: -closeness(model)) < 0


def test_models_whose_weights_mean_something_else_are_refused(near: Any, model: Any) -> None:
    one = near(1)
    with pytest.raises(ModelError, match="no model"):
        uniform_soup([])
    with pytest.raises(ModelError, match=r"different shapes \(L3-H24, L4-H24\)"):
        uniform_soup([one, model(shape("bert", layers=4))])
    with pytest.raises(ModelError, match=r"different shapes \(intermediate_size 48, 60\)"):
        uniform_soup([one, model(shape("bert", intermediate_size=60))])
    words = {"[CLS]": 0, "[SEP]": 1, "[UNK]": 2, "a": 3}
    other = Tokenizer(tokenizers.Tokenizer(tokenizers.models.WordPiece(words, unk_token="[UNK]")), {}, {})
    with pytest.raises(ModelError, match="near 1 and near 2 have different tokenizers"):
        interpolated(one, replace(near(2), tokenizer=other), 0.5)
    with pytest.raises(ModelError, match="vectors differently"):
        greedy_soup([one, replace(near(2), pooling="cls")], lambda _: 0.0)
    with pytest.raises(ModelError, match=r"mean pooling, 24 dimensions, .*; mean pooling, 12 dimensions, "):
        uniform_soup([one, replace(near(2), cut_dimension=12)])
    with pytest.raises(ModelError, match=r"different prompts before texts \({}; {'query': 'query: '}\)"):
        uniform_soup([one, replace(near(2), prompts={"query": "query: "})])
