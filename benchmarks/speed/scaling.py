"""Time and memory of every step of the chain against the size of the corpus.

Corpora of 1,000 to 1,000,000 passages (`benchmarks.speed.passages`: real ones up to some 340,000, then synthetic ones)
go through the whole chain, each step in a process of its own, so that its highest memory is its own. On log axes the
slope of time, and of the memory a step takes beyond what its process held before, is to be at most 1.05.

    CORPUSMITH_DATA=DATA python -m benchmarks.speed.scaling --work DIR

Encoding a million passages with a real encoder takes hours on a small machine, and how long is known from its tokens a
second. So the real one encodes up to `--encode-up-to` passages, and a Transformer of one layer with random weights,
which cuts passages at 32 tokens, encodes all sizes; tokenizer and width of vectors are the real one's, and so is
everything around the encoder (shards, windows, batches, the mapped file). All other steps work on its vectors. The
pairs step makes as many pairs as the default preset asks for, whatever the size; searches are batches of the same
queries.

Resident memory counts pages of mapped files, which the system takes back when it needs them; anonymous memory does not,
and is sampled from outside every 20 ms. Both are read from /proc, so this runs on Linux. A step is measured once:
neighbours on a busy machine show in its seconds, less in its processor seconds. Processors change their rate, too: what
a fixed piece of work took before and after a step is noted with it (`probe_seconds`).

Results go to benchmarks/results/scaling.json as each step ends, and a run that was cut off goes on with the next one;
sizes already there are not measured again, unless `--again`. The plot scaling.png beside it needs matplotlib.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from benchmarks.record import RESULTS, write_results
from benchmarks.speed.passages import queries, real_records, write_corpus
from benchmarks.speed.ratio_plot import can_draw
from scipy.stats import t as student

REAL_ENCODER = "all-MiniLM-L6-v2"
SIZES = (1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000)
REAL = "encoding, real encoder"
STEPS = {
    "corpus": "read, clean, deduplicate, cut",
    "tokens": "tokenise to shards",
    "heldout": "held-out queries",
    "lexical": "build BM25",
    "base": "encode, one layer, 32 tokens",
    REAL: f"encode, {REAL_ENCODER}",
    "pairs": "training pairs, teacher",
    "batches": "plan an epoch's batches",
    "kept": "choose the model",
    "sentences": "encode sentences, one layer, 32 tokens",
    "choice": "choose settings",
    "index": "save dense index",
    "evaluation": "evaluate",
    "verify": "verify every digest",
    "open": "open the build",
    "search words": "256 queries, BM25",
    "search vectors": "256 queries, vectors",
    "search both": "256 queries, fused",
}
"""The steps in the order in which they run, and what the table and the plot call them."""
QUERIES = 256
ONE_LAYER_TOKENS = 32
LARGEST_SLOPE = 1.05
SHORTEST, SMALLEST = 0.2, 50e6
"""Seconds and bytes below which a step's fixed costs hide how it grows: such sizes take no part in the slope."""
SAMPLE_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Bench:
    """Where a size's corpus and builds lie, and which steps to run."""

    work: Path
    real: Path
    size: int
    seed: int

    @property
    def folder(self) -> Path:
        """Everything of this size."""
        return self.work / f"{self.size}"

    def records(self) -> list[Path]:
        """The corpus's files, written if they are not there."""
        marker = self.folder / "records" / ".whole"
        if not marker.exists():
            write_corpus(self.real, self.size, self.folder / "records", self.seed)
            marker.touch()
        return sorted((self.folder / "records").glob("*.jsonl"))

    def run(self, step: str) -> dict[str, float]:
        """Measure one step."""
        if step != REAL:
            return self._process(step, self.folder / "build", str(self.work / "one-layer"))
        real, shared = self.folder / "real-encoder", self.folder / "build" / "steps"
        (real / "steps").mkdir(parents=True, exist_ok=True)
        for parent in ("corpus", "heldout"):
            link = real / "steps" / parent
            link.unlink(missing_ok=True)
            link.symlink_to(os.path.relpath(shared / parent, link.parent))
        self._process("tokens", real, REAL_ENCODER)
        return self._process("base", real, REAL_ENCODER)

    def _process(self, step: str, out: Path, encoder: str) -> dict[str, float]:
        records = [str(path) for path in self.records()]
        command = [sys.executable, "-m", "benchmarks.speed.scaling_step", step, "--out", str(out), "--encoder", encoder]
        command += ["--queries", str(self.work / "queries.txt"), "--records", *records]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            anonymous = 0
            while process.poll() is None:
                anonymous = max(anonymous, anonymous_bytes(process.pid))
                time.sleep(SAMPLE_SECONDS)
            output = process.stdout.read() if process.stdout else ""
        if process.returncode:
            raise SystemExit(f"{step} failed at {self.size:,} passages (exit code {process.returncode})")
        return json.loads(output) | {"peak_anonymous_bytes": anonymous}


def anonymous_bytes(process: int) -> int:
    """Anonymous resident memory of a process now, 0 when it has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:")), 0)


def write_one_layer(folder: Path) -> None:
    """A checkpoint of one Transformer layer with random weights, with the real encoder's tokenizer and width."""
    from corpusmith.model.encoder import Encoder
    from corpusmith.model.huggingface import export_checkpoint, load_checkpoint

    checkpoint = load_checkpoint(REAL_ENCODER)
    config = checkpoint.encoder.config
    small = replace(config, layers=1, intermediate_size=config.hidden_size)
    folder.mkdir(parents=True, exist_ok=True)
    export_checkpoint(replace(checkpoint, encoder=Encoder(small), max_tokens=ONE_LAYER_TOKENS), folder)


def prepare(work: Path, seed: int) -> dict[str, int]:
    """Write real passages, queries and the one-layer checkpoint where they are missing; the number of real passages."""
    work.mkdir(parents=True, exist_ok=True)
    real = work / f"real-{seed}.jsonl"
    number = real_records(Path(os.environ["CORPUSMITH_DATA"]), real, seed)
    (work / "queries.txt").write_text("\n".join(queries(real, QUERIES)) + "\n", encoding="utf-8")
    if not (work / "one-layer" / "config.json").exists():
        write_one_layer(work / "one-layer")
    return {"real_passages": number}


def earlier(results: Path, seed: int) -> dict:
    """What an earlier run with the same seed wrote, to be gone on with."""
    if results.exists():
        content = json.loads(results.read_text(encoding="utf-8"))
        if content.get("seed") == seed:
            return {name: content[name] for name in ("seed", "steps")}
    return {"seed": seed, "steps": {}}


def forget(steps: dict[str, dict], size: int, wanted: Sequence[str], *, whole: bool) -> None:
    """Leave out the results of a size: all if `whole`, else if it is incomplete, for its builds are not there."""
    found = [step for step in wanted if str(size) in steps.get(step, {"runs": {}})["runs"]]
    if whole or len(found) < len(wanted):
        for step in found:
            del steps[step]["runs"][str(size)]


def slope(passages: Sequence[float], values: Sequence[float]) -> dict[str, float | int | bool | None]:
    """The slope of `values` on log axes by least squares, with a 95% jackknife interval, and that of the last two."""
    x, y = np.log(np.asarray(passages, dtype=float)), np.log(np.asarray(values, dtype=float))
    found: dict[str, float | int | bool | None] = {"sizes": len(x), "slope": None, "low": None, "high": None}
    if len(x) < 2:
        return found | {"last": None, "holds": None}
    whole = float(np.polyfit(x, y, 1)[0])
    found |= {"slope": round(whole, 3), "last": round(float((y[-1] - y[-2]) / (x[-1] - x[-2])), 3)}
    if len(x) > 2:
        left = np.array([np.polyfit(np.delete(x, i), np.delete(y, i), 1)[0] for i in range(len(x))])
        error = np.sqrt((len(x) - 1) * np.mean((left - left.mean()) ** 2))
        margin = float(student.ppf(0.975, len(x) - 1) * error)
        found |= {"low": round(whole - margin, 3), "high": round(whole + margin, 3)}
    return found | {"holds": whole <= LARGEST_SLOPE}


def growth(runs: dict[str, dict[str, float]]) -> dict:
    """Slopes of a step's seconds, processor seconds and memory over its sizes, and bytes for each further passage."""
    ordered = sorted(runs.values(), key=lambda run: run["passages"])
    found = {}
    for name, value, least in (
        ("seconds", lambda run: run["seconds"], SHORTEST),
        ("processor_seconds", lambda run: run["processor_seconds"], SHORTEST),
        ("peak_memory", lambda run: run["peak_bytes"] - run["start_bytes"], SMALLEST),
        ("anonymous_memory", lambda run: run["peak_anonymous_bytes"] - run["start_anonymous_bytes"], SMALLEST),
    ):
        counted = [run for run in ordered if value(run) >= least]
        found[name] = slope([run["passages"] for run in counted], [value(run) for run in counted])
    if len(ordered) > 1:
        first, last = ordered[0], ordered[-1]
        further = last["passages"] - first["passages"]
        for name in ("peak_bytes", "peak_anonymous_bytes"):
            found[f"{name}_a_passage"] = round((last[name] - first[name]) / further, 1)
    return found


def table(steps: dict[str, dict]) -> Iterator[str]:
    """One line a step: seconds and memory at the largest size, and the slopes."""
    names = f"{'step':30} {'passages':>9} {'seconds':>9} {'slope':>22} {'peak MB':>8} {'anonymous':>9} {'slope':>22}"
    yield f"{names} B/passage"
    for entry in steps.values():
        last = max(entry["runs"].values(), key=lambda run: run["passages"])
        yield (
            f"{entry['what']:30} {last['passages']:9,} {last['seconds']:9.1f} {_said(entry['seconds']):>22} "
            f"{last['peak_bytes'] / 1e6:8,.0f} {last['peak_anonymous_bytes'] / 1e6:9,.0f} "
            f"{_said(entry['anonymous_memory']):>22} {entry.get('peak_anonymous_bytes_a_passage', 0):9,.0f}"
        )


def _said(fit: dict) -> str:
    if fit["slope"] is None:
        return "fixed costs only"
    interval = f" [{fit['low']:.2f}, {fit['high']:.2f}]" if fit["low"] is not None else ""
    return f"{fit['slope']:.2f}{interval}{'' if fit['holds'] else ' !'}"


def main() -> None:
    """Measure what is not in the results yet, write them, print the table and draw the plot."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path, required=True, help="where corpora and builds go; some 5 GB a million")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="numbers of passages")
    parser.add_argument("--steps", choices=STEPS, nargs="+", default=list(STEPS), metavar="STEP", help=", ".join(STEPS))
    parser.add_argument("--encode-up-to", type=int, default=30_000, help="most passages for the real encoder")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--again", action="store_true", help="measure sizes anew that are in the results")
    parser.add_argument("--results", type=Path, default=RESULTS / "scaling.json", help="the JSON file; the plot beside")
    parser.add_argument("--keep", action="store_true", help="keep corpora and builds of sizes that are finished")
    arguments = parser.parse_args()
    work, results = arguments.work, arguments.results
    content = earlier(results, arguments.seed)
    content |= {"encode_up_to": arguments.encode_up_to, **prepare(work, arguments.seed)}
    for size in sorted(set(arguments.sizes)):
        bench = Bench(work, work / f"real-{arguments.seed}.jsonl", size, arguments.seed)
        wanted = [step for step in arguments.steps if step != REAL or size <= arguments.encode_up_to]
        if arguments.again or not bench.folder.exists():
            forget(content["steps"], size, wanted, whole=arguments.again)
        for step in wanted:
            entry = content["steps"].setdefault(step, {"what": STEPS[step], "runs": {}})
            if str(size) in entry["runs"]:
                continue
            print(f"{size:9,}  {STEPS[step]}", flush=True)
            run = bench.run(step)
            passages = content["steps"]["corpus"]["runs"].get(str(size), run)["passages"]
            entry["runs"][str(size)] = run | {"passages": passages}
            entry |= growth(entry["runs"])
            write_results(results, content)
        if not arguments.keep:
            shutil.rmtree(bench.folder, ignore_errors=True)
    content["steps"] = {step: content["steps"][step] for step in STEPS if step in content["steps"]}
    write_results(results, content)
    print(*table(content["steps"]), sep="\n")
    if can_draw(results):
        from benchmarks.speed.scaling_plot import draw

        draw(json.loads(results.read_text(encoding="utf-8")), results.with_suffix(".png"))


if __name__ == "__main__":
    main()
