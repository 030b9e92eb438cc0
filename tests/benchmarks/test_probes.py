"""Linear probes: what counts as an entity, whose states a word gets, and that a probe finds what is there."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from benchmarks.claims import probes, vocabularies
from benchmarks.claims.probes import Task, entities, entity_f1, predictions, read_sentences, word_states

from corpusmith.model.checkpoint import Checkpoint
from corpusmith.model.huggingface import load_checkpoint


@pytest.fixture(scope="module")
def checkpoint(base_model: Path) -> Checkpoint:
    return load_checkpoint(str(base_model))


@pytest.fixture(scope="module")
def data(sentences: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sentences whose articles are entities, texts whose class is their first word's, a judged collection, a corpus."""
    folder = tmp_path_factory.mktemp("data")
    for kind in ("ner/words", "classification/texts", "pretrain"):
        (folder / kind).mkdir(parents=True)
    rng = np.random.default_rng(0)
    tagged = [[(word, "B-S" if word in ("The", "the") else "O") for word in s.rstrip(".").split()] for s in sentences]
    for split in ("train", "test"):
        lines = ["".join(f"{word}\t{tag}\n" for word, tag in sentence) for sentence in tagged]
        (folder / "ner" / "words" / f"{split}.tsv").write_text("\n".join(lines))
        records = [json.dumps({"id": str(i), "text": s, "label": s.split()[0]}) for i, s in enumerate(sentences)]
        (folder / "classification" / "texts" / f"{split}.jsonl").write_text("\n".join(records))
    known = folder / "retrieval" / "known"
    (known / "qrels").mkdir(parents=True)
    records = [json.dumps({"_id": f"d{i}", "title": "", "text": text}) for i, text in enumerate(sentences)]
    (known / "corpus.jsonl").write_text("\n".join(records))
    asked = [json.dumps({"_id": f"q{i}", "text": text}) for i, text in enumerate(sentences)]
    (known / "queries.jsonl").write_text("\n".join(asked))
    judged = ["query-id\tcorpus-id\tscore", *(f"q{i}\td{i}\t1" for i in range(len(sentences)))]
    (known / "qrels" / "test.tsv").write_text("\n".join(judged))
    documents = []
    for i in range(150):
        parts = [" ".join(sentences[j] for j in rng.permutation(len(sentences))[:4]) for _ in range(3)]
        text = f"Number {i} ends.\n\n" + "\n\n".join(parts)
        documents.append({"id": str(i), "title": f"Case {chr(97 + i % 26)}{i}", "text": text})
    with gzip.open(folder / "pretrain" / "tiny.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(document) + "\n" for document in documents)
    return folder


def test_entities_are_runs_of_one_type() -> None:
    tags = ["B-a", "I-a", "O", "I-b", "I-a", "B-a", "B-a"]
    assert list(entities(tags)) == [(0, 2, "a"), (3, 4, "b"), (4, 5, "a"), (5, 6, "a"), (6, 7, "a")]


def test_an_entity_counts_only_as_a_whole() -> None:
    assert entity_f1(["B-a", "I-a", "O"], ["B-a", "I-a", "O"]) == 1.0
    assert entity_f1(["B-a", "O", "B-a"], ["B-a", "I-a", "B-a"]) == 0.5
    assert entity_f1(["O"], ["O"]) == 1.0
    assert entity_f1(["B-a"], ["O"]) == 0.0


def test_sentences_are_parted_by_blank_lines() -> None:
    assert list(read_sentences(iter(["a\tO\n", "b\tB-x\n", "\n", "\n", "c\tO\n"]))) == [
        (("a", "b"), ("O", "B-x")),
        (("c",), ("O",)),
    ]


def test_each_word_has_the_mean_of_its_pieces_and_what_does_not_fit_none(checkpoint: Checkpoint) -> None:
    words = ["the", "heart", "pumps", "zzzqqq", "blood"]
    (states,) = word_states(checkpoint, [words])
    assert states.shape == (5, checkpoint.dimension)
    assert np.abs(states).sum(axis=1).min() > 0
    (cut,) = word_states(checkpoint, [["blood"] * (checkpoint.max_tokens + 3)])
    assert (np.abs(cut).sum(axis=1) > 0).sum() == checkpoint.max_tokens - 2
    (alone, _) = word_states(checkpoint, [words[:2], words * 3])
    assert np.allclose(alone, word_states(checkpoint, [words[:2]])[0], atol=1e-5)


def test_a_probe_finds_what_is_linear_in_the_states() -> None:
    rng = np.random.default_rng(0)
    states = rng.normal(size=(400, 8)).astype(np.float32)
    classes = states[:, :3].argmax(axis=1)
    assert (predictions(states[:300], classes[:300], states[300:]) == classes[300:]).mean() > 0.9


def test_tasks_are_learned_from_what_they_are_fitted_on(data: Path, checkpoint: Checkpoint, tmp_path: Path) -> None:
    tags = Task("words", "tags").values(data, checkpoint, tmp_path)
    classes = Task("texts", "classes").values(data, checkpoint, tmp_path)
    assert len(tags) == len(classes) == 24
    assert tags.mean() > 0.8
    assert classes.mean() > 0.8


def test_a_collection_is_searched_by_the_models_vectors(data: Path, checkpoint: Checkpoint, tmp_path: Path) -> None:
    values = Task("known", "search").values(data, checkpoint, tmp_path)
    assert len(values) == 24
    assert values.mean() > 0.95  # every text finds itself


def test_starts_are_compared_by_search_and_by_tasks(
    data: Path, base_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    form = vocabularies.Form("tiny", ("tiny",), (), 100_000, None, 2, 2e9)
    pieces = {"vocabulary": {"kind": "extend", "pieces": 20}, "transfer": {"kind": "distillation", "steps": 4}}
    training = vocabularies.STAGE["training"] | {"held_out": 8, "evaluations": 2, "batch_tokens": 512}
    recipe = {"model": {"base": str(base_model)}, "stages": [vocabularies.STAGE | {"training": training}]}
    monkeypatch.setattr(vocabularies, "RECIPE", vocabularies.RECIPE | recipe)
    monkeypatch.setattr(vocabularies, "STARTS", {"keep": {}, "extend": pieces})
    tasks = (Task("words", "tags"), Task("texts", "classes"), Task("known", "search"))
    monkeypatch.setattr(vocabularies, "TASKS", {"tiny": tasks})
    found = vocabularies.run(data, tmp_path / "work", form, "tiny")
    assert found["settings"] == vocabularies.settings(form, "tiny")
    ends = {name: [curve[-1][0] for curve in curves] for name, curves in found["curves"].items()}
    assert np.mean(ends["keep"]) == pytest.approx(2e9, rel=0.2)
    assert max(ends["extend"]) < 0.98 * min(ends["keep"])  # its transfer has spent some of it
    claim = vocabularies.CLAIMS["extension"]
    for by_task, names in ((False, {"tiny"}), (True, {"words (tiny)", "texts (tiny)", "known (tiny)"})):
        judged = vocabularies.judge(claim, {"tiny": found}, tasks=by_task)
        assert set(judged["by_name"]) == names
        assert judged["pooled"]["low"] <= judged["pooled"]["difference"] <= judged["pooled"]["high"]
    monkeypatch.setattr(probes, "tag_values", None)  # what is there is not asked again
    assert vocabularies.run(data, tmp_path / "work", form, "tiny")["tasks"] == found["tasks"]


def test_a_corpus_is_asked_for_the_starts_of_its_claims() -> None:
    form = vocabularies.QUICK
    assert set(vocabularies.asked(form, "medquad")) == set(vocabularies.STARTS)
    assert set(vocabularies.STARTS) - set(vocabularies.asked(form, "gesetze")) == {"wechsel", "ofa"}
    assert set(vocabularies.asked(form, "contracts")) == {"keep", "extend", "focus"}


def test_a_claim_is_judged_by_the_corpora_that_were_asked_for_it() -> None:
    both, one = (
        {name: [[0.5, 0.6], [0.5, 0.6]] for name in names} for names in (("keep", "extend", "focus"), ("keep",))
    )
    parts = {name: {"values": values, "tasks": {}} for name, values in {"both": both, "one": one}.items()}
    assert set(vocabularies.judge(vocabularies.CLAIMS["extension"], parts)["by_name"]) == {"both"}
