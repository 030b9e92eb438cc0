"""Memory that steps need, against what the plan says; and a corpus ten times as large as the memory.

First, builds of several corpora, models and objectives: for each step, what the plan predicted and the largest
resident size that its manifest records. Second, a build of 6 GB of documents in a control group of 600 MB, by a model
so small that it takes two hours: freed memory must be given back in time, and all that is mapped must come and go.
What is noted is the largest anonymous memory (files' pages left out: the system takes those back), step by step. It
goes on where it was cut off, if WORK is the same. Where control groups cannot be made, a limit on data (RLIMIT_DATA)
stands in.

    CORPUSMITH_DATA=... python -m benchmarks.faults.memory --only predictions
    python -m benchmarks.faults.memory --only ten_times --work WORK
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.faults.material import write_corpus, write_model
from benchmarks.record import RESULTS, update_results
from benchmarks.speed.scaling import anonymous_bytes

TOLERANCE = 0.3
"""How far from what was measured a plan may be."""
WORDS_A_DOCUMENT = 1200
VOCABULARY = 50_000
COMMON = 8_000
"""Words that are pieces of the small model's vocabulary; of the others the letters are."""
PASSAGE_WORDS = 1200
"""Documents stay whole, so that there is less to encode and to index."""
LIMIT, TIMES = 600_000_000, 10
"""Bytes of memory, and of how many times as many the corpus is."""
SAMPLE_SECONDS = 0.02
GROUPS = (Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup"))
"""Where control groups with a limit of memory are made, version 1 and 2."""
STAGE = '[[stages]]\nobjective = {{ kind = "{kind}" }}\n'
TRAINING = "[stages.training]\nevaluations = 1\n"
GROWN = """[start]
layers = 8
growth = [{ kind = "identity" }]
vocabulary = { kind = "extend", pieces = 2000 }
transfer = { kind = "focus" }
"""
LEARNED = """[start]
hidden_size = 512
heads = 16
growth = [{ kind = "ligo" }]
"""


def cases(data: Path, scratch: Path) -> dict[str, tuple[Path, str]]:
    """Corpus and recipe of each build, by name."""
    tiny = f'[model]\nbase = "{write_model(scratch / "tiny")}"\n'
    small = write_corpus(scratch / "small")
    budget = "[budget]\ntokens = 400000\n"
    search = "[search]\nsentences = 0.5\n"
    trained = search + 'model = "trained"\n'
    found = {
        "tiny model, 120 documents": (small, tiny + search),
        "MiniLM, 120 documents": (small, search),
        "MiniLM, cranfield": (data / "retrieval" / "cranfield", search),
        "MiniLM, scifact": (data / "retrieval" / "scifact", search),
    }
    for kind in ("contrastive", "masked_language", "retromae"):
        stage = STAGE.format(kind=kind) + TRAINING
        found[f"MiniLM, cranfield, {kind}"] = (data / "retrieval" / "cranfield", budget + trained + stage)
    for name, start in (("extended and deeper", GROWN), ("widened by LiGO", LEARNED)):
        stage = STAGE.format(kind="contrastive") + TRAINING
        found[f"MiniLM, cranfield, {name}"] = (data / "retrieval" / "cranfield", budget + trained + start + stage)
    found["tiny model, 120 documents, contrastive"] = (
        small, tiny + "[budget]\ntokens = 60000\n" + trained + STAGE.format(kind="contrastive") + TRAINING
    )  # fmt: skip
    return found


def build_case(corpus: Path, recipe: Path, out: Path) -> dict[str, dict[str, int]]:
    """Plan and build in this process, as the command line does; predicted and measured bytes of each step."""
    from corpusmith import environment
    from corpusmith.artefact import read_manifest
    from corpusmith.pipeline import build
    from corpusmith.pipeline.plan import make_plan
    from corpusmith.recipe import read_recipe

    environment.keep_freed_memory()
    environment.share_cores()
    chosen = read_recipe(recipe)
    plan = {step["step"]: step["memory_bytes"] for step in make_plan([corpus], chosen, out)}
    build(corpus, recipe=chosen, out=out)
    manifests = [*out.glob("steps/*/manifest.json"), *out.glob("*/manifest.json")]
    measured = {found.kind: found.peak_memory_bytes for found in (read_manifest(path.parent) for path in manifests)}
    return {name: {"predicted": plan[name], "measured": measured[name]} for name in plan}


def words() -> list[str]:
    """Random words, the commonest first."""
    rng = np.random.default_rng(0)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    return ["".join(rng.choice(letters, rng.integers(3, 11))) for _ in range(VOCABULARY)]


def write_text(path: Path, size: int) -> None:
    """Documents of random words with Zipf's frequencies, `size` bytes in all."""
    rng, vocabulary = np.random.default_rng(1), np.array(words())
    limits = np.cumsum(1 / (np.arange(VOCABULARY) + 2.7))
    partial = path.with_name(f".{path.name}")
    with partial.open("w") as file:
        written = number = 0
        while written < size:
            drawn = vocabulary[np.searchsorted(limits, rng.random(WORDS_A_DOCUMENT) * limits[-1], side="right")]
            sentences = [" ".join(drawn[start : start + 15]).capitalize() + "." for start in range(0, len(drawn), 15)]
            record = {"_id": f"d{number}", "title": " ".join(drawn[:6]).title(), "text": " ".join(sentences)}
            written += file.write(json.dumps(record) + "\n")
            number += 1
    partial.rename(path)


@contextmanager
def control_group(limit: int) -> Iterator[Path | None]:
    """A control group whose processes may have this much memory; None where none can be made."""
    for top, name in zip(GROUPS, ("memory.limit_in_bytes", "memory.max"), strict=True):
        group = top / f"corpusmith-{os.getpid()}"
        try:
            group.mkdir()
            (group / name).write_text(str(limit))
        except OSError:
            with suppress(OSError):
                group.rmdir()
            continue
        try:
            yield group
        finally:
            group.rmdir()
        return
    yield None


def watched(arguments: list[str], group: Path | None = None, data_limit: int | None = None) -> dict[str, Any]:
    """Run this module with these arguments; exit code, seconds, largest anonymous memory, in all and for each step,
    what it said last."""

    def enter() -> None:
        if group is not None:
            (group / "cgroup.procs").write_text(str(os.getpid()))
        elif data_limit is not None:
            resource.setrlimit(resource.RLIMIT_DATA, (data_limit, data_limit))

    started, anonymous = time.monotonic(), dict[str, int]()
    command = [sys.executable, "-m", "benchmarks.faults.memory", *arguments]
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said, preexec_fn=enter)
        while process.poll() is None:
            step, now = _step_in(Path(arguments[3])), anonymous_bytes(process.pid)
            anonymous[step] = max(anonymous.get(step, 0), now)
            time.sleep(SAMPLE_SECONDS)
        said.seek(0)
        last = said.read()[-400:] if process.returncode else ""
    seconds = round(time.monotonic() - started, 1)
    found = {"anonymous_bytes": max(anonymous.values()), "anonymous_bytes_by_step": anonymous}
    return {"code": process.returncode, "seconds": seconds, **found, "said": last}


def _step_in(out: Path) -> str:
    """The step that a build in this folder is taking; "between" where it takes none."""
    partial = [*out.glob("steps/.*.partial"), *out.glob(".*.partial")]
    return partial[0].name[1:].removesuffix(".partial") if partial else "between"


def predictions(data: Path, scratch: Path, wanted: list[str]) -> dict[str, dict]:
    """Predicted and measured memory of every case, or of those whose names hold one of the `wanted` texts."""
    found = {}
    for number, (name, (corpus, recipe)) in enumerate(cases(data, scratch).items()):
        if wanted and not any(text in name for text in wanted):
            continue
        path, out, result = (scratch / f"{number}{suffix}" for suffix in (".toml", "", ".json"))
        path.write_text(recipe)
        ran = watched(["--case", str(corpus), str(path), str(out), str(result)])
        if ran["code"]:
            raise SystemExit(f"{name}: {ran['said']}")
        found[name] = json.loads(result.read_text())
        shutil.rmtree(out)
        worst = max(found[name].items(), key=lambda entry: abs(_error(entry[1])))
        print(f"{name}: worst {worst[0]}, {_error(worst[1]):+.0%} of {worst[1]['measured'] / 1e6:,.0f} MB", flush=True)
    return found


def _error(step: dict[str, int]) -> float:
    return step["predicted"] / step["measured"] - 1


def ten_times(work: Path, limit: int = LIMIT, times: float = TIMES) -> dict[str, Any]:
    """A build of so many times the limit, within the limit; goes on with what is in `work`."""
    work.mkdir(parents=True, exist_ok=True)
    corpus, model, recipe, out = (work / name for name in ("corpus.jsonl", "tiny", "recipe.toml", "built"))
    if not corpus.exists():
        write_text(corpus, int(times * limit))
    if not model.exists():
        write_model(model, words()[:COMMON])
    recipe.write_text(f'[model]\nbase = "{model}"\n[corpus]\npassage_words = {PASSAGE_WORDS}\n')
    found = {"limit_bytes": limit, "corpus_bytes": corpus.stat().st_size, "resumed": out.exists()}
    with control_group(limit) as group:
        ran = watched(["--case", str(corpus), str(recipe), str(out), str(work / "result.json")], group, limit)
        return found | {"by": "control group" if group else "RLIMIT_DATA", **ran}


def main() -> None:
    """Measure, compare, write; exit code 1 if a prediction or the limit failed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--case", type=Path, nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--only", choices=("predictions", "ten_times"))
    parser.add_argument("--work", type=Path, help="where the large corpus and its build go, to go on with")
    parser.add_argument("--cases", nargs="*", default=[], help="parts of the names of builds; all, unless given")
    parser.add_argument("--results", type=Path, default=RESULTS / "faults.json")
    arguments = parser.parse_args()
    if arguments.case:
        corpus, recipe, out, result = arguments.case
        result.write_text(json.dumps(build_case(corpus, recipe, out)))
        return
    sound = True
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        if arguments.only != "ten_times":
            found = predictions(Path(os.environ["CORPUSMITH_DATA"]), scratch, arguments.cases)
            errors = [_error(step) for steps in found.values() for step in steps.values()]
            outside = sum(abs(error) > TOLERANCE for error in errors)
            summary = {"steps": len(errors), "outside": outside, "largest_error": round(max(map(abs, errors)), 3)}
            update_results(arguments.results, "memory, predicted", {"tolerance": TOLERANCE, **summary, "cases": found})
            print(summary)
            sound &= not outside
        if arguments.only != "predictions":
            limited = ten_times(arguments.work or scratch)
            update_results(arguments.results, "memory, limited", limited)
            print(limited)
            sound &= limited["code"] == 0
    raise SystemExit(0 if sound else 1)


if __name__ == "__main__":
    main()
