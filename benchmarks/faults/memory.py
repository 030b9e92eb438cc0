"""Memory that steps need, against what the plan says; and how much corpus goes into a byte of memory.

First, builds of several corpora, models and objectives: for each step, what the plan predicted and the largest resident
size that its manifest records. Second, a build of a large corpus, whose largest anonymous memory is noted (files' pages
left out: the system takes those back); then the same and one of a small corpus in a control group that allows nine
tenths of that: freed memory must be given back in time, and all that is mapped must come and go. By how much the two
differ there tells how much corpus goes into a byte of memory; the aim is ten. Without a limit the difference would
mostly be what freed blocks leave behind by chance.
Where control groups cannot be made, a limit on data (RLIMIT_DATA) stands in.

    CORPUSMITH_DATA=... python -m benchmarks.faults.memory
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
SMALL, LARGE = 60_000_000, 300_000_000
"""Bytes of the two corpora by which growth is measured."""
SAMPLE_SECONDS = 0.005
AIM = 10
"""Bytes of corpus for each byte that memory grows by."""
ALLOWED = 0.9
"""The limit, as a share of the anonymous memory that the large build takes without one."""
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
    trained = '[search]\nmodel = "trained"\n'
    found = {
        "tiny model, 120 documents": (small, tiny),
        "MiniLM, 120 documents": (small, ""),
        "MiniLM, cranfield": (data / "retrieval" / "cranfield", ""),
        "MiniLM, scifact": (data / "retrieval" / "scifact", ""),
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


def write_text(path: Path, size: int, seed: int) -> None:
    """Documents of random words with Zipf's frequencies, `size` bytes in all."""
    rng = np.random.default_rng(seed)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    vocabulary = np.array(["".join(rng.choice(letters, rng.integers(3, 11))) for _ in range(VOCABULARY)])
    chances = 1 / (np.arange(VOCABULARY) + 2.7)
    chances /= chances.sum()
    written = number = 0
    with path.open("w") as file:
        while written < size:
            words = vocabulary[rng.choice(VOCABULARY, WORDS_A_DOCUMENT, p=chances)]
            sentences = [" ".join(words[start : start + 15]).capitalize() + "." for start in range(0, len(words), 15)]
            record = {"_id": f"d{number}", "title": " ".join(words[:6]).title(), "text": " ".join(sentences)}
            written += file.write(json.dumps(record) + "\n")
            number += 1


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


def growth(scratch: Path) -> dict:
    """A large build with and without a limit, and how its memory within the limit differs from a small one's."""
    recipe = scratch / "limited.toml"
    recipe.write_text(f'[model]\nbase = "{scratch / "tiny"}"\n')
    for name, size in (("small", SMALL), ("large", LARGE)):
        write_text(scratch / f"{name}.jsonl", size, seed=0)

    def measured(name: str, group: Path | None = None, limit: int | None = None) -> dict[str, Any]:
        out, result = scratch / "built", scratch / "built.json"
        ran = watched(["--case", str(scratch / f"{name}.jsonl"), str(recipe), str(out), str(result)], group, limit)
        shutil.rmtree(out, ignore_errors=True)
        print(name, ran, flush=True)
        return ran

    found: dict = {"corpus_bytes": {"small": SMALL, "large": LARGE}, "unlimited": measured("large")}
    limit = int(ALLOWED * found["unlimited"]["anonymous_bytes"])
    with control_group(limit) as group:
        found |= {"limit_bytes": limit, "by": "control group" if group else "RLIMIT_DATA"}
        found |= {name: measured(name, group, limit) for name in ("small", "large")}
    more = found["large"]["anonymous_bytes"] - found["small"]["anonymous_bytes"]
    return found | {"corpus_bytes_a_byte_of_memory": round((LARGE - SMALL) / max(1, more), 1), "aim": AIM}


def main() -> None:
    """Measure, compare, write; exit code 1 if a prediction or the limit failed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--case", type=Path, nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--only", choices=("predictions", "growth"))
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
        if arguments.only != "growth":
            found = predictions(Path(os.environ["CORPUSMITH_DATA"]), scratch, arguments.cases)
            errors = [_error(step) for steps in found.values() for step in steps.values()]
            outside = sum(abs(error) > TOLERANCE for error in errors)
            summary = {"steps": len(errors), "outside": outside, "largest_error": round(max(map(abs, errors)), 3)}
            update_results(arguments.results, "memory, predicted", {"tolerance": TOLERANCE, **summary, "cases": found})
            print(summary)
            sound &= not outside
        if arguments.only != "predictions":
            if not (scratch / "tiny").exists():
                write_model(scratch / "tiny")
            limited = growth(scratch)
            update_results(arguments.results, "memory, limited", limited)
            sound &= limited["large"]["code"] == 0 and limited["corpus_bytes_a_byte_of_memory"] >= AIM
    raise SystemExit(0 if sound else 1)


if __name__ == "__main__":
    main()
