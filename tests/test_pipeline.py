"""The chain end to end, on a corpus and a model made on the spot."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.examples import write_documents, write_queries

import corpusmith
from corpusmith.artefact import open_artefact, read_manifest
from corpusmith.errors import ArtefactError, CorpusError, MachineError, RecipeError
from corpusmith.evaluation.significance import paired_randomisation
from corpusmith.model.heads import MaskedLanguageHead
from corpusmith.model.huggingface import export_checkpoint, load_checkpoint
from corpusmith.pipeline import build
from corpusmith.recipe import Recipe, parse_recipe
from corpusmith.report.base import finding
from corpusmith.retrieval.encoding import make_retriever
from corpusmith.search import load

STAGE = {
    "objective": {"kind": "contrastive", "distillation": 1.0, "teacher_temperature": 0.1},
    "training": {"batch_tokens": 1024, "evaluations": 2, "checkpoint_minutes": 0, "learning_rate": 1e-3},
}


@pytest.fixture(scope="module")
def documents(sentences: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BEIR folder: 150 documents of five sentences, 70 judged train and 10 test queries."""
    folder = tmp_path_factory.mktemp("documents")
    topics = ("heat transfer", "blood pressure", "contract law")

    def title(i: int) -> str:
        return f"Notes on {topics[i % 3]} and {sentences[i % 24].split()[1]} case {i}"

    write_documents(folder / "corpus.jsonl", sentences, 150, title)
    write_queries(folder, {"train": 70, "test": 10}, lambda i: f"number {i} {topics[i % 3]}")
    return folder


def recipe_for(base: Path, *, stages: bool | list[dict] = True, **options: object) -> Recipe:
    content = {
        "name": "test",
        "budget": {"tokens": 20_000},
        "model": {"base": str(base)},
        "pairs": {"per_document": 2, "candidates": 4, "depth": 20},
        "heldout": {"share": 0.5},
        "stages": [STAGE] if stages is True else stages or [],
        "search": {"model": "trained", "sentences": 0.5},
        **options,
    }
    return parse_recipe(content, "test")


@pytest.fixture(scope="module")
def built(base_model: Path, documents: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("built") / "out"
    build(documents, recipe=recipe_for(base_model), out=out)
    return out


def digests(folder: Path) -> dict[str, str]:
    paths = [*folder.glob("steps/*/manifest.json"), *folder.glob("*/manifest.json")]
    return {path.parent.name: read_manifest(path.parent).digest for path in paths}


def test_search_uses_a_smaller_model_inside_the_one_that_was_trained(
    base_model: Path, documents: Path, tmp_path: Path
) -> None:
    from sentence_transformers import SentenceTransformer

    stage = STAGE | {"objective": {"kind": "matryoshka_2d", "dimensions": [8, 16]}}
    search = {"model": "trained", "layers": 1, "dimension": 8}
    content = recipe_for(base_model, search=search).model_dump(mode="json")
    build(documents, recipe=parse_recipe(content | {"stages": [stage]}, "test"), out=tmp_path / "out")
    searcher = load(tmp_path / "out")
    assert searcher.search("heat transfer", k=3)
    vectors = searcher.encode(["heat transfer", "contract law"])
    assert vectors.shape == (2, 8)
    assert np.load(tmp_path / "out" / "index" / "dense" / "vectors.npy").shape[1] == 8
    exported = SentenceTransformer(str(tmp_path / "out" / "model"), device="cpu")
    np.testing.assert_allclose(exported.encode(["heat transfer", "contract law"]), vectors, atol=2e-2)  # bf16, perhaps
    whole = load_checkpoint(tmp_path / "out" / "steps" / "stage-1" / "model")
    assert (whole.encoder.config.layers, whole.dimension) == (2, 32)


def test_a_build_leaves_model_index_report_and_a_whole_chain(built: Path) -> None:
    for name in ("report.html", "summary.json", "recipe.toml"):
        assert (built / name).stat().st_size > 0
    names = {"corpus", "tokens", "heldout", "lexical", "base", "pairs", "stage-1", "trained", "choice", "model"}
    names |= {"kept", "sentences"}
    assert set(digests(built)) == names | {"index", "evaluation"}
    for name in names - {"model"}:
        open_artefact(built / "steps" / name, name)
    summary = json.loads((built / "summary.json").read_text())
    assert [evaluation["kind"] for evaluation in summary["evaluations"]] == ["judged", "known-item"]
    assert summary["training"][0]["steps"] > 0


def test_the_trained_model_alone_is_set_against_the_base_in_a_test_of_its_own(built: Path) -> None:
    summary = json.loads((built / "summary.json").read_text())
    for evaluation in summary["evaluations"]:
        trained, base = (np.array(evaluation["per_query"][key]) for key in ("adapted", "base"))
        alone = evaluation["alone"]
        assert (alone["system"], alone["against"]) == ("adapted", "base")
        assert alone["difference"] == pytest.approx((trained - base).mean(), abs=1e-5)
        assert alone["low"] <= alone["difference"] <= alone["high"]
        assert alone["p"] == alone["p_adjusted"] == pytest.approx(paired_randomisation(trained, base, 0), abs=0.02)
        (said,) = [line for line in summary["verdict"] if evaluation["name"] in line and "as it was" in line]
        assert f"the adapted model alone (trained) scores {alone['difference']:+.3f} nDCG@10" in said
        assert finding(alone) in said


def test_without_training_nothing_is_set_against_the_base(built_notes: Path) -> None:
    summary = json.loads((built_notes / "summary.json").read_text())
    assert summary["evaluations"]
    assert not any("alone" in evaluation for evaluation in summary["evaluations"])
    assert not any("as it was" in line for line in summary["verdict"])


def test_a_build_searches_and_encodes(built: Path) -> None:
    searcher = load(built)
    results = searcher.search("Number 17 ends here", k=5)
    assert [result.rank for result in results] == [1, 2, 3, 4, 5]
    assert results[0].document_id == "d17"
    assert results[0].title.startswith("Notes on")
    vectors = searcher.encode(["blood", "law"])
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert searcher.search("") == []
    assert searcher.search("blood", k=0) == []


def test_training_leaves_the_base_model_as_it_was(
    built: Path, base_model: Path, documents: Path, tmp_path: Path
) -> None:
    untrained = build(documents, recipe=recipe_for(base_model, stages=False), out=tmp_path / "out").summary
    trained = json.loads((built / "summary.json").read_text())
    for before, after in zip(untrained["evaluations"], trained["evaluations"], strict=True):
        for key in ("base", "base-fusion"):
            assert before["per_query"][key] == after["per_query"][key]


def test_nothing_is_trained_where_held_out_queries_could_not_tell_whether_it_helps(
    base_model: Path, documents: Path, tmp_path: Path
) -> None:
    summary = build(documents, recipe=recipe_for(base_model, search={}), out=tmp_path / "out").summary
    assert summary["training"][0]["steps"] == 0
    choice = summary["choices"][0]
    assert (choice["what"], choice["chosen"]) == ("model", "base")
    assert "too few to tell" in choice["reason"]


def test_a_recipe_may_insist_on_the_trained_model(built: Path) -> None:
    summary = json.loads((built / "summary.json").read_text())
    assert (summary["choices"][0]["chosen"], summary["choices"][0]["reason"]) == ("trained", "The recipe asks for it.")


def test_the_same_command_reuses_every_step(built: Path, base_model: Path, documents: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in built.rglob("manifest.json")}
    build(documents, recipe=recipe_for(base_model), out=built)
    assert {path: path.stat().st_mtime_ns for path in built.rglob("manifest.json")} == before


def test_another_option_reruns_only_what_depends_on_it(
    built: Path, base_model: Path, documents: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(built, out)
    before = digests(out)
    build(documents, recipe=recipe_for(base_model, search={"model": "trained", "feedback": 0.75, "late": 0.0}), out=out)
    changed = {name for name, digest in digests(out).items() if before[name] != digest}
    assert changed == {"choice", "model", "index", "evaluation"}
    settings = json.loads((out / "index" / "settings.json").read_text())
    assert (settings["feedback"], settings["smoothing"], settings["late"]) == (0.75, 0.2, 0.0)


def test_another_way_to_encode_rebuilds_vectors_and_what_follows_and_is_remembered_for_queries(
    built: Path, base_model: Path, documents: Path, tmp_path: Path, sentences: list[str]
) -> None:
    out = tmp_path / "out"
    shutil.copytree(built, out)
    before = digests(out)
    build(documents, recipe=recipe_for(base_model, encoding={"method": "float32"}), out=out)
    kept = {name for name, digest in digests(out).items() if before[name] == digest}
    assert kept == {"corpus", "tokens", "heldout", "lexical"}
    expected = make_retriever(load_checkpoint(out / "model"), "float32").encode(sentences)
    assert np.array_equal(load(out).encode(sentences), expected)
    dense = np.load(out / "index" / "dense" / "vectors.npy")
    contents = [passage.content for passage in load(out).corpus.passages()]
    assert dense == pytest.approx(load(out).encode(contents), abs=1e-5)


def test_a_build_says_whether_int8_was_near_enough(base_model: Path, documents: Path, tmp_path: Path) -> None:
    recipe = recipe_for(base_model, stages=False, encoding={"method": "int8", "int8_cosine": 1.0})
    result = build(documents, recipe=recipe, out=tmp_path)
    (sentence,) = [line for line in result.summary["verdict"] if line.startswith("Encoding: auto.")]
    assert sentence.endswith("int8 is not used.")
    assert json.loads((tmp_path / "index" / "encoding.json").read_text())["method"] == "auto"


def test_a_damaged_step_is_named_and_built_again(
    built: Path, base_model: Path, documents: Path, tmp_path: Path
) -> None:
    from corpusmith.pipeline.chain import Silent

    class Listening(Silent):
        def __init__(self) -> None:
            self.said: list[str] = []

        def say(self, text: str) -> None:
            self.said.append(text)

    out = tmp_path / "out"
    shutil.copytree(built, out)
    before = digests(out)
    vectors = out / "steps" / "base" / "vectors.npy"
    content = bytearray(vectors.read_bytes())
    content[-1] ^= 1
    vectors.write_bytes(content)
    watcher = Listening()
    build(documents, recipe=recipe_for(base_model), out=out, watcher=watcher)
    assert any("vectors.npy" in sentence for sentence in watcher.said)
    assert digests(out) == before


def test_a_damaged_index_is_never_searched(built: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(built, out)
    vectors = out / "index" / "dense" / "vectors.npy"
    vectors.write_bytes(vectors.read_bytes()[:-4])
    with pytest.raises(ArtefactError, match=r"vectors\.npy"):
        load(out)


def test_a_build_killed_again_and_again_ends_with_the_same_bytes(
    built: Path, base_model: Path, documents: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    script = tmp_path / "run.py"
    script.write_text(
        "import sys, torch; torch.set_num_threads(1)\n"
        "from pathlib import Path\n"
        "from corpusmith.pipeline import build\nfrom corpusmith.recipe import read_recipe\n"
        "build(sys.argv[1], recipe=read_recipe(Path(sys.argv[2])), out=sys.argv[3])\n"
    )
    command = [sys.executable, str(script), str(documents), str(built / "recipe.toml"), str(out)]
    training = "steps/.stage-1.partial/run/checkpoints"
    for mark in ("steps/.base.partial", training, "steps/.trained.partial", ".index.partial"):
        process = subprocess.Popen(command, env=os.environ | {"PYTHONWARNINGS": "ignore"})
        while process.poll() is None and not (out / mark).exists():
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
    subprocess.run(command, check=True)
    assert digests(out) == digests(built)


def test_a_stage_with_a_budget_of_its_own_is_reused_when_others_follow(
    base_model: Path, documents: Path, tmp_path: Path
) -> None:
    first = {"objective": {"kind": "retromae"}, "training": STAGE["training"], "budget": {"tokens": 8000}}
    build(documents, recipe=recipe_for(base_model, stages=[first]), out=tmp_path / "out")
    before = digests(tmp_path / "out")["stage-1"]
    stamp = (tmp_path / "out/steps/stage-1/manifest.json").stat().st_mtime_ns
    recipe = recipe_for(base_model, stages=[first, STAGE], budget={"tokens": 5000})
    summary = build(documents, recipe=recipe, out=tmp_path / "out").summary
    assert digests(tmp_path / "out")["stage-1"] == before
    assert (tmp_path / "out/steps/stage-1/manifest.json").stat().st_mtime_ns == stamp
    assert [round(stage["tokens"], -3) for stage in summary["training"]] == [8000, 5000]


def test_a_stage_that_shares_the_budget_is_trained_anew_when_its_share_changes(
    base_model: Path, documents: Path, tmp_path: Path
) -> None:
    build(documents, recipe=recipe_for(base_model), out=tmp_path / "out")
    summary = build(documents, recipe=recipe_for(base_model, stages=[STAGE, STAGE]), out=tmp_path / "out").summary
    assert summary["training"][0]["tokens"] == pytest.approx(10_000, rel=0.2)


def test_the_seed_of_a_stage_changes_its_training_alone(built: Path, base_model: Path, documents: Path) -> None:
    before = digests(built)
    out = built.parent / "seeded"
    shutil.copytree(built, out)
    build(documents, recipe=recipe_for(base_model, stages=[STAGE | {"seed": 1}]), out=out)
    after = digests(out)
    assert before["stage-1"] != after["stage-1"]
    for name in ("corpus", "tokens", "heldout", "lexical", "base", "pairs"):
        assert before[name] == after[name]


def test_a_base_of_the_same_weights_and_another_architecture_is_another_base(
    base_model: Path, documents: Path, tmp_path: Path
) -> None:
    base = tmp_path / "base"
    shutil.copytree(base_model, base)
    recipe = recipe_for(base, stages=False)
    build(documents, recipe=recipe, out=tmp_path / "out")
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"num_attention_heads": 4, "hidden_act": "relu"}))
    build(documents, recipe=recipe, out=tmp_path / "out")
    build(documents, recipe=recipe, out=tmp_path / "fresh")
    assert digests(tmp_path / "out") == digests(tmp_path / "fresh")


def test_what_search_cuts_off_the_base_counts_for_training_too(
    base_model: Path, documents: Path, tmp_path: Path
) -> None:
    changed = load_checkpoint(base_model)
    with torch.no_grad():
        changed.encoder.layers[1].mlp.up.weight.mul_(3)
    (tmp_path / "base").mkdir()
    found = []
    for checkpoint in (load_checkpoint(base_model), changed):
        export_checkpoint(checkpoint, tmp_path / "base")
        recipe = recipe_for(tmp_path / "base", search={"model": "trained", "layers": 1})
        build(documents, recipe=recipe, out=tmp_path / "out")
        found.append(digests(tmp_path / "out"))
    assert found[0]["base"] == found[1]["base"]
    assert found[0]["stage-1"] != found[1]["stage-1"]


def test_a_student_is_trained_anew_when_its_teacher_is_another_one(
    base_model: Path, documents: Path, tmp_path: Path
) -> None:
    teacher = load_checkpoint(base_model)
    teacher.head = MaskedLanguageHead(teacher.encoder.config)
    (tmp_path / "teacher").mkdir()
    export_checkpoint(teacher, tmp_path / "teacher", with_head=True)
    stage = {"objective": {"kind": "pretrained_distillation", "teacher": str(tmp_path / "teacher")}}
    recipe = recipe_for(base_model, stages=[stage | {"training": STAGE["training"] | {"evaluations": 0}}])
    trained = [build(documents, recipe=recipe, out=tmp_path / "out").summary]
    before = digests(tmp_path / "out")
    with torch.no_grad():
        teacher.encoder.layers[0].mlp.up.weight.mul_(3)
    export_checkpoint(teacher, tmp_path / "teacher", with_head=True)
    trained.append(build(documents, recipe=recipe, out=tmp_path / "out").summary)
    after = digests(tmp_path / "out")
    assert before["stage-1"] != after["stage-1"]
    assert before["base"] == after["base"]
    assert all(summary["training"][0]["objective"] == "pretrained_distillation" for summary in trained)


def test_labels_train_where_the_recipe_asks_for_them(base_model: Path, documents: Path, tmp_path: Path) -> None:
    recipe = recipe_for(base_model, pairs={"source": "labels", "candidates": 4, "depth": 20})
    result = build(documents, recipe=recipe, out=tmp_path / "out")
    assert result.summary["training"][0]["steps"] > 0


def test_labels_are_missed_in_one_sentence(base_model: Path, documents: Path, tmp_path: Path) -> None:
    recipe = recipe_for(base_model, pairs={"source": "labels"})
    with pytest.raises(RecipeError, match=r"train\.tsv"):
        build(documents / "corpus.jsonl", recipe=recipe, out=tmp_path / "out")


@pytest.mark.parametrize("number", [1, 3])
def test_a_corpus_of_few_documents_builds_without_a_claim(
    number: int, base_model: Path, sentences: list[str], tmp_path: Path
) -> None:
    for i in range(number):
        (tmp_path / f"{i}.txt").write_text(" ".join(sentences[3 * i : 3 * i + 3]))
    result = build(tmp_path, recipe=recipe_for(base_model, stages=False), out=tmp_path / "out")
    assert result.summary["evaluations"] == []
    assert "nothing is claimed" in " ".join(result.summary["verdict"])
    assert load(tmp_path / "out").search(sentences[0])[0].document_id == "0.txt"


def test_an_empty_folder_is_one_sentence(base_model: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(CorpusError):
        build(tmp_path / "empty", recipe=recipe_for(base_model), out=tmp_path / "out")


def test_a_second_build_in_the_same_folder_is_refused(base_model: Path, documents: Path, tmp_path: Path) -> None:
    from corpusmith.locks import locked

    script = "import sys; from corpusmith.pipeline import build; build(sys.argv[1], out=sys.argv[2])"
    with locked(tmp_path / "out"):
        done = subprocess.run(
            [sys.executable, "-c", script, str(documents), str(tmp_path / "out")], capture_output=True, text=True
        )
    assert done.returncode != 0
    assert MachineError.__name__ in done.stderr
    assert "another build is running" in done.stderr


def test_importing_corpusmith_imports_nothing_heavy() -> None:
    code = "import sys, corpusmith; print([m for m in ('torch', 'pydantic', 'pyarrow', 'typer') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert corpusmith.__version__


def test_loading_a_model_and_encoding_do_without_the_compiler(base_model: Path) -> None:
    code = (
        "import sys; from corpusmith.model.huggingface import load_checkpoint; "
        "from corpusmith.retrieval.dense import DenseRetriever; "
        "DenseRetriever(load_checkpoint(sys.argv[1])).encode_queries(['blood']); print('torch._dynamo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(base_model)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False", "a second and 80 MB at every start"


def test_linked_documents_are_trained_on_by_their_links_and_searched_by_products(
    base_model: Path, sentences: list[str], tmp_path: Path
) -> None:
    notes = tmp_path / "notes"
    notes.mkdir()
    for i in range(12):
        parts = [" ".join(sentences[(i + j + k) % 24] for k in (0, 7, 13)) for j in range(3)]
        text = (
            f"# Note {i}\n\n{parts[0]} See [the next](note{(i + 1) % 12}.md).\n\n## More\n\n{parts[1]}\n\n{parts[2]}\n"
        )
        (notes / f"note{i}.md").write_text(text)
    objective = {"kind": "ict", "bfs_share": 1.0, "wlp_share": 1.0, "longest_query": 20}
    stage = {"objective": objective, "training": {"batch_tokens": 512, "evaluations": 0}}
    options = {
        "budget": {"tokens": 4000},
        "corpus": {"passage_words": 20, "overlap_words": 0},
        "search": {"model": "trained", "fusion": "product"},
    }
    build(notes, recipe=recipe_for(base_model, stages=[stage], **options), out=tmp_path / "out")
    facts = read_manifest(tmp_path / "out" / "steps" / "stage-1").facts
    assert facts["objective"] == "ict"
    assert facts["steps"] > 2
    searcher = load(tmp_path / "out")
    assert searcher.engine.settings.fusion == "product"
    assert searcher.search(sentences[3])[0].document_id in {"note1.md", "note2.md", "note3.md"}


def test_a_stage_that_cannot_train_says_why_in_the_report_too(
    base_model: Path, documents: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Cut(BaseException):
        """Ends a build at once."""

    def cut(*_: object, **__: object) -> None:
        raise Cut

    recipe = recipe_for(base_model, budget={"minutes": 0.1})
    with monkeypatch.context() as patched, pytest.raises(Cut):
        patched.setattr("corpusmith.pipeline.train.export_checkpoint", cut)
        build(documents, recipe=recipe, out=tmp_path / "out")
    (training,) = build(documents, recipe=recipe, out=tmp_path / "out").summary["training"]
    assert training["note"] == "No time is left to train in this budget; nothing is trained."
    assert training["objective"] == "contrastive"


def test_a_share_that_the_documents_cannot_give_is_one_sentence(
    base_model: Path, documents: Path, tmp_path: Path
) -> None:
    stage = {"objective": {"kind": "ict", "wlp_share": 0.5}}
    with pytest.raises(CorpusError, match="the corpus has no links between the documents"):
        build(documents, recipe=recipe_for(base_model, stages=[stage]), out=tmp_path / "out")
