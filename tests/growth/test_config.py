from __future__ import annotations

import subprocess
import sys
from typing import get_args

import pytest
from pydantic import TypeAdapter, ValidationError

from corpusmith.growth.base import GrowthOperator
from corpusmith.growth.registry import GROWTH, GrowthConfig, build_operator

CONFIGS = get_args(get_args(GrowthConfig)[0])


def test_kind_selects_the_options_and_these_the_operator():
    for config in CONFIGS:
        found = TypeAdapter(GrowthConfig).validate_python({"kind": config().kind})
        assert type(found) is config
        assert isinstance(build_operator(found), GrowthOperator)


def test_every_kind_has_its_operator_and_every_operator_its_kind():
    assert {config().kind for config in CONFIGS} == set(GROWTH)


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "fpi", "noise": -0.1},
        {"kind": "aki", "noise": 3},
        {"kind": "ligo", "steps": -1},
        {"kind": "ligo", "learning_rate": 0},
        {"kind": "ligo", "rank": 1},
        {"kind": "mango", "rank": 0},
        {"kind": "mixture", "novelty": 1.1},
        {"kind": "nothing"},
    ],
)
def test_values_out_of_range_and_unknown_keys_are_errors(wrong):
    with pytest.raises(ValidationError):
        TypeAdapter(GrowthConfig).validate_python(wrong)


def test_options_are_checked_without_importing_torch():
    program = "import sys, corpusmith.growth.registry; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
