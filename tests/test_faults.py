"""Killed, refused and damaged, in short; the long versions are benchmarks (docs/reliability.md)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks.faults.launcher import can_interpose

ROOT = Path(__file__).parents[1]
KINDS = ("electra", "retromae", "contrastive", "contriever", "sum")
"""One of each way to have a state of one's own: a generator, a decoder, none, a momentum encoder and a queue, parts."""
pytestmark = pytest.mark.skipif(not can_interpose(), reason="faults are injected on Linux, by a library that cc makes")


def run(name: str, results: Path, *options: str) -> dict:
    """One of the benchmarks; its part of the results."""
    command = [sys.executable, "-m", f"benchmarks.faults.{name}", *options, "--results", str(results)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return json.loads(results.read_text())["parts"][name]


def test_a_build_killed_at_random_moments_ends_with_the_same_bytes(tmp_path: Path) -> None:
    options = ("--together", "--kills", "8", "--tokens", "9000", "--objectives", *KINDS)
    found = run("kills", tmp_path / "results.json", *options)
    assert found["same_bytes"]
    assert len({record["moment"] for record in found["builds"][0]["kills"]}) == 8


def test_whatever_the_disk_refuses_is_one_sentence_and_mended_by_the_next_run(tmp_path: Path) -> None:
    found = run("disk", tmp_path / "results.json", "--every", "37", "--tokens", "3000", "--objectives", "contrastive")
    assert found["faults"] > 5
    assert found["failed"] == []


def test_whatever_happens_to_a_finished_build_is_named_and_mended(tmp_path: Path) -> None:
    options = ("--every", "13", "--tokens", "3000", "--objectives", "contrastive")
    found = run("damage", tmp_path / "results.json", *options)
    assert found["tried"].keys() >= {"truncated", "bit flipped", "deleted", "of the future", "jumping clock"}
    assert found["failed"] == []
