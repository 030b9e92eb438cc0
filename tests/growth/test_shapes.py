from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.growth.examples import WIDE, operator, shape

from corpusmith.errors import ModelError
from corpusmith.growth.shapes import check_larger, stacked_layers

WIDENING = ["fpi", "aki", "mixture", "ligo", "mango"]


@pytest.mark.parametrize("kind", WIDENING)
@pytest.mark.parametrize(
    ("family", "source", "target", "message"),
    [
        ("bert", {}, {"hidden_size": 12}, "hidden_size of 12 is below the source's 24"),
        ("bert", {}, {"intermediate_size": 24}, "intermediate_size of 24 is below"),
        ("bert", {}, {"layers": 2}, "layers of 2 is below"),
        ("bert", {"heads": 4}, {"hidden_size": 48, "heads": 3}, "heads of 3 is below"),
        ("bert", {}, {"hidden_size": 48, "heads": 8}, "head_size of 6 is below"),
        (
            "modernbert",
            {},
            {"hidden_size": 40, "heads": 2},
            "rotary positions from heads of 12 dimensions to heads of 20",
        ),
    ],
)
def test_shapes_that_no_widening_makes_are_refused(
    kind: str, family: str, source: dict[str, int], target: dict[str, int], message: str
) -> None:
    small = shape(family, **source)
    with pytest.raises(ModelError, match=message):
        operator(kind).check(small, shape(family, **(source | target)))


@pytest.mark.parametrize("kind", WIDENING)
@pytest.mark.parametrize(
    "change",
    [
        {"activation": "relu"},
        {"vocabulary_size": 500},
        {"max_positions": 80},
        {"norm_first": True},
        {"model_type": "roberta"},
    ],
)
def test_other_choices_than_sizes_must_stay(kind: str, change: dict[str, Any]) -> None:
    small = shape("bert")
    with pytest.raises(ModelError, match=f"changes sizes alone, and {next(iter(change))} is"):
        operator(kind).check(small, replace(shape("bert", **WIDE), **change))


@pytest.mark.parametrize("kind", ["fpi", "aki"])
def test_operators_of_width_refuse_depth(kind: str) -> None:
    for family in ("bert", "modernbert"):
        with pytest.raises(ModelError, match="no deeper, and the source has 3 layers and the target 4"):
            operator(kind).check(shape(family), shape(family, layers=4))
    turned = replace(shape("modernbert"), windowed=(True, False, True))
    with pytest.raises(ModelError, match="other layers see a window"):
        operator(kind).check(shape("modernbert"), turned)


def test_a_shape_may_stay_as_it_is() -> None:
    check_larger("fpi", shape("bert"), shape("bert"), deeper=False)


def test_layers_are_stacked_each_kind_by_itself() -> None:
    assert stacked_layers(shape("bert"), shape("bert", layers=8)) == [0, 1, 2, 0, 1, 2, 0, 1]
    assert stacked_layers(shape("bert"), shape("bert")) == [0, 1, 2]
    # Layers 1, 3 and 5 see a window, and so does the source's layer 1 alone.
    assert stacked_layers(shape("modernbert"), shape("modernbert", layers=6)) == [0, 1, 2, 1, 0, 1]
    all_see_all = replace(shape("modernbert"), windowed=(False, False, False))
    assert stacked_layers(all_see_all, shape("modernbert", layers=4)) == [0, 0, 1, 1]
