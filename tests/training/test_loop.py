from __future__ import annotations

import json
import math
import shutil
from itertools import pairwise

import numpy as np
import pytest
import torch

from corpusmith.errors import ArtefactError, CorpusError, CorpusmithError, MachineError
from corpusmith.objective.base import Loss
from corpusmith.objective.config import (
    ContrastiveConfig,
    CoTMAEConfig,
    ElectraConfig,
    MaskedLanguageConfig,
    RetroMAEConfig,
    SeedEncoderConfig,
    SimLMConfig,
    TSDAEConfig,
)
from corpusmith.objective.masked_language import MaskedLanguage
from corpusmith.objective.registry import build_objective
from corpusmith.training import loop as loop_module
from corpusmith.training.batches import epoch_batches
from corpusmith.training.budget import BudgetConfig
from corpusmith.training.config import TrainingConfig
from corpusmith.training.log import Evaluation, Notice, RunLog, StepRecord
from corpusmith.training.loop import Run


def log_lines(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def scores_in_turn(*scores: float):
    """A validation that gives these scores, one after the other."""
    left = iter(scores)
    return lambda encoder: next(left)


GOLDEN = {
    MaskedLanguageConfig: [5.87975, 5.88164, 5.83236, 5.85827, 5.85288, 5.80679, 5.81067, 5.81762, 5.80414, 5.79886],
    RetroMAEConfig: [12.02274, 11.95952, 11.90927, 11.92831, 11.58589, 12.15514, 11.45707, 11.07065, 11.53236, 13.6867],
    ContrastiveConfig: [1.29642, 1.31506, 1.24644, 1.34209, 1.75072, 0.77517, 1.11634, 1.19166, 0.39865, 1.39501],
}


@pytest.mark.parametrize("objective", [config() for config in GOLDEN], ids=lambda config: config.kind)
def test_the_first_losses_are_those_they_always_were(run, tmp_path, objective):
    run(tmp_path, objective, tokens=5000)
    losses = [line["loss"] for line in log_lines(tmp_path)[:10]]
    assert losses == pytest.approx(GOLDEN[type(objective)], abs=1e-4)


DENOISING = [CoTMAEConfig(), SeedEncoderConfig(), TSDAEConfig()]
GENERATING = [ElectraConfig(), SimLMConfig()]  # a rounding error may change a word, which is no longer a rounding error


@pytest.mark.parametrize(
    "objective", [MaskedLanguageConfig(), RetroMAEConfig(), *DENOISING], ids=lambda config: config.kind
)
def test_splitting_a_batch_changes_neither_loss_nor_weights(run, tmp_path, objective):
    _, whole = run(tmp_path / "whole", objective, tokens=600)
    _, split = run(tmp_path / "split", objective, tokens=600, micro_batch_tokens=40)
    for one, other in zip(log_lines(tmp_path / "whole"), log_lines(tmp_path / "split"), strict=True):
        assert one == pytest.approx(other, rel=1e-4)
    for one, other in zip(whole.parameters(), split.parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize(
    "objective", [*(config() for config in GOLDEN), *DENOISING, *GENERATING], ids=lambda config: config.kind
)
def test_training_lowers_the_loss(run, tmp_path, objective):
    run(tmp_path, objective, tokens=8000, max_epochs=100)
    losses = [line["loss"] for line in log_lines(tmp_path)]
    assert sum(losses[-10:]) < 0.9 * sum(losses[:10])


def test_progress_is_the_steps_own_but_the_middle_for_costs_and_the_end_for_held_out_examples(
    run, tmp_path, monkeypatch
):
    seen, collate = [], MaskedLanguage.collate

    def noting(self, examples, rng):
        seen.append(self.progress)
        return collate(self, examples, rng)

    monkeypatch.setattr(MaskedLanguage, "collate", noting)
    result, _ = run(tmp_path, tokens=1000, held_out=3, evaluations=2)
    first = seen.index(0.0)
    assert seen[0] == 1
    assert set(seen[1:first]) == {0.5}
    assert [value for value in seen[first:] if value < 1] == [step / result.steps for step in range(result.steps)]
    assert seen[first:].count(1) == 2


def test_seeds_differ_and_the_same_seed_repeats(run, tmp_path):
    logs = []
    for name, seed in [("a", 1), ("b", 1), ("c", 2)]:
        run(tmp_path / name, seed=seed, tokens=500)
        logs.append((tmp_path / name / "log.jsonl").read_bytes())
    assert logs[0] == logs[1] != logs[2]


def test_each_step_is_logged_with_what_it_cost(run, tmp_path):
    told: list = []
    result, _ = run(tmp_path, tokens=1000, report=told.append)
    lines = log_lines(tmp_path)
    assert [line["step"] for line in lines] == list(range(1, result.steps + 1))
    assert lines[-1]["tokens"] == result.tokens == sum(record.step_tokens for record in told)
    assert lines[-1]["flops"] == result.flops > 0
    assert not any("seconds" in line for line in lines)
    assert all(record.tokens_per_second > 0 for record in told)
    timing = (tmp_path / "timing.jsonl").read_text().splitlines()
    assert sum(json.loads(line)["seconds"] for line in timing) == pytest.approx(result.seconds)


def test_each_step_is_timed_with_its_utilisation_and_memory(run, tmp_path):
    told: list = []
    run(tmp_path, tokens=1000, report=told.append)
    lines = [json.loads(line) for line in (tmp_path / "timing.jsonl").read_text().splitlines()]
    flops = [line["flops"] for line in log_lines(tmp_path)]
    assert [line["flops"] for line in lines] == pytest.approx(np.diff([0, *flops]))
    assert all(line["tokens_per_second"] == pytest.approx(line["tokens"] / line["seconds"], rel=0.01) for line in lines)
    assert all(0 < line["utilisation"] < 1 for line in lines)
    rates = [line["flops"] / line["seconds"] / record.utilisation for line, record in zip(lines, told, strict=True)]
    assert rates == pytest.approx([rates[0]] * len(rates), rel=0.01)
    assert all(line["peak_memory_bytes"] > 10**7 for line in lines)


def test_padding_avoided_is_that_of_random_batches_padded_to_their_longest(run, tiny_data, tmp_path):
    run(tmp_path, tokens=300, batch_tokens=96)
    lengths = np.minimum(tiny_data.passages.lengths + 2, 32)
    batches = epoch_batches(lengths, 96, 3, 0, sort=False)[:8]
    padded = sum(len(batch) * lengths[batch].max() for batch in batches)
    real = sum(lengths[batch].sum() for batch in batches)
    found = json.loads((tmp_path / "plan.json").read_text())["padding_avoided"]
    assert found == pytest.approx(1 - real / padded)
    assert found > 0


def test_a_run_goes_on_in_the_precision_it_began_with(run, tmp_path, monkeypatch):
    computed: list = []

    def validate(encoder) -> float:
        computed.append(encoder.compute_dtype)
        return 0.0

    monkeypatch.setattr(loop_module, "fastest_precision", lambda device: "bf16")
    run(tmp_path, tokens=300, precision="auto", validate=validate, evaluations=1)
    for path in (tmp_path / "checkpoints").iterdir():
        shutil.rmtree(path)
    monkeypatch.setattr(loop_module, "fastest_precision", lambda device: "float32")
    run(tmp_path, tokens=300, precision="auto", validate=validate, evaluations=1)
    assert set(computed) == {torch.bfloat16}
    assert len(computed) == 3


def test_tokens_spent_are_about_the_budget(run, tmp_path):
    result, _ = run(tmp_path, tokens=4000)
    assert result.tokens == pytest.approx(4000, rel=0.1)


def test_flops_spent_are_about_the_budget(run, tmp_path):
    result, _ = run(tmp_path, budget=BudgetConfig(flops=4e8))
    assert result.flops == pytest.approx(4e8, rel=0.15)


def test_minutes_become_steps_once_and_measuring_changes_nothing(run, tmp_path):
    budget = BudgetConfig(minutes=0.02)
    first, _ = run(tmp_path / "minutes", budget=budget)
    plan = json.loads((tmp_path / "minutes" / "plan.json").read_text())
    assert plan["step_seconds"] > 0
    assert first.planned_steps == plan["steps"]
    steps = first.planned_steps
    same, _ = run(tmp_path / "tokens", tokens=round(plan["step_tokens"] * steps))
    assert same.planned_steps == steps
    assert (tmp_path / "minutes" / "log.jsonl").read_bytes() == (tmp_path / "tokens" / "log.jsonl").read_bytes()


def test_a_plan_is_followed_and_not_measured_again(run, tmp_path, monkeypatch):
    class PowerCut(BaseException):
        pass

    def cut(record) -> None:
        raise PowerCut

    with pytest.raises(PowerCut):
        run(tmp_path, budget=BudgetConfig(minutes=0.01), report=cut)
    planned = json.loads((tmp_path / "plan.json").read_text())["steps"]
    monkeypatch.setattr(loop_module, "measure", None)
    result, _ = run(tmp_path, budget=BudgetConfig(minutes=0.01))
    assert result.steps == planned


def test_epochs_bound_the_steps(run, tmp_path):
    result, _ = run(tmp_path, tokens=10**9, max_epochs=0.5)
    assert result.steps == 3


def test_the_best_weights_are_kept_even_if_they_are_the_first(run, tmp_path, tiny_checkpoint):
    result, encoder = run(tmp_path, validate=scores_in_turn(0.5, 0.4, 0.3), evaluations=2)
    assert (result.kept_step, result.kept_score) == (0, 0.5)
    for kept, original in zip(encoder.parameters(), tiny_checkpoint().encoder.parameters(), strict=True):
        assert torch.equal(kept, original)


def test_a_score_that_is_only_as_good_does_not_replace_the_earlier_one(run, tmp_path):
    result, _ = run(tmp_path, validate=scores_in_turn(0.5, 0.5, 0.5), evaluations=2)
    assert result.kept_step == 0


def test_the_best_weights_in_between_are_those_of_that_step(run, tmp_path):
    seen: dict[float, torch.Tensor] = {}
    scores = iter((0.1, 0.9, 0.2, 0.3))

    def validate(encoder) -> float:
        score = next(scores)
        seen[score] = encoder.layers[0].mlp.up.weight.detach().clone()
        return score

    result, encoder = run(tmp_path, validate=validate, evaluations=3)
    assert result.kept_score == 0.9
    assert torch.equal(encoder.layers[0].mlp.up.weight, seen[0.9])
    assert not torch.equal(encoder.layers[0].mlp.up.weight, seen[0.3])


def test_without_keep_best_the_last_weights_stay(run, tmp_path):
    result, _ = run(tmp_path, validate=scores_in_turn(0.5, 0.4, 0.3), evaluations=2, keep_best=False)
    assert result.kept_step == result.steps


def test_patience_ends_a_run_that_no_longer_improves(run, tmp_path):
    told: list = []
    scores = scores_in_turn(0.1, 0.2, 0.2, 0.1)
    result, _ = run(tmp_path, validate=scores, evaluations=6, patience=2, report=told.append)
    assert result.steps < result.planned_steps
    assert len(result.evaluations) == 4
    assert result.kept_score == 0.2
    assert any(isinstance(record, Notice) and "stopped" in record.text for record in told)


def test_evaluations_are_evenly_spread_and_end_with_the_last_step(run, tmp_path):
    result, _ = run(tmp_path, validate=lambda encoder: 0.0, evaluations=4)
    steps = [evaluation.step for evaluation in result.evaluations]
    assert steps[0] == 0
    assert steps[-1] == result.steps
    gaps = [after - before for before, after in pairwise(steps)]
    assert len(gaps) == 4
    assert max(gaps) - min(gaps) <= 1


def test_held_out_examples_are_never_trained_on(tiny_checkpoint, tiny_data, tmp_path):
    checkpoint = tiny_checkpoint()
    objective = build_objective(MaskedLanguageConfig(), tiny_data, checkpoint, 0)
    config = TrainingConfig(batch_tokens=128, held_out=5)
    some_run = Run(checkpoint.encoder, objective, config, tmp_path, 0, None, RunLog(tmp_path, None))
    trained = {int(i) for _, batch in zip(range(40), some_run.batches(0), strict=False) for i in batch}
    assert trained == set(range(24)) - set(some_run.held_out.tolist())


def test_without_validation_the_held_out_loss_decides(run, tmp_path):
    result, _ = run(tmp_path, held_out=4, evaluations=2)
    assert all(e.score == -e.held_out_loss for e in result.evaluations)
    assert result.kept_score == max(e.score for e in result.evaluations)


def test_more_held_out_than_there_is_gets_one_clear_sentence(run, tmp_path):
    with pytest.raises(CorpusError, match=r"24 training examples and 24 are to be held out"):
        run(tmp_path, held_out=24)


def test_a_finished_run_is_not_repeated(run, tmp_path):
    first, trained = run(tmp_path)
    log = (tmp_path / "log.jsonl").read_bytes()
    told: list = []
    second, loaded = run(tmp_path, report=told.append)
    assert second == first
    assert told == []
    assert (tmp_path / "log.jsonl").read_bytes() == log
    for one, other in zip(trained.parameters(), loaded.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_finished_run_keeps_only_its_last_and_its_best_checkpoint(run, tmp_path):
    result, _ = run(tmp_path, validate=scores_in_turn(0.1, 0.9, 0.2, 0.3), evaluations=3, checkpoint_minutes=0)
    kept = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert kept == [f"step-{step:08d}" for step in (result.kept_step, result.steps)]


@pytest.mark.parametrize("change", [{"tokens": 999}, {"seed": 4}, {"learning_rate": 0.1}, {"held_out": 2}])
def test_a_folder_with_another_run_is_refused(run, tmp_path, change):
    run(tmp_path)
    with pytest.raises(ArtefactError, match="holds a training run with another"):
        run(tmp_path, **change)


def test_a_damaged_plan_is_named(run, tmp_path):
    run(tmp_path)
    (tmp_path / "plan.json").write_text("{}")
    with pytest.raises(ArtefactError, match=r"plan\.json is damaged"):
        run(tmp_path)


def test_a_loss_that_is_no_number_stops_with_a_remedy(run, tmp_path, monkeypatch):
    from corpusmith.objective.masked_language import MaskedLanguage

    real = MaskedLanguage.loss

    def diverging(self, encoder, batch) -> Loss:
        loss = real(self, encoder, batch)
        return Loss(loss.total * math.nan, loss.weight, loss.parts)

    monkeypatch.setattr(MaskedLanguage, "loss", diverging)
    with pytest.raises(CorpusmithError, match=r"diverged in step 1: the loss is nan.*lower training\.learning_rate"):
        run(tmp_path)


def test_a_validation_that_is_no_number_stops(run, tmp_path):
    with pytest.raises(CorpusmithError, match="evaluation after step 0 gave nan"):
        run(tmp_path, validate=lambda encoder: math.nan)


def test_a_folder_that_cannot_be_made_is_named(run, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(MachineError, match="part of that path is a file"):
        run(tmp_path / "file" / "run")


def test_bf16_is_asked_of_the_encoder_during_training_only(run, tmp_path):
    seen: list[torch.dtype] = []

    def validate(encoder) -> float:
        seen.append(encoder.compute_dtype)
        return 0.0

    _, encoder = run(tmp_path, precision="bf16", validate=validate, evaluations=1, tokens=300)
    assert set(seen) == {torch.bfloat16}
    assert encoder.compute_dtype == torch.float32
    assert all(parameter.dtype == torch.float32 for parameter in encoder.parameters())


def test_records_come_in_the_order_of_events(run, tmp_path):
    told: list = []
    run(tmp_path, validate=lambda encoder: 0.0, evaluations=1, tokens=300, report=told.append)
    kinds = [type(record) for record in told]
    assert kinds[0] is kinds[-1] is Evaluation
    assert set(kinds[1:-1]) == {StepRecord}
