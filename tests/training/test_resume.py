"""Killed at any moment, a run ends with the same bytes as one that was never interrupted."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
from tests.training.interrupted import PowerCut, cut_after

from corpusmith.errors import ArtefactError
from corpusmith.objective.config import (
    ContrastiveConfig,
    MaskedLanguageConfig,
    Matryoshka2dConfig,
    ObjectiveConfig,
    PretrainedDistillationConfig,
    RetroMAEConfig,
    SelfAttentionDistillationConfig,
    StarbucksConfig,
    SumConfig,
    TermConfig,
)
from corpusmith.training import checkpoint as checkpoint_module
from corpusmith.training import log as log_module
from corpusmith.training.budget import BudgetConfig
from corpusmith.training.log import Notice, StepRecord


def ending(folder: Path) -> dict[str, bytes]:
    """Everything a finished run leaves that the seed determines: weights, moments, progress, log."""
    files = [*folder.glob("checkpoints/*/*"), folder / "log.jsonl"]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def loss_score(encoder) -> float:
    """A validation that depends on the weights: so the best step is known only by running."""
    return -float(encoder.embeddings.tokens.weight.abs().sum())


OPTIONS = {"checkpoint_minutes": 0, "validate": loss_score, "evaluations": 3, "held_out": 3, "tokens": 1200}


FITTED = {
    "contriever": {"queue": 7},
    "ict": {"bfs_share": 0.5},
    "laprador": {"queue": 7, "turn": 3},
    "spider": {"shortest_span": 1, "common_share": 1.0},
    "substructures": {"first_share": 0.5},
}
"""Options by which an objective does on so little data what its defaults do on more."""
CURRICULUM = MaskedLanguageConfig(final_rate=0.6, final_mask_share=0.5, choose="importance", strategy_from=0.5)
TERMS = (MaskedLanguageConfig(), Matryoshka2dConfig(objective=RetroMAEConfig()), ContrastiveConfig())
PLAIN = [kind for kind in get_args(get_args(ObjectiveConfig)[0]) if "teacher" not in kind.model_fields]
OBJECTIVES = [
    *(options(**FITTED.get(options().kind, {})) for options in PLAIN),
    CURRICULUM,
    RetroMAEConfig(visible="pmi"),
    Matryoshka2dConfig(objective=RetroMAEConfig()),
    StarbucksConfig(objective=RetroMAEConfig()),
    SumConfig(terms=tuple(TermConfig(objective=term) for term in TERMS)),
]


DISTILLATION = [
    SelfAttentionDistillationConfig(),
    SelfAttentionDistillationConfig(relations="attention"),
    PretrainedDistillationConfig(named_weight=0.5, states_weight=0.5),
]


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda options: options.kind)
def test_resumed_run_equals_uninterrupted_run(run, tmp_path, objective):
    assert_resumable(run, tmp_path, objective)


@pytest.mark.parametrize("objective", DISTILLATION, ids=lambda options: options.kind)
def test_a_student_resumes_beside_its_teacher(run, tmp_path, objective, teacher):
    assert_resumable(run, tmp_path, objective.model_copy(update={"teacher": str(teacher)}))


def assert_resumable(run, tmp_path, objective) -> None:
    """Killed four times, a run ends with the bytes of one that was not."""
    run(tmp_path / "whole", objective, **OPTIONS)
    for step in (1, 4, 5, 9):
        with pytest.raises(PowerCut):
            run(tmp_path / "cut", objective, report=cut_after(step), **OPTIONS)
    run(tmp_path / "cut", objective, **OPTIONS)
    assert ending(tmp_path / "cut") == ending(tmp_path / "whole")


def test_how_often_checkpoints_are_written_changes_nothing(run, tmp_path):
    run(tmp_path / "often", **OPTIONS)
    run(tmp_path / "seldom", **OPTIONS | {"checkpoint_minutes": 60})
    assert ending(tmp_path / "often") == ending(tmp_path / "seldom")


@pytest.mark.parametrize("survived", [0, 1, 2, 3, 5, 8, 13])
def test_power_may_fail_while_a_checkpoint_is_written(run, tmp_path, monkeypatch, survived):
    run(tmp_path / "whole", **OPTIONS)
    left, sync = survived, checkpoint_module.sync

    def fail_in_the_end(path: Path) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise PowerCut
        sync(path)

    monkeypatch.setattr(checkpoint_module, "sync", fail_in_the_end)
    with pytest.raises(PowerCut):
        run(tmp_path / "cut", **OPTIONS)
    monkeypatch.setattr(checkpoint_module, "sync", sync)
    run(tmp_path / "cut", **OPTIONS)
    assert ending(tmp_path / "cut") == ending(tmp_path / "whole")


def test_lines_written_after_the_last_checkpoint_are_not_there_twice(run, tmp_path):
    run(tmp_path / "whole", tokens=1200)
    with pytest.raises(PowerCut):
        run(tmp_path / "cut", tokens=1200, report=cut_after(7))
    assert len((tmp_path / "cut" / "log.jsonl").read_text().splitlines()) == 7
    run(tmp_path / "cut", tokens=1200)
    assert (tmp_path / "cut" / "log.jsonl").read_bytes() == (tmp_path / "whole" / "log.jsonl").read_bytes()


@pytest.mark.parametrize("name", ["weights.safetensors", "moments.safetensors", "progress.json"])
def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_it_used(run, tmp_path, name):
    run(tmp_path / "whole", **OPTIONS)
    with pytest.raises(PowerCut):
        run(tmp_path / "cut", report=cut_after(6), **OPTIONS)
    newest = sorted((tmp_path / "cut" / "checkpoints").glob("step-*"))[-1]
    content = bytearray((newest / name).read_bytes())
    content[len(content) // 2] ^= 1
    (newest / name).write_bytes(content)
    told: list = []
    run(tmp_path / "cut", report=told.append, **OPTIONS)
    notices = [record.text for record in told if isinstance(record, Notice)]
    assert len(notices) == 1
    assert f"{newest.name} is damaged" in notices[0]
    aside = newest.with_name(f"{newest.name}.damaged")
    assert aside.is_dir()
    expected = ending(tmp_path / "whole")
    found = ending(tmp_path / "cut")
    assert {key: value for key, value in found.items() if ".damaged" not in key} == expected


def test_when_all_checkpoints_are_damaged_the_run_begins_again(run, tmp_path):
    run(tmp_path / "whole", **OPTIONS)
    with pytest.raises(PowerCut):
        run(tmp_path / "cut", report=cut_after(6), **OPTIONS)
    for path in (tmp_path / "cut" / "checkpoints").glob("step-*/progress.json"):
        path.write_text("{")
    run(tmp_path / "cut", **OPTIONS)
    found = {key: value for key, value in ending(tmp_path / "cut").items() if ".damaged" not in key}
    assert found == ending(tmp_path / "whole")


@pytest.mark.parametrize(
    "damage",
    [
        lambda log: log.write_bytes(b""),
        lambda log: log.write_bytes(log.read_bytes().replace(b'"loss": 1', b'"loss": 9').replace(b"3", b"4")),
        lambda log: log.unlink(),
    ],
)
def test_a_damaged_log_is_told_and_made_whole_again(run, tmp_path, damage):
    run(tmp_path / "whole", **OPTIONS)
    with pytest.raises(PowerCut):
        run(tmp_path / "cut", report=cut_after(6), **OPTIONS)
    log = tmp_path / "cut" / "log.jsonl"
    damage(log)
    told: list = []
    run(tmp_path / "cut", report=told.append, **OPTIONS)
    assert [record.text for record in told if isinstance(record, Notice)] == [
        f"{log} was damaged, and is again as the checkpoint remembers it."
    ]
    assert ending(tmp_path / "cut") == ending(tmp_path / "whole")


def test_damaged_lines_of_timing_cost_themselves_alone(tmp_path):
    lines = ['{"step": 1, "seconds": 2.5}', '{"step": 2, "sekonds": 8}', '{"step": 3, "seconds": "8"}', "[8]", "8", "{"]
    (tmp_path / "timing.jsonl").write_text("\n".join(lines))
    assert log_module.RunLog(tmp_path, None).seconds() == 2.5
    assert log_module.read_timing(tmp_path / "timing.jsonl", "step", "seconds") == [{"step": 1, "seconds": 2.5}]


def test_a_timing_line_torn_by_a_crash_is_passed_over_and_nothing_joined_to_it(tmp_path):
    (tmp_path / "timing.jsonl").write_bytes(b'{"step": 1, "seconds": 2.5}\n{"step": 2, "sec\xc3')
    log = log_module.RunLog(tmp_path, None)
    log.evaluation(log_module.Evaluation(2, 0.5), seconds=1.5)
    assert log.seconds() == 4.0
    assert log_module.read_records(tmp_path / "timing.jsonl") == [
        {"step": 1, "seconds": 2.5},
        {"step": 2, "evaluation_seconds": 1.5},
    ]


def test_a_run_killed_by_the_system_several_times_ends_with_the_same_bytes(tmp_path):
    script = Path(__file__).with_name("train_and_die.py")
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["-9", "-9", "-9", "0", "0"]
    assert ending(tmp_path / "killed") == ending(tmp_path / "whole")


def test_what_minutes_buy_is_settled_once_and_a_resumed_run_keeps_to_it(run, tmp_path):
    options = {"checkpoint_minutes": 0, "evaluations": 2, "held_out": 3, "budget": BudgetConfig(minutes=0.01)}
    with pytest.raises(PowerCut):
        run(tmp_path / "cut", report=cut_after(1), **options)
    shutil.copytree(tmp_path / "cut", tmp_path / "whole")
    run(tmp_path / "whole", **options)
    for step in (2, 4):
        with pytest.raises(PowerCut):
            run(tmp_path / "cut", report=cut_after(step), **options)
    run(tmp_path / "cut", **options)
    assert ending(tmp_path / "cut") == ending(tmp_path / "whole")


@pytest.mark.parametrize("objective", [None, CURRICULUM])
def test_a_crash_during_an_evaluation_costs_the_evaluation_alone(run, tmp_path, objective):
    calls = 0

    def dies_the_second_time(encoder) -> float:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise PowerCut
        return loss_score(encoder)

    options = OPTIONS | {"checkpoint_minutes": 60, "objective": objective}
    run(tmp_path / "whole", **options)
    with pytest.raises(PowerCut):
        run(tmp_path / "cut", **options | {"validate": dies_the_second_time})
    (newest,) = (path for path in (tmp_path / "cut" / "checkpoints").glob("step-*") if path.name != "step-00000000")
    taken: list[int] = []
    run(tmp_path / "cut", report=lambda r: taken.append(r.step) if isinstance(r, StepRecord) else None, **options)
    assert taken[0] == int(newest.name.removeprefix("step-")) + 1
    assert ending(tmp_path / "cut") == ending(tmp_path / "whole")


@pytest.mark.parametrize("digit", ["steps", "step_tokens"])
def test_a_plan_with_one_digit_changed_is_not_followed(run, tmp_path, digit):
    run(tmp_path, **OPTIONS)
    path = tmp_path / "plan.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {digit: content[digit] + 1}))
    with pytest.raises(ArtefactError, match=r"plan\.json is damaged"):
        run(tmp_path, **OPTIONS)
