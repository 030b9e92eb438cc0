"""Hostile and careless use of the command: one sentence, the right exit code, no traceback, nothing lost."""

from __future__ import annotations

import errno
import io
import json
import os
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from corpusmith import cli
from corpusmith.locks import LOCK, locked, locked_file
from corpusmith.model.checkpoint import Checkpoint
from corpusmith.model.huggingface import load_checkpoint

HEART = "The heart pumps blood through the arteries and veins of the body. "


class Ended(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def sentence(self) -> str:
        """What a person is told, without the usage that stands before it; and that it is only one line."""
        lines = [line for line in self.err.splitlines() if line.lower().startswith("error: ")]
        assert len(lines) == 1, self.err
        assert "Traceback" not in self.err
        return lines[0]


Command = Callable[..., Ended]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs the command line in this process, through its entry point."""

    def run(*arguments: str | Path) -> Ended:
        monkeypatch.setattr(sys, "argv", ["corpusmith", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return Ended(int(ended.value.code or 0), *capsys.readouterr())

    return run


@pytest.fixture
def search_only(base_model: Path) -> list[str]:
    return ["--preset", "search-only", "--set", f"model.base={base_model}"]


def subprocess_command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "corpusmith", *map(str, arguments)]


# Documents that are none.


def write(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)


UNUSABLE: dict[str, tuple[Callable[[Path], object], str]] = {
    "an empty file": (lambda folder: write(folder, "a.txt", b""), "empty"),
    "an empty folder": (lambda folder: None, "no documents"),
    "only unreadable files": (
        lambda folder: [write(folder, "a.bin", bytes(range(256))), write(folder, "b.parquet", b"PAR1")],
        "binary file",
    ),
    "JSON that breaks off": (lambda folder: write(folder, "a.jsonl", b'{"text": '), "not JSON"),
    "JSON nested without end": (lambda folder: write(folder, "a.jsonl", b"[" * 100_000), "not JSON"),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_a_corpus_without_documents_is_one_sentence(
    case: str, command: Command, search_only: list[str], tmp_path: Path
) -> None:
    make, reason = UNUSABLE[case]
    documents = tmp_path / "documents"
    documents.mkdir()
    make(documents)
    ended = command("build", documents, *search_only, "--out", tmp_path / "out")
    assert ended.code == 2
    assert reason in ended.sentence


def records(*documents: tuple[str, str]) -> bytes:
    return "".join(json.dumps({"_id": id, "text": text}) + "\n" for id, text in documents).encode()


USABLE: dict[str, tuple[str, bytes, str]] = {
    "broken UTF-8": ("a.txt", b"The heart pumps \xff\xfe blood through \xc3 the body. " * 5, "1 of 1 documents kept"),
    "one long line": ("a.txt", HEART.encode() * 3_000, "1 of 1 documents kept"),
    "one endless word": ("a.txt", b"x" * 200_000, "1 of 1 documents kept"),
    "ids that occur again": ("a.jsonl", records(("a", HEART), ("a", HEART * 2 + "Twice.")), "occurred again"),
    "documents all the same": ("a.jsonl", records(*((str(i), HEART) for i in range(40))), "exact duplicate (39)"),
}


@pytest.mark.parametrize("case", USABLE)
def test_strange_documents_are_built_and_found(
    case: str, command: Command, search_only: list[str], tmp_path: Path
) -> None:
    name, content, said = USABLE[case]
    (tmp_path / name).write_bytes(content)
    ended = command("build", tmp_path / name, *search_only, "--out", tmp_path / "out")
    assert (ended.code, ended.err) == (0, "")
    assert said in ended.out
    assert command("search", tmp_path / "out", "heart blood").code == 0


@pytest.mark.parametrize("number", [1, 3])
def test_few_documents_build_with_the_default_preset(
    number: int, command: Command, base_model: Path, sentences: list[str], tmp_path: Path
) -> None:
    (tmp_path / "a.jsonl").write_bytes(records(*((str(i), " ".join(sentences[i : i + 3])) for i in range(number))))
    ended = command("build", tmp_path / "a.jsonl", "--set", f"model.base={base_model}", "--out", tmp_path / "out")
    assert (ended.code, ended.err) == (0, "")
    assert "nothing is claimed" in ended.out


# Folders and machines that refuse.


def test_a_model_whose_tokenizer_is_another_is_refused(command: Command, base_model: Path, tmp_path: Path) -> None:
    model = shutil.copytree(base_model, tmp_path / "model")
    config = json.loads((model / "tokenizer.json").read_text())
    vocabulary = config["model"]["vocab"]
    vocabulary |= {f"word{i}": len(vocabulary) + i for i in range(50)}
    (model / "tokenizer.json").write_text(json.dumps(config))
    (tmp_path / "a.txt").write_text(HEART)
    ended = command("build", tmp_path / "a.txt", "--set", f"model.base={model}", "--out", tmp_path / "out")
    assert ended.code == 2
    assert "tokenizer" in ended.sentence


def test_a_damaged_model_of_a_build_is_named_wherever_it_is_used(
    command: Command, built_notes: Path, notes: Path, tmp_path: Path
) -> None:
    built = shutil.copytree(built_notes, tmp_path / "built")
    weights = bytearray((built / "model" / "model.safetensors").read_bytes())
    weights[-9] ^= 1
    (built / "model" / "model.safetensors").write_bytes(weights)
    for arguments in (
        ("search", built, "blood"),
        ("encode", built, notes / "queries.jsonl", "--out", tmp_path / "v.npy"),
        ("encode", built / "model", notes / "queries.jsonl", "--out", tmp_path / "v.npy"),
        ("vocabulary", notes, "--base", built / "model"),
        ("build", notes, "--set", f"model.base={built / 'model'}", "--out", tmp_path / "out"),
    ):
        ended = command(*arguments)
        assert ended.code == 2
        assert "model.safetensors is damaged" in ended.sentence


@pytest.mark.parametrize(("content", "code"), [('{"name": "app"}', 0), ("format", 0), ("cut", 2)])
def test_only_a_manifest_of_corpusmith_vouches_for_a_model(
    content: str, code: int, command: Command, built_notes: Path, notes: Path, tmp_path: Path
) -> None:
    model = shutil.copytree(built_notes / "model", tmp_path / "model")
    manifest = (model / "manifest.json").read_text()
    written = {"format": manifest.replace('"format": 3', '"format": 2'), "cut": manifest[:-50]}.get(content, content)
    (model / "manifest.json").write_text(written)
    (model / "config.json").write_text((model / "config.json").read_text() + "\n")
    assert command("encode", model, notes / "queries.jsonl", "--out", tmp_path / "v.npy").code == code


@pytest.mark.parametrize("place", ["file", "file/below", "/proc/corpusmith", "x" * 300, "loop", "loop/below"])
def test_a_folder_that_cannot_be_written_is_named(
    place: str, command: Command, search_only: list[str], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("precious")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "a.txt").write_text(HEART)
    ended = command("build", tmp_path / "a.txt", *search_only, "--out", tmp_path / place)
    assert ended.code == 2
    assert "choose" in ended.sentence
    assert (tmp_path / "file").read_text() == "precious"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


IN_THE_WAY = {
    "documents where the index belongs": ("index", "a.txt", "{out}/index"),
    "a base model where the model belongs": ("model", "config.json", "{notes} --set model.base={out}/model"),
    "a person's model": ("model", "precious.txt", "{notes}"),
    "a person's step": ("steps/corpus", "precious.txt", "{notes}"),
    "somebody else's manifest": ("index", "manifest.json", "{notes}"),
    "a person's report": (".", "report.html", "{notes}"),
    "the recipe itself": (".", "recipe.toml", "{notes} --recipe {out}/recipe.toml"),
    "a document called as an output": (".", "summary.json", "{out}/summary.json"),
}


@pytest.mark.parametrize("case", IN_THE_WAY)
@pytest.mark.parametrize("more", [[], ["--plan"]])
def test_what_a_person_has_put_where_outputs_belong_is_never_replaced(
    case: str, more: list[str], command: Command, base_model: Path, notes: Path, tmp_path: Path
) -> None:
    place, name, arguments = IN_THE_WAY[case]
    out = tmp_path / "out"
    (out / place).mkdir(parents=True)
    if case == "a base model where the model belongs":
        shutil.copytree(base_model, out / place, dirs_exist_ok=True)
    else:
        (out / place / name).write_text("" if name == "recipe.toml" else HEART)
    before = contents(tmp_path)
    ended = command("build", *arguments.format(out=out, notes=notes).split(), "--out", out, *more)
    assert ended.code == 2
    assert "choose another --out" in ended.sentence
    assert contents(tmp_path) == before


def test_what_a_person_has_put_into_a_build_is_set_aside_when_it_is_built_again(
    command: Command, search_only: list[str], notes: Path, tmp_path: Path
) -> None:
    build = ["build", notes, *search_only, "--out", tmp_path / "out"]
    assert command(*build).code == 0
    model, index = tmp_path / "out" / "model", tmp_path / "out" / "index"
    (model / "manifest.json").unlink()
    (index / "notes.md").write_text("precious")
    ended = command(*build, "--set", "search.weight=0.4")
    assert (ended.code, ended.err) == (0, "")
    assert "model.set-aside" in ended.out
    assert "index.set-aside" in ended.out
    assert (tmp_path / "out" / "index.set-aside" / "notes.md").read_text() == "precious"
    assert command("inspect", tmp_path / "out", "--check").code == 0


def test_documents_may_have_names_that_are_no_utf8_and_builds_may_not(
    command: Command, search_only: list[str], tmp_path: Path
) -> None:
    documents = tmp_path / os.fsdecode(b"documents\xff")
    documents.mkdir()
    (documents / os.fsdecode(b"a\xff.txt")).write_text(HEART)
    ended = command("build", documents, *search_only, "--out", tmp_path / "out")
    assert (ended.code, ended.err) == (0, "")
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["title"] == "documents\ufffd"
    ended = command("build", documents, *search_only, "--out", tmp_path / os.fsdecode(b"out\xff"))
    assert ended.code == 2
    assert "no name in UTF-8" in ended.sentence


def test_a_disk_that_fills_up_keeps_finished_steps_and_the_build_goes_on_later(
    command: Command, search_only: list[str], notes: Path, tmp_path: Path
) -> None:
    build = ["build", notes, *search_only, "--out", tmp_path / "out"]
    allowed = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, allowed[1]))
    try:
        ended = command(*build)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, allowed)
        signal.signal(signal.SIGXFSZ, ignored)
    assert ended.code == 2
    assert "model" in ended.sentence
    assert "run the same command again" in ended.sentence
    again = command(*build)
    assert again.code == 0
    assert "= corpus       reused" in again.out


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "vectors.npy"), "vectors.npy: No space left"),
        (MemoryError(), "out of memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 byte"), "out of memory"),
        (RecursionError(), "nested too deeply"),
    ],
)
def test_what_the_machine_refuses_is_one_sentence(
    error: Exception, said: str, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("corpusmith.recipe.presets", fail)
    ended = command("presets")
    assert ended.code == 2
    assert said in ended.sentence


def test_a_defect_shows_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("corpusmith.recipe.presets", lambda: 1 / 0)
    monkeypatch.setattr(sys, "argv", ["corpusmith", "presets"])
    with pytest.raises(ZeroDivisionError):
        cli.main()


# Words that the command does not know.

COMMAND_LINES = {
    "build {tmp}/nosuch": "no such file or folder",
    "build --preset search-only": "no documents given",
    "build {tmp} --recipe {tmp}/nosuch.toml": "no such recipe",
    "build {tmp} --preset defualt": "did you mean 'default'",
    "build {tmp} --recipe a.toml --preset default": "exclude each other",
    "build {tmp} --colour": "No such option",
    "build {tmp} --minutes 0": "0.1",
    "build {tmp} --minutes -1": "0.1",
    "build {tmp} --minutes nan": "0.1",
    "build {tmp} --minutes inf": "finite",
    "build {tmp} --minutes soon": "number",
    "build {tmp} --set corpus.passage_words": "NAME=VALUE",
    "build {tmp} --set =3": "NAME=VALUE",
    "build {tmp} --set corpus.pasage_words=3": "did you mean 'passage_words'",
    "build {tmp} --set corpus.passage_words=NaN": "finite",
    "build {tmp} --out {tmp}": "choose another",
    "build {notes} --out ": "a path is empty",
    "build  --out {tmp}/out": "a path is empty",
    "build {notes} --plan -p pretrain --set model.base={built}/model --set start.growth=auto --set start.heads=1": (
        "head_size is 16, and 32 is wanted"
    ),
    "blend {tmp}": "No such command",
    "compare default pretrain --budget 1 --seeds 1000000000000000000000": "less than or equal to 1000",
    "vocabulary {tmp}/nosuch --base {built}/model": "no such file or folder",
    "vocabulary {tmp} --base {built}/model": "none of 5 documents can be used",
    "vocabulary {notes} --base {tmp}/nosuch": "there is no folder",
    "vocabulary {notes} --algorithm words": "wordpiece, unigram, bpe and bytes",
    "vocabulary {notes} --size 10": "300",
    "merge {built} {built}": "Missing option",
    "merge {built} --out {tmp}/m": "two or more",
    "merge {built} {built} --out {tmp}": "not empty",
    "merge {built} {built} --out {tmp}/empty.txt": "is a file",
    "merge {built} {tmp}/nosuch --out {tmp}/m": "there is no folder",
    "merge {built} {tmp} --out {tmp}/m": "config.json",
    "merge {built} all-MiniLM-L6-v2 --out {tmp}/m": "different shapes (L2-H32, L6-H384)",
    "merge {built} {built} --greedy {tmp}/nosuch --out {tmp}/m": "no such folder",
    "merge {built} {built} --greedy {tmp} --out {tmp}/m": "no finished artefact",
    "merge {built} {built} --greedy {built} --out {tmp}/m": "the least to choose models by",
    "search {tmp}/nosuch q": "no such folder",
    "search {tmp} q": "no finished build",
    "search {built}": "Missing argument",
    "search {built} q -k 0": "greater than or equal to 1",
    "search {built} q --mode words": "fused, lexical and dense",
    "evaluate {built} --data {tmp}": "queries.jsonl",
    "evaluate {built} --data {notes} --split train": "found test",
    "encode {built} {tmp}/nosuch --out {tmp}/v.npy": "cannot read",
    "encode {built} {tmp}/empty.txt --out {tmp}/v.npy": "holds no text",
    "encode {built} {tmp}/empty.txt --out {tmp}": "choose another --out",
    "encode {built} {tmp}/typo.toml --out {tmp}/typo.toml": "the texts are read from it",
    "encode {built} {tmp}/typo.toml --out {tmp}/broken.toml": "no NumPy file",
    "encode {built} {tmp}/typo.toml --out {built}/index/dense/vectors.npy": "belongs to the build",
    "encode {built} {tmp}/typo.toml --out {tmp}/pipe": "no regular file",
    "encode {tmp} {tmp}/typo.toml --out {tmp}/v.npy": "config.json",
    "inspect {tmp}": "holds no build",
    "validate {tmp}": "Is a directory",
    "validate {tmp}/broken.toml": "no TOML",
    "validate {tmp}/deep.toml": "nested too deeply",
    "validate {tmp}/typo.toml": "did you mean 'budget'",
}


@pytest.mark.parametrize("line", COMMAND_LINES)
def test_a_wrong_command_line_is_one_sentence(
    line: str, command: Command, built_notes: Path, notes: Path, tmp_path: Path
) -> None:
    for name, content in (("empty.txt", ""), ("broken.toml", "a = ["), ("deep.toml", "a = " + "[" * 50_000)):
        (tmp_path / name).write_text(content)
    (tmp_path / "typo.toml").write_text("[budgte]\nminutes = 3\n")
    os.mkfifo(tmp_path / "pipe")
    before = contents(tmp_path)
    ended = command(*(word.format(tmp=tmp_path, built=built_notes, notes=notes) for word in line.split(" ")))
    assert ended.code == 2
    assert COMMAND_LINES[line] in ended.sentence
    assert ended.out == ""
    assert contents(tmp_path) == before


QRELS = {
    "spaces for tabs": ("q0 d0 1\n", "parted by tabs"),
    "a score that is none": ("q0\td0\thigh\n", "whole number"),
    "a score with an underscore": ("q0\td0\t1_0\n", "whole number"),
    "a score beyond measure": (f"q0\td0\t{10**30}\n", "whole number"),
    "an unknown query": ("q99\td0\t1\n", "q99"),
    "nothing": ("", "no relevant document"),
    "other documents": ("q0\telsewhere\t1\n", "same document ids"),
}


@pytest.mark.parametrize("case", QRELS)
def test_judgements_that_cannot_be_used_are_named(
    case: str, command: Command, built_notes: Path, notes: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(notes, tmp_path / "notes")
    (folder / "qrels" / "test.tsv").write_text(QRELS[case][0])
    ended = command("evaluate", built_notes, "--data", folder)
    assert ended.code == 2
    assert QRELS[case][1] in ended.sentence


@pytest.mark.parametrize("scarce", ["memory", "disk"])
def test_what_may_run_out_is_said_before_the_build(
    scarce: str, command: Command, search_only: list[str], notes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if scarce == "memory":
        monkeypatch.setattr("corpusmith.environment.memory_bytes", lambda: 100_000_000)
    else:
        monkeypatch.setattr("shutil.disk_usage", lambda _: shutil._ntuple_diskusage(100, 99, 1))
    ended = command("build", notes, *search_only, "--out", tmp_path / "deep" / "out", "--plan")
    assert ended.code == 0
    assert f"more {scarce} than there is" in ended.err


@pytest.mark.parametrize("line", ["build {notes} --preset search-only", "presets"])
def test_a_current_folder_that_was_deleted_is_one_sentence(line: str, notes: Path, tmp_path: Path) -> None:
    lost = tmp_path / "lost"
    lost.mkdir()
    command = shlex.join(subprocess_command(*line.format(notes=notes).split()))
    script = f"cd {shlex.quote(str(lost))} && rmdir ../lost && {command}"
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: the current folder no longer exists; change to another one.\n"


# What is shown.


@pytest.mark.parametrize("columns", ["0", "1"])
def test_a_terminal_that_claims_no_width_is_written_to_all_the_same(
    columns: str, built_notes: Path, tmp_path: Path
) -> None:
    said = []
    for arguments in (("search", built_notes, "aspirin"), ("search", tmp_path, "aspirin")):
        environment = os.environ | {"COLUMNS": columns}
        done = subprocess.run(subprocess_command(*arguments), capture_output=True, text=True, env=environment)
        said.append((done.returncode, done.stdout + done.stderr))
    assert said[0][0] == 0
    assert "Aspirin" in said[0][1]
    assert said[1][0] == 2
    assert str(tmp_path) in said[1][1]


@pytest.mark.parametrize("algorithm", ["wordpiece", "unigram", "bpe", "bytes"])
def test_vocabularies_are_measured_and_nothing_is_written(
    algorithm: str, command: Command, base_model: Path, notes: Path
) -> None:
    before = sorted(notes.rglob("*"))
    options = ["--base", base_model, "--algorithm", algorithm, "--size", "600", "--pieces", "3"]
    ended = command("vocabulary", notes, *options, "--json")
    assert (ended.code, ended.err) == (0, "")
    report = json.loads(ended.out, parse_constant=lambda constant: pytest.fail(f"{constant} is no JSON"))
    extended, learned = report["gains"]
    assert extended["fertility"]["entries"] == report["base"]["entries"] + 3
    assert 0 < extended["saved"] < 1
    assert extended["fertility"]["seconds"] < report["base"]["seconds"]
    assert (learned["saved"] < 0) == (algorithm == "bytes")
    assert sorted(notes.rglob("*")) == before
    ended = command("vocabulary", notes, *options)
    assert (ended.code, ended.err) == (0, "")
    shown = " ".join(ended.out.split())
    assert "with 3 more pieces" in shown
    assert f'A build with start = "auto" would keep it: {report["auto"]["reason"]}.' in shown
    assert "Of a passage of 180 words" in shown
    assert " ##" in ended.out


def test_a_vocabulary_is_measured_on_what_can_be_read_and_says_what_cannot(
    command: Command, base_model: Path, notes: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(notes, tmp_path / "notes", ignore=shutil.ignore_patterns("quer*", "qrels"))
    (folder / "z-torn.jsonl").write_text('{"text": "torn\n')
    (folder / "z-binary.txt").write_bytes(bytes(range(256)) * 20)
    (folder / "z-short.txt").write_text("short")
    asked = ["vocabulary", folder, "--base", base_model, "--size", "600", "--pieces", "3", "--json"]
    ended = command(*asked)
    json.loads(ended.out)
    assert ended.err.startswith("3 documents left out: ")
    assert "not JSON (1)" in ended.err
    assert "too short (1)" in ended.err
    strict = command(*asked, "--set", "corpus.strict=true")
    assert (strict.code, strict.out) == (2, "")
    assert "z-binary.txt" in strict.sentence
    assert "nothing may be left out" in strict.sentence


def test_results_are_shown_as_they_are_on_lines_of_their_own(command: Command, built_notes: Path) -> None:
    ended = command("search", built_notes, "aspirin stroke", "-k", "2", "--mode", "lexical")
    assert (ended.code, ended.err) == (0, "")
    lines = ended.out.splitlines()
    assert len(lines) == 4
    assert lines[0].startswith("  1. [bold]Note ")
    assert "[/bold]" in lines[0]
    assert "Aspirin" in lines[1]


def test_json_results_are_one_object_a_line_and_nothing_else(command: Command, built_notes: Path) -> None:
    ended = command("search", built_notes, "aspirin", "-k", "3", "--json")
    results = [json.loads(line) for line in ended.out.splitlines()]
    assert [result["rank"] for result in results] == [1, 2, 3]
    assert set(results[0]) == {"rank", "document_id", "title", "heading", "text", "score"}
    assert ended.err == ""


def test_evaluation_and_chain_are_strict_json_on_request(command: Command, built_notes: Path, notes: Path) -> None:
    for arguments in (("evaluate", built_notes, "--data", notes, "--json"), ("inspect", built_notes, "--json")):
        ended = command(*arguments)
        assert ended.err == ""
        json.loads(ended.out, parse_constant=lambda constant: pytest.fail(f"{constant} is no JSON"))


def test_an_unfinished_build_is_called_so(command: Command, built_notes: Path, tmp_path: Path) -> None:
    shutil.copytree(built_notes, tmp_path / "out")
    shutil.rmtree(tmp_path / "out" / "index")
    ended = command("inspect", tmp_path / "out")
    assert ended.code == 0
    assert "unfinished" in ended.err


def test_one_artefact_alone_is_shown_and_not_called_an_unfinished_build(command: Command, built_notes: Path) -> None:
    ended = command("inspect", built_notes / "model", "--check", "--json")
    assert [link["kind"] for link in json.loads(ended.out)] == ["model"]
    assert ended.err == ""


def test_a_row_of_the_vectors_is_a_line_of_the_file(
    command: Command, built_notes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        sys, "stdin", io.TextIOWrapper(io.BytesIO("one\u2028still one\r\n\nthree ".encode() + b"\xff\n"))
    )
    assert command("encode", built_notes, "-", "--out", tmp_path / "v.npy").code == 0
    assert np.load(tmp_path / "v.npy", allow_pickle=False).shape == (3, 32)


def test_a_file_that_is_shortened_while_it_is_encoded_is_one_sentence(
    command: Command, built_notes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("a line of text\n" * 100_000)

    def shortening(folder: Path) -> Checkpoint:
        texts.write_text("")
        return load_checkpoint(folder)

    monkeypatch.setattr("corpusmith.pipeline.encode.load_checkpoint", shortening)
    ended = command("encode", built_notes, texts, "--out", tmp_path / "v.npy")
    assert ended.code == 2
    assert "texts.txt changed while it was being read" in ended.sentence
    assert not (tmp_path / "v.npy").exists()


def test_a_build_below_its_documents_is_not_read_as_documents(
    command: Command, search_only: list[str], sentences: list[str], tmp_path: Path
) -> None:
    (tmp_path / "a.txt").write_text(" ".join(sentences))
    for said in ("1 of 1 documents kept", "= corpus       reused"):
        ended = command("build", tmp_path, *search_only, "--out", tmp_path / "out")
        assert (ended.code, ended.err) == (0, "")
        assert said in ended.out


def test_documents_in_the_folder_that_a_build_writes_to_are_read_every_time(
    command: Command, search_only: list[str], sentences: list[str], tmp_path: Path
) -> None:
    for number, place in enumerate(("here/a.txt", "here/b.txt", "there/c.txt")):
        (tmp_path / "in" / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / place).write_text(" ".join(sentences[number::3]))
    for out in ("in/here", "in/here", "elsewhere"):
        ended = command("build", tmp_path / "in", *search_only, "--out", tmp_path / out)
        assert (ended.code, ended.err) == (0, "")
        assert "corpus       reused" in ended.out or "3 of 3 documents kept" in ended.out


@pytest.mark.parametrize(
    "name",
    ["", "build", "demo", "vocabulary", "merge", "search", "evaluate", "inspect", "presets", "validate", "encode"],
)
def test_help_fits_eighty_columns_and_keeps_its_examples(name: str, command: Command) -> None:
    ended = command(*name.split(), "--help")
    assert ended.code == 0
    assert max(map(len, ended.out.splitlines())) <= 80
    assert "\b" not in ended.out
    if name not in ("presets",):
        assert "Example" in ended.out


# Real processes.


def hear_interrupts() -> None:
    """What is started in the background may have been told to ignore them."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_an_interrupt_ends_with_advice_and_the_build_goes_on_later(
    command: Command, search_only: list[str], notes: Path, tmp_path: Path
) -> None:
    build = ["build", notes, *search_only, "--out", tmp_path / "out"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(subprocess_command(*build), preexec_fn=hear_interrupts, **pipes)
    while process.poll() is None and not (tmp_path / "out" / "steps" / "corpus").exists():
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert process.returncode == 130
    assert said.strip() == "Interrupted; finished steps are kept, and the same command goes on where it was."
    assert command("search", tmp_path / "out", "q").sentence.startswith("error: ")
    again = command(*build)
    assert again.code == 0
    assert "= corpus       reused" in again.out


def test_an_interrupt_before_a_command_begins_ends_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("import os, signal\n\nos.kill(os.getpid(), signal.SIGINT)\n")
    done = subprocess.run(
        subprocess_command("presets"),
        capture_output=True,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        preexec_fn=hear_interrupts,
    )
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, b"", b"")


@pytest.mark.parametrize("line", ["search {built} blood --json", "presets", "inspect {built}", "--help", "build"])
def test_a_reader_that_stops_early_is_no_error(
    line: str, search_only: list[str], built_notes: Path, notes: Path, tmp_path: Path
) -> None:
    build = ["build", notes, *search_only, "--out", tmp_path / "out"]
    arguments = build if line == "build" else line.format(built=built_notes).split()
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as closed:
        done = subprocess.run(subprocess_command(*arguments), stdout=closed, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "out" / "report.html").exists() == (line == "build")


@pytest.mark.parametrize(
    ("line", "redirection", "code", "said"),
    [
        ("presets", ">&-", 0, ""),
        ("search {built} blood", ">&-", 0, ""),
        ("search {tmp} blood", ">&- 2>&-", 2, ""),
        ("search {tmp} blood", "2>/dev/full", 2, ""),
        ("encode {built} - --out {tmp}/v.npy", "<&-", 2, "standard input holds no text"),
        ("presets", ">/dev/full", 2, "No space left"),
        ("--help", ">/dev/full", 2, "No space left"),
        ("--version", ">/dev/full", 2, "No space left"),
    ],
)
def test_streams_that_are_closed_or_full_are_no_defect(
    line: str, redirection: str, code: int, said: str, built_notes: Path, tmp_path: Path
) -> None:
    command = shlex.join(subprocess_command(*line.format(built=built_notes, tmp=tmp_path).split()))
    done = subprocess.run(["sh", "-c", f"{command} {redirection}"], stderr=subprocess.PIPE, text=True)
    assert (done.returncode, len(done.stderr.splitlines())) == (code, bool(said))
    assert said in done.stderr


def test_a_second_build_in_the_same_folder_waits_its_turn(
    command: Command, search_only: list[str], notes: Path, tmp_path: Path
) -> None:
    with locked(tmp_path / "out"):
        ended = command("build", notes, *search_only, "--out", tmp_path / "out")
    assert ended.code == 2
    assert "another build is running" in ended.sentence


def test_a_second_encode_of_the_same_file_is_refused_and_later_ones_replace_its_vectors(
    command: Command, built_notes: Path, notes: Path, tmp_path: Path
) -> None:
    encode = ["encode", built_notes, notes / "queries.jsonl", "--out", tmp_path / "v.npy"]
    with locked_file(tmp_path / "v.npy"):
        assert "another command is writing" in command(*encode).sentence
    for _ in range(2):
        assert command(*encode).code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["v.npy"]


def test_a_held_lock_that_holds_anything_is_still_a_lock(
    command: Command, search_only: list[str], notes: Path, tmp_path: Path
) -> None:
    with locked(tmp_path / "out"):
        (tmp_path / "out" / LOCK).write_bytes(b"\xff\xfe")
        ended = command("build", notes, *search_only, "--out", tmp_path / "out")
    assert ended.code == 2
    assert "another build is running" in ended.sentence


def test_a_lock_that_is_a_link_is_not_written_through(
    command: Command, search_only: list[str], notes: Path, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "out" / ".corpusmith.lock").symlink_to(tmp_path / "precious")
    ended = command("build", notes, *search_only, "--out", tmp_path / "out")
    assert ended.code == 2
    assert "symbolic link" in ended.sentence
    assert (tmp_path / "precious").read_text() == "precious"


# Comparing recipes.


def recipe_file(folder: Path, name: str, kind: str, base_model: Path) -> Path:
    path = folder / f"{name}.toml"
    training = "training = { batch_tokens = 512, evaluations = 0, keep_best = false, max_epochs = 100 }"
    stage = f'[[stages]]\nobjective = {{ kind = "{kind}" }}\n{training}\n'
    path.write_text(f'[model]\nbase = "{base_model}"\n{stage}')
    return path


def test_recipes_are_compared_and_the_tables_say_how(
    command: Command, base_model: Path, notes: Path, tmp_path: Path
) -> None:
    plain = recipe_file(tmp_path, "plain", "masked_language", base_model)
    retromae = recipe_file(tmp_path, "retromae", "retromae", base_model)
    budget = ("--budget", "1e9 flops", "--seeds", "2", "--out", tmp_path / "out")
    ended = command("compare", plain, retromae, "--corpus", notes, *budget)
    assert (ended.code, ended.err) == (0, "")
    assert "the first recipe" in ended.out
    assert "compare.json" in ended.out
    inspected = command("inspect", tmp_path / "out", "--check", "--json")
    assert "compare.md" in inspected.err
    assert "unfinished" not in inspected.err
    chain = json.loads(inspected.out)
    names = [link["name"] for link in chain]
    assert len(set(names)) == len(names) == len(list((tmp_path / "out").glob("steps/*/manifest.json")))
    assert names[0] == "corpus"
    assert [link["kind"] for link in chain].count("stage-1") == 4
    again = command("compare", plain, retromae, "--corpus", notes, *budget)
    assert "> " not in again.out
    assert again.out.splitlines()[-12:] == ended.out.splitlines()[-12:]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["default", "pretrain", "--budget", "five minutes"], "no budget"),
        (["default", "--budget", "5 minutes"], "two recipes or more"),
        (["default", "defautl", "--budget", "5 minutes"], "did you mean 'default'"),
        (["default", "demo", "--budget", "5 minutes"], "another corpus"),
        (["default", "pretrain", "--budget", "5 minutes", "--corpus", "nowhere"], "nowhere"),
    ],
)
def test_a_comparison_that_cannot_be_is_one_sentence(
    arguments: list[str], sentence: str, command: Command, tmp_path: Path
) -> None:
    ended = command("compare", *arguments, "--out", tmp_path / "out")
    assert ended.code == 2
    assert sentence in ended.sentence
