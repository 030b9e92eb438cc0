"""Artefacts are whole or absent, and damage is named."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpusmith import artefact
from corpusmith.digests import seal, unseal
from corpusmith.errors import ArtefactError, MachineError, NewerArtefactError
from corpusmith.locks import locked


def make(folder: Path, text: str = "hello", config: dict | None = None, *, resumable: bool = False) -> None:
    with artefact.writing(folder, "letters", config or {}, {"parent": "abc"}, seed=1, resumable=resumable) as draft:
        (draft.folder / "deep").mkdir(exist_ok=True)
        (draft.folder / "deep" / "a.txt").write_text(text)
        draft.cost["tokens"] = 5


def test_a_written_artefact_opens_with_its_manifest(tmp_path: Path) -> None:
    make(tmp_path / "a")
    manifest = artefact.open_artefact(tmp_path / "a", "letters")
    assert manifest.key == artefact.step_key("letters", {}, {"parent": "abc"}, 1)
    assert list(manifest.files) == ["deep/a.txt"]
    assert manifest.cost == {"tokens": 5}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a"]


def test_the_same_content_has_the_same_digest_and_other_content_another(tmp_path: Path) -> None:
    make(tmp_path / "a")
    make(tmp_path / "b")
    make(tmp_path / "c", "hullo")
    a, b, c = (artefact.read_manifest(tmp_path / name).digest for name in "abc")
    assert a == b != c


def test_what_only_the_machine_determined_does_not_identify_the_content(tmp_path: Path) -> None:
    for name, seconds in (("a", "1.5"), ("b", "2.5")):
        with artefact.writing(tmp_path / name, "letters", {}, {}, seed=1) as draft:
            (draft.folder / "timing").write_text(seconds)
            draft.volatile.add("timing")
    a, b = (artefact.open_artefact(tmp_path / name) for name in "ab")
    assert a.digest == b.digest
    assert a.files != b.files


def test_an_interrupted_artefact_is_absent_and_the_older_one_stays(tmp_path: Path) -> None:
    make(tmp_path / "a", "old")

    def interrupted() -> None:
        with artefact.writing(tmp_path / "a", "letters", {}, {}, seed=2) as draft:
            (draft.folder / "a.txt").write_text("new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert artefact.open_artefact(tmp_path / "a").files
    assert (tmp_path / "a" / "deep" / "a.txt").read_text() == "old"


@pytest.mark.parametrize(("same_key", "kept"), [(True, True), (False, False)])
def test_only_an_attempt_with_the_same_key_is_gone_on_with(tmp_path: Path, same_key: bool, kept: bool) -> None:
    with pytest.raises(RuntimeError), artefact.writing(tmp_path / "a", "x", {}, {}, 1, resumable=True) as draft:
        (draft.folder / "half").write_text("half")
        raise RuntimeError
    with artefact.writing(tmp_path / "a", "x", {}, {}, 1 if same_key else 2, resumable=True) as draft:
        assert (draft.folder / "half").exists() is kept


def test_whose_an_interrupted_attempt_is_is_not_written_anew_where_it_goes_on(tmp_path: Path) -> None:
    """A disk that is full just then would make it nobody's, and what it had done would be removed."""
    marker = tmp_path / ".a.key"
    with pytest.raises(RuntimeError), artefact.writing(tmp_path / "a", "x", {}, {}, 1, resumable=True):
        raise RuntimeError
    before = marker.stat()
    with pytest.raises(RuntimeError), artefact.writing(tmp_path / "a", "x", {}, {}, 1, resumable=True):
        raise RuntimeError
    assert (marker.stat().st_ino, marker.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_an_interrupted_attempt_is_kept_while_the_options_are_others(tmp_path: Path) -> None:
    said: list[str] = []

    def attempt(seed: int) -> set[str]:
        """What is found; `seed` is added, and everything is interrupted."""
        with (
            contextlib.suppress(RuntimeError),
            artefact.writing(tmp_path / "a", "x", {}, {}, seed, resumable=True, say=said.append) as draft,
        ):
            found = {path.name for folder in (draft.folder, draft.scratch) for path in folder.iterdir()}
            for folder in (draft.folder, draft.scratch):
                (folder / f"{seed} in {folder.suffix}").write_text("half")
            raise RuntimeError
        return found

    one, two = ({f"{seed} in .partial", f"{seed} in .scratch"} for seed in (1, 2))
    assert [attempt(seed) for seed in (1, 2, 1, 2, 2)] == [set(), set(), one, two, two]
    assert len(said) == 3
    assert "interrupted with other options" in said[0]
    assert attempt(3) == set()
    assert len(list(tmp_path.glob("a.unfinished-*"))) == 1  # one is kept: that of the second
    assert attempt(1) == set()
    assert attempt(3) == {"3 in .partial", "3 in .scratch"}


@pytest.mark.parametrize(
    "damage",
    [
        lambda file: file.write_text("hellp"),
        lambda file: file.write_text("hel"),
        lambda file: file.unlink(),
    ],
    ids=["flipped", "truncated", "missing"],
)
def test_a_damaged_file_is_named(tmp_path: Path, damage) -> None:
    make(tmp_path / "a")
    damage(tmp_path / "a" / "deep" / "a.txt")
    with pytest.raises(ArtefactError, match=r"deep/a\.txt"):
        artefact.open_artefact(tmp_path / "a")


def test_a_manifest_from_the_future_asks_for_an_upgrade(tmp_path: Path) -> None:
    make(tmp_path / "a")
    path = tmp_path / "a" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 99}))
    with pytest.raises(NewerArtefactError, match="upgrade"):
        artefact.open_artefact(tmp_path / "a")


def test_a_manifest_of_the_past_is_built_again(tmp_path: Path) -> None:
    make(tmp_path / "a")
    path = tmp_path / "a" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 1}))
    with pytest.raises(ArtefactError, match="run the build again"):
        artefact.open_artefact(tmp_path / "a")


@given(place=st.integers(0), bit=st.integers(0, 7))
def test_a_flipped_bit_in_a_manifest_is_noticed_wherever_it_is(
    place: int, bit: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp() / "flipped"
    if not folder.exists():
        make(folder)
    path, whole = folder / "manifest.json", artefact.read_manifest(folder)
    content = path.read_bytes()
    flipped = bytearray(content)
    flipped[place % len(flipped)] ^= 1 << bit
    path.write_bytes(flipped)
    try:
        with contextlib.suppress(ArtefactError):
            assert artefact.read_manifest(folder) == whole
    finally:
        path.write_bytes(content)


@given(content=st.binary(max_size=200))
def test_any_bytes_for_a_manifest_are_one_sentence(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.getbasetemp() / "noise"
    folder.mkdir(exist_ok=True)
    (folder / "manifest.json").write_bytes(content)
    with pytest.raises(ArtefactError):
        artefact.read_manifest(folder)


def test_what_is_sealed_is_read_back_and_what_was_changed_is_not() -> None:
    content = {"a": [1, 2.5, None, "ü"], "b": {"c": True}}
    text = seal(content)
    assert unseal(text) == content
    for changed, said in (
        (text.replace("2.5", "2.6"), "does not match its digest"),
        ("{}", "does not match its digest"),
        ("[]", "not a JSON object"),
        ("[" * 100_000, "nested too deeply"),
    ):
        with pytest.raises(ValueError, match=said):
            unseal(changed)


def test_scratch_is_there_again_after_an_interruption_and_gone_in_the_end(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), artefact.writing(tmp_path / "a", "x", {}, {}, 1, resumable=True) as draft:
        (draft.scratch / "half").write_text("half")
        raise RuntimeError
    with artefact.writing(tmp_path / "a", "x", {}, {}, 1, resumable=True) as draft:
        assert (draft.scratch / "half").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert artefact.read_manifest(tmp_path / "a").files == {}


def test_leftovers_of_a_finished_artefact_are_removed_and_those_of_another_attempt_are_kept(tmp_path: Path) -> None:
    make(tmp_path / "a")
    key = artefact.read_manifest(tmp_path / "a").key
    for written in (key, "another key"):
        for name in (".a.partial", ".a.scratch", ".a.replaced"):
            (tmp_path / name).mkdir()
        (tmp_path / ".a.key").write_text(written)
        artefact.tidy(tmp_path / "a", key)
        expected = set() if written == key else {".a.partial", ".a.scratch", ".a.key"}
        assert {path.name for path in tmp_path.iterdir()} == {"a"} | expected


def test_what_is_no_artefact_is_set_aside_and_never_deleted(tmp_path: Path) -> None:
    said: list[str] = []
    for number in (1, 2):
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "precious.txt").write_text(str(number))
        with artefact.writing(tmp_path / "a", "x", {}, {}, 1, say=said.append):
            pass
        shutil.rmtree(tmp_path / "a")
    assert [(tmp_path / name / "precious.txt").read_text() for name in ("a.set-aside", "a.set-aside-2")] == ["1", "2"]
    assert len(said) == 2


@pytest.mark.parametrize("harm", [lambda path: path.write_bytes(path.read_bytes()[:99]), lambda path: None])
def test_an_artefact_whole_or_with_a_damaged_manifest_is_replaced(tmp_path: Path, harm) -> None:
    make(tmp_path / "a")
    harm(tmp_path / "a" / "manifest.json")
    make(tmp_path / "a", "hullo")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize(
    "odd", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("/dev/zero"), lambda path: path.symlink_to(path)]
)
def test_a_manifest_that_is_no_regular_file_is_none(tmp_path: Path, odd: Callable[[Path], None]) -> None:
    make(tmp_path / "a")
    (tmp_path / "a" / "manifest.json").unlink()
    odd(tmp_path / "a" / "manifest.json")
    assert not artefact.has_manifest(tmp_path / "a")
    with pytest.raises(ArtefactError, match="no finished artefact"):
        artefact.read_manifest(tmp_path / "a")
    make(tmp_path / "a")
    assert artefact.has_manifest(tmp_path / "a")


@pytest.mark.parametrize("content", ["", "{", "[]", "7", '{"format": 1}', '{"format": "x"}'])
def test_a_damaged_manifest_is_one_sentence(tmp_path: Path, content: str) -> None:
    make(tmp_path / "a")
    (tmp_path / "a" / "manifest.json").write_text(content)
    with pytest.raises(ArtefactError):
        artefact.open_artefact(tmp_path / "a")


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.EMFILE])
def test_a_manifest_that_cannot_be_read_now_is_not_called_damaged(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path) -> bytes:
        raise OSError(number, os.strerror(number), str(path))

    make(tmp_path / "a")
    monkeypatch.setattr(Path, "read_bytes", fail)
    with pytest.raises(OSError, match=os.strerror(number)):
        artefact.read_manifest(tmp_path / "a")


def test_a_full_disk_is_one_sentence(tmp_path: Path) -> None:
    with (
        pytest.raises(MachineError, match="disk is full"),
        artefact.writing(tmp_path / "a", "x", {}, {}, 1),
        Path("/dev/full").open("w") as file,
    ):
        file.write("x")
        file.flush()


def test_two_builds_in_one_folder_are_refused_by_the_second(tmp_path: Path) -> None:
    attempt = (
        "import sys; from pathlib import Path; from corpusmith.locks import locked\n"
        "from corpusmith.errors import MachineError\n"
        "try:\n"
        "    with locked(Path(sys.argv[1])): print('entered')\n"
        "except MachineError as error: print(error)\n"
    )
    run = [sys.executable, "-c", attempt, str(tmp_path)]
    with locked(tmp_path):
        assert "another build is running" in subprocess.run(run, capture_output=True, text=True, check=True).stdout
    assert subprocess.run(run, capture_output=True, text=True, check=True).stdout.strip() == "entered"
