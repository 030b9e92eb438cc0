"""Several models become one in a folder that others can use."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from tests.growth.test_align import shuffled
from tests.test_pipeline import recipe_for

from corpusmith import cli
from corpusmith.artefact import open_artefact
from corpusmith.errors import MachineError, ModelError, RecipeError
from corpusmith.evaluation.compare import DECIDING_MEASURE, System, run_systems
from corpusmith.evaluation.validator import PLAIN_FUSION
from corpusmith.growth.merge import check_alike
from corpusmith.growth.weights import weights_of
from corpusmith.locks import locked_file
from corpusmith.model.checkpoint import Checkpoint
from corpusmith.model.heads import MaskedLanguageHead
from corpusmith.model.huggingface import export_checkpoint, load_checkpoint
from corpusmith.pipeline import build, merge, merging
from corpusmith.pipeline.chain import Silent
from corpusmith.pipeline.workspace import Workspace
from corpusmith.recipe import read_recipe
from corpusmith.retrieval.encoding import make_retriever

TEXTS = ["blood pressure in the arteries", "the court dismissed the appeal", "the wing produces lift"]


class Listening(Silent):
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture
def near(base_model: Path, tmp_path: Path) -> Callable[..., Path]:
    """Exports a model near the base, its weights moved by `size` along a direction of the seed's."""

    def make(seed: int, size: float = 0.02, with_head: bool = True) -> Path:
        made = load_checkpoint(base_model)
        made.head = MaskedLanguageHead(made.encoder.config, torch.Generator().manual_seed(0)) if with_head else None
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in (*made.encoder.parameters(), *(made.head.parameters() if made.head else ())):
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=size)
        return exported(made, tmp_path / f"near-{seed}")

    return make


@pytest.fixture(scope="module")
def judge(base_model: Path, documents: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished build with held-out queries, without training."""
    out = tmp_path_factory.mktemp("judge") / "out"
    build(documents, recipe=recipe_for(base_model, stages=False, search={}), out=out)
    return out


def exported(checkpoint: Checkpoint, folder: Path) -> Path:
    folder.mkdir()
    export_checkpoint(checkpoint, folder, with_head=checkpoint.head is not None)
    return folder


def weights(folder: Path) -> dict[str, torch.Tensor]:
    checkpoint = load_checkpoint(folder)
    return weights_of(checkpoint.encoder, checkpoint.head)


def encoded(folder: Path) -> np.ndarray:
    return make_retriever(load_checkpoint(folder), "float32").encode(TEXTS)


def test_the_mean_is_written_with_its_head_and_others_can_load_it(near: Callable[..., Path], tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    models = [near(1), near(2)]
    result = merge(models, tmp_path / "deep" / "out")
    first, second = map(weights, models)
    for name, tensor in weights(result.folder).items():
        torch.testing.assert_close(tensor, (first[name] + second[name]) / 2)
    _, info = transformers.AutoModelForMaskedLM.from_pretrained(result.folder, output_loading_info=True)
    assert not info["missing_keys"]
    theirs = SentenceTransformer(str(result.folder), device="cpu").encode(TEXTS)
    np.testing.assert_allclose(theirs, encoded(result.folder), atol=1e-4)
    manifest = open_artefact(result.folder, "merge")
    assert list(manifest.parents) == [str(model) for model in models]
    assert {path.name for path in (tmp_path / "deep").iterdir()} == {"out"}


def test_a_head_that_one_model_lacks_is_left_out(near: Callable[..., Path], tmp_path: Path) -> None:
    merge([near(1), near(2, with_head=False)], tmp_path / "out")
    assert load_checkpoint(tmp_path / "out").head is None


def test_a_build_gives_its_model(near: Callable[..., Path], judge: Path, tmp_path: Path) -> None:
    merge([judge, near(1, with_head=False)], tmp_path / "out")
    merge([judge / "model", tmp_path / "near-1"], tmp_path / "same")
    assert all(torch.equal(w, weights(tmp_path / "same")[name]) for name, w in weights(tmp_path / "out").items())


def test_aligned_models_that_differ_in_order_alone_merge_to_what_they_are(
    near: Callable[..., Path], tmp_path: Path
) -> None:
    first = near(1)
    second = exported(shuffled(load_checkpoint(first)), tmp_path / "shuffled")
    merge([first, second], tmp_path / "aligned", align=True)
    merge([first, second], tmp_path / "plain")
    np.testing.assert_allclose(encoded(tmp_path / "aligned"), encoded(first), atol=1e-5)
    assert np.abs(encoded(tmp_path / "plain") - encoded(first)).max() > 1e-3


def test_a_greedy_soup_is_judged_by_dense_search_on_held_out_queries(
    near: Callable[..., Path], judge: Path, tmp_path: Path
) -> None:
    models, watcher = [near(1, 0.5), judge, near(2, with_head=False)], Listening()
    result = merge(models, tmp_path / "out", greedy=judge, watcher=watcher)
    names = [str(model) for model in models]
    scores = dict(result.scores)
    assert [name for name, _ in result.scores][:3] == names
    assert len(result.scores) == 5  # the mixtures with the second and the third best
    assert result.taken[0] == max(names, key=lambda name: scores[name])
    for name, score in result.scores:
        assert f"  {score:.4f} nDCG@10: {name}" in watcher.said
    reached = scores[result.taken[0]]
    expected = {result.taken[0]}
    for name, score in result.scores[3:]:
        if score >= reached:
            reached = score
            expected = {part for part in names if part in name}
    assert set(result.taken) == expected
    assert open_artefact(result.folder).facts["taken"] == list(result.taken)

    work = Workspace([], read_recipe(judge / "recipe.toml"), judge, Silent())
    system = System("base", "", work.engine("base", "heldout"), "dense", PLAIN_FUSION, False)
    ids = work.corpus.document_ids
    measured = run_systems([system], work.heldout.query_set("validation", ids), ids)["base"]
    assert scores[str(judge)] == pytest.approx(measured.mean(DECIDING_MEASURE), abs=2e-3)


def test_a_model_that_may_have_seen_the_judging_documents_is_named(
    base_model: Path, documents: Path, judge: Path, tmp_path: Path
) -> None:
    build(documents, recipe=recipe_for(base_model, stages=False, search={}, seed=5), out=tmp_path / "other")
    watcher = Listening()
    merge([judge, tmp_path / "other"], tmp_path / "out", greedy=judge, watcher=watcher)
    (warning,) = [line for line in watcher.said if "held out other documents" in line]
    assert str(tmp_path / "other") in warning


def test_the_command_says_what_was_taken(
    near: Callable[..., Path],
    judge: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    arguments = ["merge", near(1), near(2), "--align", "--greedy", judge, "--out", out]
    monkeypatch.setattr("sys.argv", ["corpusmith", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    printed = capsys.readouterr()
    assert (ended.value.code, printed.err) == (0, "")
    assert "nDCG@10: " in printed.out
    assert "of 2 models taken: " in printed.out
    assert str(out) in printed.out.splitlines()[-1]


def test_an_interrupted_merge_leaves_nothing_and_the_next_one_stands(
    near: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(checkpoint: Checkpoint, folder: Path, with_head: bool) -> None:
        export_checkpoint(checkpoint, folder, with_head)
        raise KeyboardInterrupt

    models = [near(1), near(2)]
    before = set(tmp_path.iterdir())
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(merging, "export_checkpoint", interrupted)
        merge(models, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    merge(models, tmp_path / "out")
    assert set(tmp_path.iterdir()) == before | {tmp_path / "out"}


def test_a_second_merge_into_the_same_folder_is_refused(near: Callable[..., Path], tmp_path: Path) -> None:
    models = [near(1), near(2)]
    with locked_file(tmp_path / "out"), pytest.raises(MachineError, match="another command is writing"):
        merge(models, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_another_merge_has_filled_meanwhile_is_not_replaced(
    near: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def overtaken(checkpoints: Sequence[Checkpoint]) -> None:
        check_alike(checkpoints)
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "model.safetensors").write_text("of the other merge")

    models = [near(1), near(2)]
    before = set(tmp_path.iterdir())
    monkeypatch.setattr(merging, "check_alike", overtaken)
    with pytest.raises(RecipeError, match="not empty"):
        merge(models, tmp_path / "out")
    assert (tmp_path / "out" / "model.safetensors").read_text() == "of the other merge"
    assert set(tmp_path.iterdir()) == before | {tmp_path / "out"}


def test_a_merge_that_cannot_take_its_place_leaves_nothing_beside_it(
    near: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models, out = [near(1), near(2)], tmp_path / "out"
    out.mkdir()
    before, rename = set(tmp_path.iterdir()), Path.rename

    def mounted(path: Path, target: Path) -> Path:
        if path == out:
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), str(path))
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", mounted)
    with pytest.raises(MachineError, match="mounted"):
        merge(models, out)
    assert set(tmp_path.iterdir()) == before


def test_models_that_make_their_vectors_differently_are_refused(near: Callable[..., Path], tmp_path: Path) -> None:
    other = exported(replace(load_checkpoint(near(1)), pooling="cls"), tmp_path / "other")
    with pytest.raises(ModelError, match="vectors differently"):
        merge([near(2), other], tmp_path / "out")
    assert not (tmp_path / "out").exists()
