"""Killed at random moments and started again by the same command, a build ends with the same bytes.

For each objective a build with one stage is run once to its end. Then it is killed with SIGKILL, again and again: at a
random one of all its changes to the disk (some in the middle of a write), while it writes a checkpoint, between a step
and its line in the log, between an evaluation and its record, while the index is put together, and after a random time,
which is mostly in the middle of computing. Whenever a run gets to its end all the same, its folder is compared with the
first one, file by file, and the next begins in an empty folder. With `--together` one build has a stage for each of the
objectives.

    python -m benchmarks.faults.kills
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from benchmarks.faults.launcher import (
    CHANGES,
    KILL,
    TORN,
    WRITE,
    Ended,
    Fault,
    Launcher,
    Order,
    Trial,
    require_interposition,
)
from benchmarks.faults.material import OBJECTIVES, content_of, differences, write_corpus, write_model, write_recipe
from benchmarks.record import RESULTS, update_results

MOMENTS = {
    "any change to the disk": (KILL, CHANGES, ""),
    "in the middle of a write": (TORN, WRITE, ""),
    "while a checkpoint is written": (TORN, CHANGES, "/checkpoints/.step-"),
    "between a step and its line": (KILL, WRITE, "/run/log.jsonl"),
    "between an evaluation and its record": (KILL, CHANGES, "/.progress.json.partial"),
    "while vectors are encoded": (KILL, CHANGES, "/.base.scratch/"),
    "while the index is put together": (TORN, CHANGES, "/.index.partial"),
    "after a random time": None,
}
"""Kinds of moments, taken in turn: fault, operations and path."""
OUTPUT = re.compile(r"write .*/\d+\.out")
"""Where a build's output goes, under another name in every run."""


@dataclass
class Victim:
    """One command to be killed, and its first, uninterrupted run."""

    launcher: Launcher
    command: list[str | Path]
    folder: Path
    seconds: float
    whole: Ended
    expected: dict[str, str]

    def kill(self, moment: str, rng: np.random.Generator) -> Order:
        """Run the command, and kill it at a random one of these moments, if it gets that far."""
        arguments = [*self.command, "--out", self.folder]
        settings = MOMENTS[moment]
        if settings is None:
            return arguments, Fault(), rng.uniform(0.1, 0.7) * self.seconds
        kind, operations, pattern = settings
        reached = sum(pattern in operation for operation in self.whole.operations)
        # What was done before is not done again: an early moment is met by more of the attempts.
        at = int(rng.integers(1, max(2, reached // 3)))
        return arguments, Fault(kind, at, operations, pattern), None


def options(document: str, tokens: int, objectives: tuple[str, ...]) -> argparse.ArgumentParser:
    """What all commands with a victim understand; `tokens` is how much it trains, and by which objectives, unless told
    otherwise."""
    parser = argparse.ArgumentParser(description=document.split("\n")[0])
    parser.add_argument("--tokens", type=int, default=tokens, help="the budget of training, all stages together")
    parser.add_argument("--objectives", nargs="+", default=list(objectives))
    parser.add_argument("--results", type=Path, default=RESULTS / "faults.json")
    return parser


def make_victim(launcher: Launcher, scratch: Path, objectives: tuple[str, ...], tokens: int) -> Victim:
    """Write the material into a folder, and build from it once without interruption."""
    scratch.mkdir(parents=True, exist_ok=True)
    corpus, model = write_corpus(scratch / "corpus"), write_model(scratch / "model")
    recipe = write_recipe(scratch / "recipe.toml", model, {"tokens": tokens}, objectives)
    command: list[str | Path] = ["build", corpus, "--recipe", recipe]
    started = time.monotonic()
    whole = launcher.run(*command, "--out", scratch / "whole", fault=Fault(pattern=str(scratch)))
    seconds = time.monotonic() - started
    if whole.code:
        raise SystemExit(f"the uninterrupted build ({', '.join(objectives)}) failed: {whole.err}")
    return Victim(launcher, command, scratch / "killed", seconds, whole, content_of(scratch / "whole"))


def murder(victim: Victim, objectives: tuple[str, ...], kills: int, seed: int) -> Trial[dict]:
    """Kill `kills` times: where each happened, and for each end what differs from the uninterrupted run."""
    rng, names = np.random.default_rng(seed), list(MOMENTS)
    killed: list[dict] = []
    runs: list[dict] = []
    while True:
        moment = names[len(killed) % len(names)] if len(killed) < kills else ""
        whole = ([*victim.command, "--out", victim.folder], Fault(), None)
        ended = yield victim.kill(moment, rng) if moment else whole
        if ended.code == -signal.SIGKILL:
            where = ended.operations[-1].replace(str(victim.folder), "") if moment != names[-1] else ""
            where = OUTPUT.sub("write to standard output", where)
            killed.append({"moment": moment, "operation": where, "step": _last_step(ended)})
            continue
        odd = differences(content_of(victim.folder), victim.expected) if ended.code == 0 else []
        runs.append({"kills_so_far": len(killed), "code": ended.code, "differs": odd, "error": ended.err[-500:]})
        shutil.rmtree(victim.folder)
        if ended.code or odd or len(killed) >= kills:
            break
    same = len(killed) >= kills and all(run["code"] == 0 and not run["differs"] for run in runs)
    found = {"objectives": objectives, "files_compared": len(victim.expected), "kills": killed, "runs": runs}
    return found | {"same_bytes": same}


def _last_step(ended: Ended) -> str:
    """The step of the chain that the command's output named last."""
    named = [line.split()[1] for line in ended.out.splitlines() if line.startswith(("> ", "= ", "+ "))]
    return named[-1] if named else "plan"


def main() -> None:
    """Kill, compare, write what happened; exit code 1 if a run ended with other bytes."""
    parser = options(__doc__, tokens=12_000, objectives=OBJECTIVES)
    parser.add_argument("--kills", type=int, default=20, help="for each build")
    parser.add_argument("--together", action="store_true", help="one build with all objectives")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="builds that run at a time")
    arguments = parser.parse_args()
    require_interposition("benchmarks.faults.kills")
    together, each = tuple(arguments.objectives), [(kind,) for kind in arguments.objectives]
    groups = [together] if arguments.together else each
    with tempfile.TemporaryDirectory() as name:
        launcher = Launcher(Path(name))

        def trial(number: int, group: tuple[str, ...]) -> Trial[dict]:
            victim = make_victim(launcher, Path(name) / f"build-{number}", group, arguments.tokens)
            return murder(victim, group, arguments.kills, arguments.seed + number)

        builds = []
        for found in launcher.run_trials((trial(*entry) for entry in enumerate(groups)), arguments.jobs):
            builds.append(found)
            ended = f"{len(found['kills'])} kills, {len(found['runs'])} runs to the end"
            print(f"{', '.join(found['objectives'])}: {ended}, same bytes: {found['same_bytes']}", flush=True)
            if not found["same_bytes"]:
                print(found["runs"][-1], flush=True)
    builds.sort(key=lambda found: groups.index(found["objectives"]))
    same = all(found["same_bytes"] for found in builds)
    content = {"seed": arguments.seed, "tokens": arguments.tokens, "builds": builds, "same_bytes": same}
    update_results(arguments.results, "kills", content)
    raise SystemExit(0 if same else 1)


if __name__ == "__main__":
    main()
