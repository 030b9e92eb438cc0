"""Training side by side with transformers' Trainer and with sentence-transformers' trainer.

Masked language modelling of three shapes of BERT from fresh weights, and contrastive training of all-MiniLM-L6-v2, on
short and on long texts of the folder CORPUSMITH_DATA. Every system runs in a process of its own and sees the same
texts once, in the same number of steps, from the same weights, with the same learning rates. Rounds of a few steps are
interleaved; what is compared are real tokens a second (padding does not count).

    CORPUSMITH_DATA=DATA python -m benchmarks.speed.pretrain
    CORPUSMITH_DATA=DATA python -m benchmarks.speed.pretrain --cases mlm-L4-H256-sentences contrastive-abstracts

Speed only counts at equal loss. After the last step the models are asked for the loss on texts held out, all by the
peer's library in float32. Systems draw other batches and masks from the same texts, as their samplers do, so their
losses agree no better than those of two seeds of one system. In a small trial, on sentences of 24,000 tokens, ours
ended with three seeds at 7.62 to 7.66 and the Trainer with two at 7.63 to 7.68; on 384 pairs, 16 at a time, ours ended
at 0.585 to 0.604 and sentence-transformers at 0.581 to 0.587. Ours passes for equal if it is not significantly higher
(the interval over texts), or by no more than TOLERANCE of the peer's.

Results go to benchmarks/results/pretrain.json as cases finish, beside those of cases measured before, and are drawn to
pretrain.png beside it where matplotlib is installed.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.record import RESULTS, write_results
from benchmarks.speed import pretrain_contrastive, pretrain_mlm
from benchmarks.speed.interleaved import interleave, speed_ratio
from benchmarks.speed.pretrain_plot import draw
from benchmarks.speed.workers import Worker, interpreters
from transformers.utils import logging

from corpusmith import environment

OURS = "corpusmith"
TOLERANCE = {"mlm": 0.02, "contrastive": 0.05}
COMPARISONS = {"mlm": pretrain_mlm, "contrastive": pretrain_contrastive}
PEERS = ("torch", "transformers", "sentence-transformers", "accelerate", "datasets")


@dataclass(frozen=True, slots=True)
class Case:
    """What is trained on what, and how much faster ours is to be than each peer: `rounds` of `steps`, of which each
    takes about `step_size` real tokens (mlm) or so many pairs (contrastive)."""

    objective: str
    shape: str
    mix: str
    rounds: int
    steps: int
    step_size: int
    targets: dict[str, float]


CONTRASTIVE_TARGETS = {"sentence-transformers": 2.5, "sentence-transformers, bf16": 1.5}
CASES = {
    "mlm-L4-H256-sentences": Case("mlm", "L4-H256", "sentences", 7, 6, 4096, {"Trainer": 5.0, "Trainer, expert": 2.0}),
    "mlm-L4-H256-abstracts": Case("mlm", "L4-H256", "abstracts", 7, 6, 4096, {"Trainer": 4.0, "Trainer, expert": 2.0}),
    "mlm-L6-H384-sentences": Case("mlm", "L6-H384", "sentences", 7, 6, 4096, {"Trainer": 5.0, "Trainer, expert": 2.0}),
    "mlm-L6-H384-abstracts": Case("mlm", "L6-H384", "abstracts", 7, 6, 4096, {"Trainer": 4.0, "Trainer, expert": 2.0}),
    "mlm-L12-H768-sentences": Case("mlm", "L12-H768", "sentences", 5, 2, 4096, {}),
    "mlm-L12-H768-abstracts": Case("mlm", "L12-H768", "abstracts", 5, 2, 4096, {}),
    "contrastive-sentences": Case("contrastive", "L6-H384", "sentences", 7, 6, 64, CONTRASTIVE_TARGETS),
    "contrastive-abstracts": Case("contrastive", "L6-H384", "abstracts", 7, 3, 64, CONTRASTIVE_TARGETS),
}
SIZES = ("rounds", "steps", "step_size")


def main() -> None:
    """Measure the cases asked for, one after the other, and write each one's results as it ends."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--rounds", type=int, help="in place of the cases' own number")
    parser.add_argument("--steps", type=int, help="steps of a round, in place of the cases' own number")
    parser.add_argument("--step-size", type=int, help="real tokens (mlm) or pairs (contrastive) of a step, likewise")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--peer-python", nargs="+", default=[], metavar="NAME=PATH", help="interpreter of a system")
    parser.add_argument("--results", type=Path, default=RESULTS / "pretrain.json")
    arguments = parser.parse_args()
    pythons = interpreters(arguments.peer_python)
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    for name in arguments.cases:
        chosen = {size: getattr(arguments, size) for size in SIZES if getattr(arguments, size) is not None}
        case = replace(CASES[name], **chosen)
        print(f"\n{name}: {case.rounds} rounds of {case.steps} steps after one that does not count")
        entry = run_case(case, arguments.seed, pythons)
        print_case(entry)
        write_case(arguments.results, name, entry)


def run_case(case: Case, seed: int, pythons: dict[str, str]) -> dict[str, Any]:
    """Train with every system, compare speeds and losses."""
    comparison = COMPARISONS[case.objective]
    steps = (case.rounds + 1) * case.steps
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepared = comparison.prepare(folder, case.shape, case.mix, case.step_size, steps, seed)
        workers = comparison.systems(folder, prepared, steps, seed)
        found = train_side_by_side(folder, workers, case, seed, pythons)
        models = {name: folder / name for name, run in found.items() if isinstance(run, TrainedSystem)}
        losses, weights = comparison.held_out_losses(folder, {"start": folder / "start"} | models, seed)
    systems = describe(found, losses, weights, prepared["texts"], TOLERANCE[case.objective])
    return {
        "date": environment.now(),
        "machine": environment.machine(),
        **asdict(case),
        "seed": seed,
        **prepared,
        "start_loss": round(float(losses["start"].sum() / weights.sum()), 4),
        "systems": systems,
        "targets": judge_targets(case.targets, systems),
    }


@dataclass(frozen=True, slots=True)
class TrainedSystem:
    """How one system trained: seconds a real token of each round `[R]`, and what it told at the end."""

    seconds_a_token: np.ndarray
    end: dict[str, Any]


def train_side_by_side(
    folder: Path, workers: dict[str, tuple[str, dict, dict]], case: Case, seed: int, pythons: dict[str, str]
) -> dict[str, TrainedSystem | str]:
    """Train all systems round by round and save their models under their names; of those that died, the last words."""
    with ExitStack() as stack:
        running = {
            name: stack.enter_context(Worker(target, given, pythons.get(name, sys.executable), variables))
            for name, (target, given, variables) in workers.items()
        }
        asks = {name: partial(worker.ask, steps=case.steps) for name, worker in running.items()}
        timed = interleave(asks, case.rounds, seed)
        found: dict[str, TrainedSystem | str] = {}
        for name, worker in running.items():
            end = worker.ask(save=str(folder / name))
            if end is None:
                found[name] = worker.failure or ""
            else:
                tokens = np.array([answer["tokens"] for answer in timed[name].answers])
                found[name] = TrainedSystem(timed[name].seconds / tokens, end)
    return found


def describe(
    found: dict[str, TrainedSystem | str],
    losses: dict[str, np.ndarray],
    weights: np.ndarray,
    texts: int,
    tolerance: float,
) -> dict[str, dict[str, Any]]:
    """The results' entry of every system; ours stands beside each that ran."""
    entries: dict[str, dict[str, Any]] = {}
    ours = found[OURS]
    for name, run in found.items():
        if isinstance(run, str):
            entries[name] = {"failed": run}
            continue
        curve = {
            "tokens": np.cumsum(run.end["tokens"]).tolist(),
            "loss": [round(loss, 4) for loss in run.end["losses"]],
        }
        speed = 1 / float(np.median(run.seconds_a_token))
        entries[name] = {
            "real_tokens_per_second": round(speed),
            "texts_per_second": round(speed * texts / curve["tokens"][-1], 2),
            "held_out_loss": round(float(losses[name].sum() / weights.sum()), 4),
            "threads": run.end["threads"],
            "peak_memory_gib": run.end["peak_memory_gib"],
            "curve": curve,
        }
        if isinstance(ours, TrainedSystem) and name != OURS:
            entries[name]["ours_is_faster_by"] = speed_ratio(run.seconds_a_token, ours.seconds_a_token)
            entries[name]["our_loss_is_higher_by"] = loss_difference(losses[OURS], losses[name], weights, tolerance)
    return entries


def loss_difference(
    ours: np.ndarray, peer: np.ndarray, weights: np.ndarray, tolerance: float, seed: int = 0
) -> dict[str, Any]:
    """Our mean held-out loss less the peer's, with a 95% bootstrap interval over texts, and whether ours is as good."""
    drawn = np.random.default_rng(seed).integers(len(ours), size=(10_000, len(ours)))
    differences = (ours - peer)[drawn].sum(axis=1) / weights[drawn].sum(axis=1)
    low, high = np.quantile(differences, [0.025, 0.975])
    mean = float((ours - peer).sum() / weights.sum())
    equal = bool(low <= 0 or mean <= tolerance * float(peer.sum() / weights.sum()))
    return {"mean": round(mean, 4), "low": round(float(low), 4), "high": round(float(high), 4), "equal": equal}


def judge_targets(targets: dict[str, float], systems: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """For every target what was measured, and whether it is met: the ratio's median, at equal loss."""
    found = {}
    for peer, least in targets.items():
        ratio, loss = systems[peer].get("ours_is_faster_by"), systems[peer].get("our_loss_is_higher_by")
        measured = ratio["median"] if ratio else None
        equal = bool(loss and loss["equal"])
        met = measured is not None and measured >= least and equal
        found[peer] = {"at_least": least, "measured": measured, "equal_loss": equal, "met": met}
    return found


def print_case(entry: dict[str, Any]) -> None:
    """One line a system."""
    print(f"{'':30} {'tokens/s':>9} {'texts/s':>8} {'held-out loss':>14}   ours is faster by      (target)")
    print(f"{'before':30} {'':9} {'':8} {entry['start_loss']:14.4f}")
    for name, system in entry["systems"].items():
        if "failed" in system:
            print(f"{name:30} failed: {system['failed'].splitlines()[-1]}")
            continue
        line = f"{name:30} {system['real_tokens_per_second']:9,} {system['texts_per_second']:8.1f}"
        line += f" {system['held_out_loss']:14.4f}"
        if "ours_is_faster_by" in system:
            ratio = system["ours_is_faster_by"]
            line += f"   {ratio['median']:5.2f} [{ratio['low']:.2f}, {ratio['high']:.2f}]"
        if name in entry["targets"]:
            target = entry["targets"][name]
            line += f"   ({target['at_least']:g}: {'met' if target['met'] else 'not met'})"
        print(line, flush=True)


def write_case(path: Path, name: str, entry: dict[str, Any]) -> None:
    """Put a case beside those that the results hold already, and draw them all."""
    known = json.loads(path.read_text(encoding="utf-8"))["cases"] if path.exists() else {}
    cases = known | {name: entry}
    versions = {peer: metadata.version(peer) for peer in PEERS}
    ordered = {name: cases[name] for name in CASES if name in cases}
    write_results(path, {"peers": versions, "tolerance": TOLERANCE, "cases": ordered})
    draw(path)


if __name__ == "__main__":
    main()
