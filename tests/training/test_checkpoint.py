from __future__ import annotations

import pytest
import torch
from safetensors import SafetensorError

from corpusmith.errors import ArtefactError, MachineError
from corpusmith.objective.config import MaskedLanguageConfig
from corpusmith.objective.registry import build_objective
from corpusmith.training import checkpoint as module
from corpusmith.training.checkpoint import CheckpointFolder, Progress, TrainingState
from corpusmith.training.config import TrainingConfig
from corpusmith.training.optimiser import build_optimiser, named_parameters


@pytest.fixture
def make_state(tiny_checkpoint, tiny_data):
    def make(steps: int = 0, **choices) -> TrainingState:
        checkpoint = tiny_checkpoint(**choices)
        objective = build_objective(MaskedLanguageConfig(), tiny_data, checkpoint, 0)
        optimiser = build_optimiser(checkpoint.encoder, objective, TrainingConfig(learning_rate=0.01))
        parameters = named_parameters(checkpoint.encoder, objective)
        for _ in range(steps):
            for parameter in parameters.values():
                parameter.grad = torch.ones_like(parameter)
            optimiser.step()
        return TrainingState(checkpoint.encoder, objective, optimiser, parameters)

    return make


@pytest.fixture
def folder(tmp_path) -> CheckpointFolder:
    return CheckpointFolder(tmp_path, pytest.fail)


def test_what_is_saved_is_what_is_loaded_bit_for_bit(make_state, folder):
    trained, fresh = make_state(steps=3), make_state()
    progress = Progress(3, 100, 2.5e9, 17, [(0, 0.1, None), (3, 0.2, 1.5)], 3)
    folder.save(trained, progress)
    assert folder.load_latest(fresh) == progress
    for found, expected in ((fresh.weights(), trained.weights()), (fresh.moments(), trained.moments())):
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_there_is_nothing_to_load_in_an_empty_folder(make_state, folder):
    assert folder.load_latest(make_state()) is None


def test_the_newest_two_and_the_best_are_kept(make_state, folder, tmp_path):
    for step in range(6):
        folder.save(make_state(), Progress(step, best_step=1 if step else 0))
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"step-{step:08d}" for step in (1, 4, 5)]


def test_a_checkpoint_whose_best_one_is_gone_is_not_used(make_state, folder, tmp_path):
    for step in (1, 2):
        folder.save(make_state(), Progress(step, best_step=1))
    (tmp_path / "step-00000001").rename(tmp_path / "elsewhere")
    assert folder.load_latest(make_state()) is None


def test_nothing_but_safetensors_and_json_is_written(make_state, folder, tmp_path):
    folder.save(make_state(steps=1), Progress(1))
    assert {path.suffix for path in tmp_path.rglob("*") if path.is_file()} == {".safetensors", ".json"}


def test_a_full_disk_is_named_and_the_earlier_checkpoint_stays(make_state, folder, tmp_path, monkeypatch):
    folder.save(make_state(steps=1), Progress(1))

    def full(*_: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(module, "save_file", full)
    with pytest.raises(MachineError, match="step-00000002: the disk is full"):
        folder.save(make_state(steps=2), Progress(2))
    assert folder.load_latest(make_state()) == Progress(1)


def test_what_an_interrupted_save_left_behind_is_removed_by_the_next(make_state, folder, tmp_path):
    (tmp_path / ".step-00000001.partial").mkdir()
    folder.save(make_state(), Progress(2))
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000002"]


def test_weights_of_another_model_are_refused_by_name(make_state, folder, tiny_checkpoint):
    from dataclasses import replace

    from corpusmith.model.encoder import Encoder

    folder.save(make_state(), Progress(1))
    deeper = Encoder(replace(tiny_checkpoint().encoder.config, layers=3))
    with pytest.raises(ArtefactError, match=r"another model or objective \(encoder\.layers\.2"):
        folder.load_latest(make_state(encoder=deeper))
