"""One step of the chain in a process of its own, timed, and its memory: what `benchmarks.speed.scaling` starts.

Steps of a build run as the pipeline runs them, from the artefacts that earlier processes left; the time is that of the
step with its digests and its way to the disk, without starting Python and checking the earlier artefacts. Prints one
JSON object.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import process_time

import numpy as np

from corpusmith import environment
from corpusmith.index.search import Mode
from corpusmith.locks import locked
from corpusmith.objective.base import Objective
from corpusmith.pipeline.chain import Silent, Step, run
from corpusmith.pipeline.run import chain
from corpusmith.pipeline.summary import chain_of
from corpusmith.pipeline.workspace import Workspace
from corpusmith.recipe import preset
from corpusmith.search import Searcher, load
from corpusmith.training.batches import epoch_batches

RESULTS = 10
PROBE_ROUNDS = 3_000_000
SEARCHES: dict[str, Mode] = {"words": "lexical", "vectors": "dense", "both": "fused"}


@dataclass
class Clock:
    """What a step took between `start` and `stop`, and the memory that the process held at `start`."""

    started: tuple[float, float] = (0.0, 0.0)
    found: dict[str, float] = field(default_factory=dict)

    def start(self) -> None:
        """Begin."""
        self.found |= {"start_bytes": memory("VmRSS"), "start_anonymous_bytes": memory("RssAnon")}
        self.started = environment.seconds(), process_time()

    def stop(self) -> None:
        """End; memory is the process's highest so far."""
        self.found["seconds"] = round(environment.seconds() - self.started[0], 3)
        self.found["processor_seconds"] = round(process_time() - self.started[1], 3)
        self.found["peak_bytes"] = memory("VmHWM")


class StepTimer:
    """Watches a build and times one step of it."""

    def __init__(self, step: str) -> None:
        self.step, self.current, self.clock = step, "", Clock()

    def start(self, step: str, note: str, *, reused: bool) -> None:
        """A step begins."""
        self.current = step
        if step == self.step:
            self.clock.start()

    def advance(self, done: float, total: float | None, note: str = "") -> None:
        """Show nothing."""

    def finish(self, seconds: float) -> None:
        """A step has ended."""
        if self.current == self.step:
            self.clock.stop()

    def say(self, text: str) -> None:
        """Show nothing."""


def probe_seconds() -> float:
    """How long a fixed piece of work takes one core now: what it does not do at the same rate all day shows here."""
    started = process_time()
    total = 0
    for number in range(PROBE_ROUNDS):
        total += number * number & 255
    return process_time() - started


def memory(name: str) -> int:
    """A line of /proc/self/status in bytes: VmRSS (resident now), VmHWM (the most so far), RssAnon (no file's)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) * 1024


def run_step(name: str, paths: Sequence[Path], out: Path, encoder: str) -> dict[str, float]:
    """One step of the chain; what comes before it must be there, or is made first and not timed."""
    recipe = preset("default" if name == "pairs" else "search-only").with_overrides(
        {"model.base": encoder, "search.sentences": 0.5}
    )
    timer = StepTimer(name)
    work = Workspace(paths, recipe, out, timer)
    shutil.rmtree(work.path(name), ignore_errors=True)
    with locked(out):
        for step, manifest, _ in run(_with_ancestors(chain(work), name), recipe.seed, timer):
            work.manifests[step.name] = manifest
    facts = work.manifests[name].facts
    counts = {key: facts[key] for key in ("passages", "words", "near_duplicates", "queries", "pairs") if key in facts}
    return timer.clock.found | counts | {"artefact_bytes": work.manifests[name].bytes}


def _with_ancestors(steps: Sequence[Step], name: str) -> list[Step]:
    """The step and those it needs, in order."""
    needed = {name}
    for step in reversed(steps):
        if step.name in needed:
            needed.update(step.parents)
    return [step for step in steps if step.name in needed]


def plan_batches(paths: Sequence[Path], out: Path, encoder: str) -> dict[str, float]:
    """The batches of one epoch over all passages, as the objectives without pairs train on them."""
    recipe = preset("search-only").with_overrides({"model.base": encoder})
    work, clock = Workspace(paths, recipe, out, Silent()), Clock()
    most = work.base.max_tokens
    clock.start()
    lengths = np.minimum(work.shards.lengths[work.corpus.trainable_rows()] + 2, most)
    batches = epoch_batches(lengths, Objective.batch_tokens, seed=0, epoch=0)
    clock.stop()
    return clock.found | {"batches": len(batches)}


def verify(out: Path) -> dict[str, float]:
    """Every digest of every artefact."""
    clock = Clock()
    clock.start()
    chain_of(out, check=True)
    clock.stop()
    return clock.found


def open_build(out: Path) -> tuple[dict[str, float], Searcher]:
    """The finished build opened for search."""
    clock = Clock()
    clock.start()
    searcher = load(out)
    clock.stop()
    return clock.found, searcher


def search(out: Path, queries: Sequence[str], mode: Mode) -> dict[str, float]:
    """A batch of queries asked of the opened build; its memory counts the opening."""
    opened, searcher = open_build(out)
    clock = Clock()
    clock.start()
    found = searcher.engine.rank(queries, RESULTS, mode)
    clock.stop()
    held = {name: opened[name] for name in ("start_bytes", "start_anonymous_bytes")}
    return clock.found | held | {"queries": len(found.documents)}


def main() -> None:
    """Run one step and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("step")
    parser.add_argument("--records", type=Path, nargs="+", required=True, help="the corpus's files")
    parser.add_argument("--queries", type=Path, required=True, help="what is searched for, a query a line")
    parser.add_argument("--out", type=Path, required=True, help="the build's folder")
    parser.add_argument("--encoder", required=True, help="the base model")
    arguments = parser.parse_args()
    environment.keep_freed_memory()
    environment.bound_kernel_cache()
    out, before = arguments.out, probe_seconds()
    kind, _, mode = arguments.step.partition(" ")
    if kind == "search":
        found = search(out, arguments.queries.read_text(encoding="utf-8").splitlines(), SEARCHES[mode])
    elif kind == "open":
        found, _ = open_build(out)
    elif kind == "verify":
        found = verify(out)
    elif kind == "batches":
        found = plan_batches(arguments.records, out, arguments.encoder)
    else:
        found = run_step(kind, arguments.records, out, arguments.encoder)
    print(json.dumps(found | {"probe_seconds": round((before + probe_seconds()) / 2, 4)}))


if __name__ == "__main__":
    main()
