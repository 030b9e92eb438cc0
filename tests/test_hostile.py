"""Input that nobody would write on purpose, and input that somebody would: sentences and named drops, never a crash."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from corpusmith.errors import CorpusError, MachineError
from corpusmith.pipeline import build
from corpusmith.pipeline.run import BuildResult
from corpusmith.recipe import Recipe, preset
from corpusmith.search import load

SCRIPT = Path(__file__).with_name("without_pickle.py")


@pytest.fixture
def recipe(base_model: Path) -> Recipe:
    return preset("search-only").with_overrides({"model.base": str(base_model)})


@pytest.fixture
def built(recipe: Recipe, tmp_path: Path) -> Callable[..., BuildResult]:
    """Builds from files given as name and content."""

    def make(strict: bool = False, **files: str | bytes) -> BuildResult:
        documents = tmp_path / "documents"
        documents.mkdir(exist_ok=True)
        for name, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            (documents / name.replace("_dot_", ".")).write_bytes(data)
        chosen = recipe.with_overrides({"corpus.strict": strict})
        return build(documents, recipe=chosen, out=tmp_path / "out")

    return make


def lines(*records: dict) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


# Nothing is unpickled.


def without_pickle(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("way", ["load", "loads", "class", "unpickler"])
def test_the_trap_catches_who_unpickles(way: str) -> None:
    assert without_pickle("try", way).returncode == 99


def test_no_command_unpickles_anything(notes: Path, base_model: Path, tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("blood\nlaw\n")
    model = ("--set", f"model.base={base_model}", "--set", 'search.model="trained"')
    budget = ("--set", "budget.tokens=2000", "--set", "heldout.share=0.1", "--set", "pairs.per_document=20")
    for arguments in (
        ("build", notes, "--preset", "default", *model, *budget, "--out", tmp_path / "out"),
        ("build", notes, "--preset", "default", *model, *budget, "--out", tmp_path / "out"),
        ("search", tmp_path / "out", "aspirin stroke"),
        ("encode", tmp_path / "out", tmp_path / "texts.txt", "--out", tmp_path / "vectors.npy"),
        ("evaluate", tmp_path / "out", "--data", notes),
        ("inspect", tmp_path / "out", "--check"),
    ):
        ended = without_pickle(*arguments)
        assert ended.returncode == 0, ended.stderr
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["training"][0]["steps"] > 0


# Corpora of odd documents.

ARABIC = "القلب يضخ الدم عبر الشرايين والأوردة إلى جميع أنحاء الجسم. " * 3
THAI = "หัวใจสูบฉีดเลือดไปทั่วร่างกายผ่านหลอดเลือดแดงและหลอดเลือดดำ " * 3
CHINESE = "心脏通过动脉和静脉将血液泵送到全身各处。" * 3
EMOJI = "The heart 🫀 pumps blood 🩸 through the body 🧍🏽‍♀️ all day long. 👨‍👩‍👧‍👦 "


def told_apart(ids: list[str]) -> str:
    """A JSON lines file of documents with these ids and texts of their own."""
    return lines(*({"_id": id, "text": f"{EMOJI} {number} {number}"} for number, id in enumerate(ids)))


CORPORA: dict[str, dict[str, str | bytes]] = {
    "one document": {"a.txt": EMOJI},
    "scripts of many directions": {
        "a.txt": ARABIC,
        "b.txt": THAI,
        "c.txt": CHINESE,
        "d.txt": "\u202e" + ARABIC + EMOJI,
    },
    "the same again and again": {f"{i}.txt": "The heart pumps blood through the body." for i in range(30)},
    "ids that are paths": {"a.jsonl": told_apart(["../" * i + "etc/passwd" for i in range(5)])},
    "ids of newlines and nothing": {"a.jsonl": told_apart(["", "\n", "\0", "\u2028", " ", "a\tb"])},
    "markup and entities": {"a.html": "<p>Blood &amp; <b>heart</b> &#x1F600;<script>alert(1)</script>" * 20},
    "quotes and commas": {"a.csv": 'id,text\n1,"The heart, ""the"" heart, pumps\nblood"\n2,"A lease, ""or"" not"\n'},
    "bytes of another century": {"a.txt": "Ein Herz schlägt für größere Übel, außer man übt.\n".encode("cp1252") * 9},
}


@pytest.mark.parametrize("case", CORPORA)
def test_odd_documents_build_and_are_found(case: str, built: Callable[..., BuildResult], tmp_path: Path) -> None:
    result = built(**{name.replace(".", "_dot_"): content for name, content in CORPORA[case].items()})
    searcher = load(tmp_path / "out")
    assert len(searcher.corpus.document_ids) == result.summary["corpus"]["kept"] > 0
    for query in ("heart", "心脏", "القلب", "🫀", "\u202e", "x" * 5000, "'; DROP TABLE", "\ud800"):
        searcher.search(query)
    kept, dropped = result.summary["corpus"]["kept"], sum(result.summary["corpus"]["dropped"].values())
    assert result.summary["corpus"]["read"] == kept + dropped  # nothing is lost without being counted
    reasons = (tmp_path / "out" / "steps" / "corpus" / "dropped.jsonl").read_text(encoding="utf-8")
    assert len(reasons.splitlines()) == dropped


def test_words_alone_are_no_documents_and_that_is_said(built: Callable[..., BuildResult]) -> None:
    with pytest.raises(CorpusError, match=r"none of 30 documents can be used: too short"):
        built(**{f"{i}_dot_txt": f"word{i}" for i in range(30)})


def test_a_bomb_is_dropped_by_name_and_does_not_fill_memory(built: Callable[..., BuildResult]) -> None:
    bomb = gzip.compress(b'{"text": "' + bytes(300_000_000).replace(b"\0", b"x") + b'"}\n')
    result = built(bomb_dot_jsonl_dot_gz=bomb, a_dot_txt=EMOJI)
    (reason,) = result.summary["corpus"]["dropped"]
    assert reason.startswith("larger than 100,000,000 bytes")


STRICT = {
    "a file of no kind": {"a.xyz": "text"},
    "a binary file": {"a.txt": bytes(range(256))},
    "a broken line": {"a.jsonl": '{"text": "The heart pumps blood."}\n{"text": '},
    "a row of too many fields": {"a.csv": "id,text\n1,The heart pumps blood\n2,a,b,c\n"},
    "an empty file": {"a.txt": ""},
    "a duplicate": {"a.txt": EMOJI, "b.txt": EMOJI},
    "too short": {"a.txt": "word"},
    "a cut-off archive": {"a.jsonl.gz": gzip.compress(lines({"text": EMOJI}).encode())[:-9]},
}


@pytest.mark.parametrize("case", STRICT)
def test_strict_makes_an_error_of_whatever_would_be_left_out(case: str, built: Callable[..., BuildResult]) -> None:
    files = {name.replace(".", "_dot_"): content for name, content in STRICT[case].items()}
    with pytest.raises(CorpusError, match="strict = true: nothing may be left out"):
        built(strict=True, z_dot_txt="A lease gives the tenant the right to use the property.", **files)


# Files that change, vanish or fail while they are read.


def test_a_pipe_among_the_documents_is_not_waited_for(built: Callable[..., BuildResult], tmp_path: Path) -> None:
    (tmp_path / "documents").mkdir()
    os.mkfifo(tmp_path / "documents" / "pipe.txt")
    assert built(a_dot_txt=EMOJI).summary["corpus"]["dropped"] == {"not a regular file": 1}


def test_documents_that_change_while_they_are_read_are_not_taken_for_what_they_were(
    built: Callable[..., BuildResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from corpusmith.pipeline import prepare

    def meddle(*arguments: object) -> object:
        (tmp_path / "documents" / "a.txt").write_text(EMOJI + "And now for something else.")
        return original(*arguments)

    original = prepare.read
    monkeypatch.setattr(prepare, "read", meddle)
    with pytest.raises(CorpusError, match="changed while"):
        built(a_dot_txt=EMOJI)


def test_a_disk_that_fails_while_documents_are_read_stops_the_build(
    built: Callable[..., BuildResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    from corpusmith.corpus.readers.source import SourceFile

    def fail(self: SourceFile) -> None:
        raise OSError(errno.EIO, "Input/output error", str(self.path))

    monkeypatch.setattr(SourceFile, "open", fail)
    with pytest.raises(MachineError, match=r"cannot read .*a\.txt: Input/output error"):
        built(a_dot_txt=EMOJI)


def test_judgements_that_are_no_regular_file_are_not_waited_for(recipe: Recipe, notes: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(notes, tmp_path / "notes")
    os.mkfifo(folder / "qrels" / "pipe.tsv")
    (folder / "qrels" / "endless.tsv").symlink_to("/dev/zero")
    assert build(folder, recipe=recipe, out=tmp_path / "out").summary["corpus"]["kept"] > 0
