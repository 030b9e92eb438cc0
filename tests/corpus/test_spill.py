"""What lies on the disk is found as if it were in memory: a dictionary is the oracle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpusmith.corpus import spill
from corpusmith.corpus.spill import HashIndex, Spool, Strings, StringSet


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a few hundred pairs pass through every level."""
    monkeypatch.setattr(spill, "RECENT_PAIRS", 16)
    monkeypatch.setattr(spill, "MERGED_AT_ONCE", 40)
    monkeypatch.setattr(spill, "TAIL_BYTES", 50)


@pytest.mark.usefixtures("small_steps")
def test_numbers_are_found_under_their_hashes_in_every_run(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pool = rng.integers(2**64, size=300, dtype=np.uint64)  # few enough to come again in several runs
    index, oracle = HashIndex(tmp_path), {}
    for number in range(1500):
        hashes = np.unique(rng.choice(pool, 5))
        index.add(hashes, number)
        for value in hashes.tolist():
            oracle.setdefault(value, set()).add(number)
    for value in pool:
        assert index.find(np.array([value])).tolist() == sorted(oracle.get(int(value), ()))
    several = pool[:7]
    assert index.find(several).tolist() == sorted(set().union(*(oracle.get(int(value), ()) for value in several)))
    assert len(index.find(rng.integers(2**64, size=50, dtype=np.uint64))) == 0


@pytest.mark.usefixtures("small_steps")
def test_merged_runs_leave_no_files_behind(tmp_path: Path) -> None:
    index = HashIndex(tmp_path)
    for number in range(16 * spill.FAN_IN**2):
        index.add(np.array([number * 0x9E3779B97F4A7C15 % 2**64], dtype=np.uint64), number)
    assert len(list(tmp_path.iterdir())) == 2  # one run: hashes and numbers


@pytest.mark.usefixtures("small_steps")
def test_strings_come_back_from_the_disk_and_from_the_tail(tmp_path: Path) -> None:
    strings = Strings(tmp_path / "strings")
    written = ["", "a", "häßlich", "x" * 200, "猫\n\0", *map(str, range(100))]
    for string in written:
        strings.append(string)
    assert [strings[number] for number in range(len(strings))] == written


@given(parts=st.lists(st.binary(max_size=80), max_size=30))
def test_bytes_come_back_from_their_offsets(parts: list[bytes], tmp_path_factory: pytest.TempPathFactory) -> None:
    spool = Spool(tmp_path_factory.getbasetemp() / "spool")
    offsets = [spool.append(part) for part in parts]
    assert [spool.read(offset, len(part)) for offset, part in zip(offsets, parts, strict=True)] == parts
    spool.close()


def test_a_set_of_strings_knows_its_own(tmp_path: Path) -> None:
    found = StringSet(tmp_path)
    for string in ("", "a", "../../x"):
        assert string not in found
        found.add(string)
        assert string in found
    assert "b" not in found
