from __future__ import annotations

import subprocess
import sys
from typing import get_args

import pytest
from pydantic import TypeAdapter, ValidationError

from corpusmith.objective.base import Objective
from corpusmith.objective.registry import OBJECTIVES, ObjectiveConfig, objective_class

CONFIGS = get_args(get_args(ObjectiveConfig)[0])


def test_kind_selects_the_options():
    for config in CONFIGS:
        found = TypeAdapter(ObjectiveConfig).validate_python({"kind": config().kind})
        assert type(found) is config


def test_every_kind_has_its_objective_and_every_objective_its_kind():
    assert {config().kind for config in CONFIGS} == set(OBJECTIVES)
    assert all(issubclass(objective_class(kind), Objective) for kind in OBJECTIVES)


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "masked_language", "masking_rate": 0},
        {"kind": "masked_language", "mask_share": 0.8, "random_share": 0.3},
        {"kind": "masked_language", "final_rate": 1.0},
        {"kind": "masked_language", "final_mask_share": 0.95},
        {"kind": "masked_language", "strategy_from": 1.0},
        {"kind": "masked_language", "choose": "rare"},
        {"kind": "retromae", "visible_rate": 1.0},
        {"kind": "retromae", "visible": "all"},
        {"kind": "prop", "set_length": 0},
        {"kind": "prop", "smoothing": 0},
        {"kind": "prop", "common_share": 1.5},
        {"kind": "prop", "margin": 0},
        {"kind": "reranking", "negatives": 0},
        {"kind": "contrastive", "temperature": 0},
        {"kind": "contrastive", "negatives": -1},
        {"kind": "contrastive", "temprature": 0.1},
        {"kind": "bag_of_words", "masking_rate": 1.0},
        {"kind": "cocondenser", "temperature": 0},
        {"kind": "condenser", "head_layers": 0},
        {"kind": "dupmae", "bag_weight": 0},
        {"kind": "pretrained_distillation", "temperature": 0},
        {"kind": "self_attention_distillation", "relations": "attention", "relation_heads": 4},
        {"kind": "substructures", "first_share": 1.0},
        {"kind": "nothing"},
    ],
)
def test_values_out_of_range_and_unknown_keys_are_errors(wrong):
    with pytest.raises(ValidationError):
        TypeAdapter(ObjectiveConfig).validate_python(wrong)


def test_options_are_checked_without_importing_torch():
    program = (
        "import sys, corpusmith.objective.registry, corpusmith.training.config, corpusmith.training.budget; "
        "sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
