"""What growing saves: the arithmetic of curves, and one way measured from end to end."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from benchmarks.claims import growth
from benchmarks.claims.growth import COUNTED, Form, Harness, Way, as_good, flops_to_reach

LARGE = {"hidden_size": 32, "layers": 4, "heads": 2, "intermediate_size": 64}


def test_a_loss_is_reached_between_evaluations() -> None:
    curve = [(0.0, 8.0), (10.0, 6.0), (20.0, 5.0)]
    assert flops_to_reach(curve, 7.0) == 5.0
    assert flops_to_reach(curve, 5.5) == 15.0
    assert flops_to_reach(curve, 9.0) == 0.0
    assert flops_to_reach(curve, 4.0) is None


def test_what_is_never_as_good_has_saved_less_than_nothing() -> None:
    scratch = [(0.0, 8.0), (10.0, 6.0), (20.0, 5.0)]
    assert as_good([(0.0, 8.0), (10.0, 5.0), (20.0, 4.0)], scratch) == (10.0, 20.0, True)
    assert as_good([(0.0, 8.0), (20.0, 5.5)], scratch) == (20.0, 15.0, False)
    assert as_good([(0.0, 9.0), (20.0, 8.5)], scratch) == (20.0, 10.0, False)


def test_a_way_is_measured_against_the_large_model_from_scratch(
    sentences: list[str], base_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "pretrain").mkdir()
    with gzip.open(tmp_path / "pretrain" / "tiny.jsonl.gz", "wt") as file:
        for i in range(80):
            text = " ".join(sentences[j] for j in rng.permutation(len(sentences))) + f" Number {i} ends here."
            file.write(json.dumps({"id": str(i), "title": f"Case {i}", "text": text}) + "\n")
    monkeypatch.setattr(growth, "TOKENIZER", str(base_model))
    monkeypatch.setattr(growth, "HELD_OUT", 8)
    form = Form("tiny", "tiny", 80, LARGE, 300, 2, 4e9, 512, 1e-3, 4)
    harness = Harness(tmp_path, tmp_path / "work", form)
    (tmp_path / "work").mkdir()
    found = harness.measure("stack", Way({"layers": 0.5}, ({"kind": "stack"},), 0.25, "", counted=True))
    assert len(found["by_seed"]) == 2
    for seed in found["by_seed"]:
        assert seed["scratch"][-1][0] == pytest.approx(4e9, rel=0.3)
        assert seed["source_flops"] == pytest.approx(1e9, rel=0.3)
        without, counted = (seed["saved"][name] for name in COUNTED)
        _, theirs, _ = as_good(seed["grown"], seed["scratch"])
        assert without - counted == pytest.approx(seed["source_flops"] / theirs)
    interval = found[COUNTED[1]]
    assert interval["low"] <= interval["mean"] <= interval["high"]
