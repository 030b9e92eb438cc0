"""What the plan promises before a build."""

from __future__ import annotations

from pathlib import Path

import pytest

from corpusmith.pipeline.plan import make_plan
from corpusmith.recipe import parse_recipe, preset
from corpusmith.report.base import PlannedStep


def planned_stage(base_model: Path, notes: Path, folder: Path, **budget: float) -> PlannedStep:
    recipe = preset("default").with_overrides({"model.base": str(base_model), "budget.minutes": None, **budget})
    return next(step for step in make_plan([notes], recipe, folder) if step["step"] == "stage-1")


def test_a_small_corpus_is_not_said_to_train_for_hours(base_model: Path, notes: Path, tmp_path: Path) -> None:
    stage = planned_stage(base_model, notes, tmp_path / "out", **{"budget.minutes": 600})
    assert stage["seconds"] is not None
    assert 0 < stage["seconds"] < 600


def test_a_budget_that_other_steps_use_up_is_said_to_train_nothing(
    base_model: Path, notes: Path, tmp_path: Path
) -> None:
    stage = planned_stage(base_model, notes, tmp_path / "out", **{"budget.minutes": 0.1})
    assert stage["seconds"] == 0
    assert "nothing will be trained" in stage["note"]


def test_a_budget_of_tokens_has_no_known_time(base_model: Path, notes: Path, tmp_path: Path) -> None:
    assert planned_stage(base_model, notes, tmp_path / "out", **{"budget.tokens": 1000})["seconds"] is None
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("minutes", [5, 10])
def test_stages_share_what_is_left(base_model: Path, notes: Path, tmp_path: Path, minutes: float) -> None:
    recipe = preset("pretrain").with_overrides({"model.base": str(base_model), "budget.minutes": minutes})
    steps = make_plan([notes], recipe, tmp_path / "out")
    assert sum(step["seconds"] or 0 for step in steps) <= 60 * minutes + 10


def test_stages_share_what_those_with_budgets_of_their_own_leave(base_model: Path, notes: Path, tmp_path: Path) -> None:
    retromae = {"objective": {"kind": "retromae"}, "training": {"max_epochs": 1e9}}
    stages = [retromae | {"budget": {"minutes": 30}}, retromae, retromae | {"share": 3}]
    content = {"model": {"base": str(base_model)}, "budget": {"minutes": 100}, "stages": stages}
    planned = make_plan([notes], parse_recipe(content, "test"), tmp_path / "out")
    own, small, large = (step["seconds"] or 0 for step in planned if step["step"].startswith("stage-"))
    assert own == 30 * 60
    assert 60 * 60 < small + large < 70 * 60
    assert large == pytest.approx(3 * small)


def test_late_interaction_is_part_of_the_time_to_choose_and_to_measure(
    base_model: Path, notes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("corpusmith.pipeline.plan.encoding_speed", lambda *_: 1000.0)
    seconds = {}
    for late in (0.0, 1.0):
        recipe = preset("search-only").with_overrides({"model.base": str(base_model), "search.late": late})
        steps = {step["step"]: step["seconds"] or 0 for step in make_plan([notes], recipe, tmp_path / "out")}
        seconds[late] = [steps["choice"], steps["evaluation"]]
    assert all(more > less for more, less in zip(seconds[1.0], seconds[0.0], strict=True))
