"""What the plan promises before a build."""

from __future__ import annotations

import gzip
import json
import random
import shutil
from pathlib import Path

import pytest

from corpusmith.corpus.config import CorpusConfig
from corpusmith.model.huggingface import load_checkpoint
from corpusmith.pipeline import build
from corpusmith.pipeline.extent import USUAL_BYTES_A_TOKEN, bytes_a_token, file_bytes
from corpusmith.pipeline.plan import make_plan
from corpusmith.recipe import Recipe, parse_recipe, preset
from corpusmith.report.base import PlannedStep
from corpusmith.vocabulary.config import ReplaceConfig
from corpusmith.vocabulary.decide import Decision
from corpusmith.vocabulary.tokenizer import Tokenizer


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
    recipe = preset("default").with_overrides({"model.base": str(base_model), "budget.minutes": 0.1})
    plan = {step["step"]: step for step in make_plan([notes], recipe, tmp_path / "out")}
    assert plan["stage-1"]["seconds"] == plan["trained"]["seconds"] == 0
    assert "nothing will be trained" in plan["stage-1"]["note"]
    enough = planned_stage(base_model, notes, tmp_path / "out", **{"budget.tokens": 1000})
    assert plan["stage-1"]["disk_bytes"] < enough["disk_bytes"]


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


@pytest.fixture(scope="module")
def minilm() -> Tokenizer:
    return load_checkpoint("all-MiniLM-L6-v2").tokenizer


def test_a_language_that_the_vocabulary_does_not_know_has_fewer_bytes_a_token(
    minilm: Tokenizer, sentences: list[str], tmp_path: Path
) -> None:
    (tmp_path / "english.txt").write_text(" ".join(sentences))
    (tmp_path / "laws.txt").write_text("Die Rechtsverordnung bedarf der Zustimmung des Bundesministeriums. " * 20)
    english, laws = (bytes_a_token([tmp_path / f"{name}.txt"], CorpusConfig(), minilm) for name in ("english", "laws"))
    assert laws < 0.7 * english
    assert 4 < english < 5.5


def test_files_that_cannot_be_read_leave_the_usual_number(minilm: Tokenizer, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("{no json\n")
    (tmp_path / "b.jsonl.gz").write_bytes(b"no gzip")
    (tmp_path / "c.txt").write_bytes(bytes(range(256)) * 100)
    (tmp_path / "d.pdf").write_bytes(b"%PDF-")
    (tmp_path / "e.txt").symlink_to(tmp_path / "nowhere")
    assert bytes_a_token([tmp_path], CorpusConfig(), minilm) == USUAL_BYTES_A_TOKEN
    assert file_bytes([tmp_path], CorpusConfig()) > 25_600
    (tmp_path / "f.txt").write_text("Words that can be read after all. " * 10)
    assert bytes_a_token([tmp_path], CorpusConfig(), minilm) != USUAL_BYTES_A_TOKEN


def test_packed_files_count_as_what_they_become(tmp_path: Path) -> None:
    text = b"all of this is said again and again\n" * 300
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(text[:8]))
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(bytes(random.Random(0).choices(text, k=9000))))
    assert file_bytes([tmp_path / "b.txt.gz"], CorpusConfig()) == 9000
    assert file_bytes([tmp_path / "a.txt.gz"], CorpusConfig()) == 3 * (tmp_path / "a.txt.gz").stat().st_size


def test_files_that_are_not_read_cost_no_time_in_the_plan(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("blood " * 100)
    for name in ("film.mp4", "large.txt"):
        with (tmp_path / name).open("wb") as file:
            file.truncate(10**10)
    assert file_bytes([tmp_path], CorpusConfig()) == 600


def test_documents_are_encoded_anew_where_the_base_has_got_other_prompts(
    base_model: Path, notes: Path, tmp_path: Path
) -> None:
    base = shutil.copytree(base_model, tmp_path / "base")
    recipe = preset("search-only").with_overrides({"model.base": str(base)})
    build(notes, recipe=recipe, out=tmp_path / "out")

    def is_reused() -> bool:
        plan = make_plan([notes], recipe, tmp_path / "out")
        return next(step["reused"] for step in plan if step["step"] == "base")

    assert is_reused()
    settings = base / "config_sentence_transformers.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"prompts": {"document": "passage: "}}))
    assert not is_reused()


def start_recipe(base_model: Path, **start: object) -> Recipe:
    stage = {"objective": {"kind": "masked_language"}}
    return parse_recipe({"model": {"base": str(base_model)}, "stages": [stage], "start": start}, "test")


def test_tokens_that_a_vocabulary_saves_shorten_what_comes_after_it(
    base_model: Path, notes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("corpusmith.pipeline.plan.encoding_speed", lambda *_: 1000.0)
    recipe = start_recipe(base_model, vocabulary={"kind": "replace"}).with_overrides({"budget.minutes": 6000})
    found = []
    for saved in (0.0, 0.5):
        decision = Decision(ReplaceConfig(), "measured", 100_000, saved, 100)
        plan = make_plan([notes], recipe, tmp_path / "out", decision)
        found.append({step["step"]: step["seconds"] or 0 for step in plan})
    before, after = found
    assert before["base"] == after["base"] == 100
    assert after["trained"] == pytest.approx(before["trained"] / 2)
    assert after["stage-1"] == pytest.approx(before["stage-1"] / 2)


def test_a_vocabulary_of_a_small_corpus_takes_seconds(base_model: Path, notes: Path, tmp_path: Path) -> None:
    plan = make_plan([notes], start_recipe(base_model, vocabulary={"kind": "replace"}), tmp_path / "out")
    assert 5 <= next(step["seconds"] or 0 for step in plan if step["step"] == "vocabulary") < 6


def test_a_transfer_that_learns_takes_its_time(
    base_model: Path, notes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("corpusmith.pipeline.plan.encoding_speed", lambda *_: 1000.0)
    transfers = [{"kind": "subword"}, {"kind": "distillation"}, {"kind": "distillation", "steps": 600}]
    recipes = [start_recipe(base_model, vocabulary={"kind": "replace"}, transfer=transfer) for transfer in transfers]
    plans = [make_plan([notes], recipe, tmp_path / "out") for recipe in recipes]
    means, learned, longer = (next(s["seconds"] or 0 for s in plan if s["step"] == "vocabulary") for plan in plans)
    assert learned - means > 60
    assert longer - means == pytest.approx(2 * (learned - means))


@pytest.mark.parametrize(("kind", "advised"), [("stack", True), ("interleave", False)])
def test_stacking_comes_with_the_advice_of_those_who_measured_it(
    base_model: Path, notes: Path, tmp_path: Path, kind: str, advised: bool
) -> None:
    recipe = start_recipe(base_model, layers=4, growth=[{"kind": kind}])
    note = next(step["note"] for step in make_plan([notes], recipe, tmp_path / "out") if step["step"] == "growth")
    assert ("Du et al. (2024) first train a model with 4 times fewer layers" in note) == advised
    assert ("5% of the FLOPs" in note) == advised


def test_training_takes_up_the_memory_that_learning_to_grow_has_freed(
    base_model: Path, notes: Path, tmp_path: Path
) -> None:
    width = load_checkpoint(str(base_model)).encoder.config.hidden_size
    found = {}
    for tokens in (2_000, 1_000_000):
        growth = [{"kind": "ligo", "batch_tokens": tokens}]
        recipe = start_recipe(base_model, hidden_size=2 * width, growth=growth)
        found[tokens] = {step["step"]: step["memory_bytes"] for step in make_plan([notes], recipe, tmp_path / "out")}
    assert found[2_000]["stage-1"] > found[2_000]["growth"]
    assert found[1_000_000]["stage-1"] == found[1_000_000]["growth"] > found[2_000]["stage-1"]
