"""Killed at random moments and started again by the same command, a build ends with the same bytes.

A build with one stage for each objective is run once to its end. Then it is killed with SIGKILL, again and again: at a
random one of all its changes to the disk (some in the middle of a write), while it writes a checkpoint, between a step
and its line in the log, between an evaluation and its record, while the index is put together, and after a random time,
which is mostly in the middle of computing. Whenever a run gets to its end all the same, its folder is compared with the
first one, file by file, and the next begins in an empty folder.

    python -m benchmarks.faults.kills
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from benchmarks.faults.launcher import CHANGES, KILL, TORN, WRITE, Ended, Fault, Launcher, require_interposition
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


@dataclass
class Victim:
    """One command to be killed, and its first, uninterrupted run."""

    launcher: Launcher
    command: list[str | Path]
    folder: Path
    seconds: float
    whole: Ended
    expected: dict[str, str]

    def kill(self, moment: str, rng: np.random.Generator) -> Ended:
        """Run the command, and kill it at a random one of these moments, if it gets that far."""
        arguments = [*self.command, "--out", self.folder]
        settings = MOMENTS[moment]
        if settings is None:
            return self.launcher.run(*arguments, seconds=rng.uniform(0.1, 0.7) * self.seconds)
        kind, operations, pattern = settings
        reached = sum(pattern in operation for operation in self.whole.operations)
        # What was done before is not done again: an early moment is met by more of the attempts.
        at = int(rng.integers(1, max(2, reached // 3)))
        return self.launcher.run(*arguments, fault=Fault(kind, at, operations, pattern))


def options(document: str, tokens: int, objectives: tuple[str, ...]) -> argparse.ArgumentParser:
    """What all commands with a victim understand; `tokens` is how much it trains, and by which objectives, unless told
    otherwise."""
    parser = argparse.ArgumentParser(description=document.split("\n")[0])
    parser.add_argument("--tokens", type=int, default=tokens, help="the budget of training, all stages together")
    parser.add_argument("--objectives", nargs="+", default=list(objectives))
    parser.add_argument("--results", type=Path, default=RESULTS / "faults.json")
    return parser


def make_victim(launcher: Launcher, scratch: Path, objectives: tuple[str, ...], tokens: int) -> Victim:
    """Write the material, and build from it once without interruption."""
    corpus, model = write_corpus(scratch / "corpus"), write_model(scratch / "model")
    recipe = write_recipe(scratch / "recipe.toml", model, {"tokens": tokens}, objectives)
    command: list[str | Path] = ["build", corpus, "--recipe", recipe]
    started = time.monotonic()
    whole = launcher.run(*command, "--out", scratch / "whole", fault=Fault(pattern=str(scratch)))
    seconds = time.monotonic() - started
    if whole.code:
        raise SystemExit(f"the uninterrupted build failed: {whole.err}")
    return Victim(launcher, command, scratch / "killed", seconds, whole, content_of(scratch / "whole"))


def murder(victim: Victim, kills: int, seed: int) -> Iterator[dict]:
    """Kill `kills` times; one record for each attempt, and for each end a comparison with the uninterrupted run."""
    rng, done, names, runs = np.random.default_rng(seed), 0, list(MOMENTS), 0
    while True:
        moment = names[done % len(names)] if done < kills else ""
        ended = victim.kill(moment, rng) if moment else victim.launcher.run(*victim.command, "--out", victim.folder)
        if ended.code == -9:
            done += 1
            where = ended.operations[-1].replace(str(victim.folder), "") if moment != names[-1] else ""
            yield {"moment": moment, "operation": where, "step": _last_step(ended)}
            continue
        runs += 1
        odd = differences(content_of(victim.folder), victim.expected) if ended.code == 0 else []
        yield {"run": runs, "kills_so_far": done, "code": ended.code, "differs": odd, "error": ended.err[-500:]}
        if ended.code or odd or done >= kills:
            return
        shutil.rmtree(victim.folder)


def _last_step(ended: Ended) -> str:
    """The step of the chain that the command's output named last."""
    named = [line.split()[1] for line in ended.out.splitlines() if line.startswith(("> ", "= ", "+ "))]
    return named[-1] if named else "plan"


def main() -> None:
    """Kill, compare, write what happened; exit code 1 if a run ended with other bytes."""
    parser = options(__doc__, tokens=120_000, objectives=OBJECTIVES)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    require_interposition("benchmarks.faults.kills")
    with tempfile.TemporaryDirectory() as scratch:
        launcher = Launcher(Path(scratch), arguments.threads)
        victim = make_victim(launcher, Path(scratch), tuple(arguments.objectives), arguments.tokens)
        print(
            f"uninterrupted: {victim.seconds:.1f} s, {len(victim.whole.operations):,} changes to the disk", flush=True
        )
        records = []
        for record in murder(victim, arguments.kills, arguments.seed):
            records.append(record)
            print(record, flush=True)
    killed = [record for record in records if "moment" in record]
    runs = [record for record in records if "run" in record]
    same = len(killed) >= arguments.kills and all(run["code"] == 0 and not run["differs"] for run in runs)
    content = {
        "objectives": arguments.objectives,
        "seed": arguments.seed,
        "threads": arguments.threads,
        "files_compared": len(victim.expected),
        "kills": killed,
        "runs": runs,
        "same_bytes": same,
    }
    update_results(arguments.results, "kills", content)
    print(f"{len(killed)} kills, {len(runs)} runs to the end, same bytes: {same}")
    raise SystemExit(0 if same else 1)


if __name__ == "__main__":
    main()
