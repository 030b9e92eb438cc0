"""Encoding side by side with sentence-transformers and its backends, on sentences and on abstracts.

Every system encodes the same texts of the folder CORPUSMITH_DATA with all-MiniLM-L6-v2, from strings to vectors, each
in a process of its own (`benchmarks.speed.workers`), in interleaved rounds. Beside each speed stands how near the
vectors are to sentence-transformers' own in float32: an alternative is one of like fidelity where the mean cosine is
at least LIKE_FIDELITY.

    CORPUSMITH_DATA=DATA python -m benchmarks.speed.encode \\
        --peer-python onnx=ENV/bin/python openvino=ENV/bin/python

The ONNX and OpenVINO backends, sentence-transformers' and ours, take part where an interpreter is given that has them,
sentence-transformers[onnx] or [openvino], and corpusmith: these packages ask for other versions of transformers than
ours. Results go to benchmarks/results/encode.json, and drawn to encode.png beside it where matplotlib is installed.

With --float32 everything computes in float32, as on a machine without bf16, and the targets are those of such a
machine; results go to encode_float32.json. It shows what packing and kernels give apart from the arithmetic. What it
cannot show is how fast another processor's float32 is.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.record import RESULTS, write_results
from benchmarks.speed.encode_plot import draw
from benchmarks.speed.interleaved import interleave, speed_ratio
from benchmarks.speed.texts import draw_texts, words
from benchmarks.speed.workers import Channel, Worker, interpreters

from corpusmith import environment
from corpusmith.retrieval.encoding import Method

BASE = "all-MiniLM-L6-v2"
OURS, REFERENCE = "corpusmith", "sentence-transformers"
LIKE_FIDELITY = 0.9999
FASTEST = "the fastest of like fidelity"
TARGETS = {REFERENCE: 4.5, FASTEST: 1.25}
FLOAT32_TARGETS = {REFERENCE: 1.6, FASTEST: 1.0}
PEER = "benchmarks.speed.encode_peers:sentence_transformers"
SYSTEMS: dict[str, tuple[str, dict[str, Any], str | None]] = {
    OURS: ("benchmarks.speed.encode:ours", {"base": BASE, "method": "auto"}, None),
    "corpusmith, int8": ("benchmarks.speed.encode:ours", {"base": BASE, "method": "int8"}, None),
    "corpusmith, onnx": ("benchmarks.speed.encode:ours", {"base": BASE, "method": "onnx"}, "onnx"),
    "corpusmith, openvino": ("benchmarks.speed.encode:ours", {"base": BASE, "method": "openvino"}, "openvino"),
    REFERENCE: (PEER, {"kind": "float32"}, None),
    "sentence-transformers, bf16": (PEER, {"kind": "bf16"}, None),
    "sentence-transformers, onnx": (PEER, {"kind": "onnx"}, "onnx"),
    "sentence-transformers, onnx int8": (PEER, {"kind": "onnx int8"}, "onnx"),
    "sentence-transformers, openvino": (PEER, {"kind": "openvino"}, "openvino"),
    "sentence-transformers, openvino int8": (PEER, {"kind": "openvino int8"}, "openvino"),
}
"""Worker, its arguments, and the name of the interpreter it needs where that is not this one."""
FLOAT32_SYSTEMS: dict[str, tuple[str, dict[str, Any], str | None]] = {
    OURS: ("benchmarks.speed.encode:ours", {"base": BASE, "method": "float32"}, None),
    REFERENCE: SYSTEMS[REFERENCE],
    "sentence-transformers, onnx": SYSTEMS["sentence-transformers, onnx"],
    "sentence-transformers, openvino": (PEER, {"kind": "openvino float32"}, "openvino"),
}


def ours(channel: Channel, base: str, method: Method, folder: str) -> None:
    """Worker: corpusmith as a build encodes by this method."""
    from corpusmith.model.huggingface import load_checkpoint
    from corpusmith.retrieval.encoding import make_retriever

    environment.keep_freed_memory()
    checkpoint = load_checkpoint(base)
    retriever = make_retriever(checkpoint, method)

    def one_round(texts: str, save: str = "") -> dict[str, Any]:
        found = json.loads(Path(texts).read_text(encoding="utf-8"))
        if save:
            np.save(save, retriever.encode(found))
            lengths = [min(len(ids) + 2, checkpoint.max_tokens) for ids in checkpoint.tokenizer.encode(found)]
            return {"tokens": sum(lengths)}
        started = environment.seconds()
        retriever.encode(found)
        return {"seconds": environment.seconds() - started}

    channel.serve(one_round)


def cosines(vectors: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    """Mean and smallest cosine of corresponding rows."""
    norms = np.linalg.norm(vectors, axis=1) * np.linalg.norm(reference, axis=1)
    found = (vectors * reference).sum(axis=1) / norms
    return {"mean": round(float(found.mean()), 6), "least": round(float(found.min()), 6)}


def run_mix(
    texts: list[str], workers: dict[str, Worker], rounds: int, folder: Path, targets: dict[str, float]
) -> dict[str, Any]:
    """Encode the texts with every system round by round, and compare speeds and vectors."""
    path = folder / "texts.json"
    path.write_text(json.dumps(texts), encoding="utf-8")
    told = {name: worker.ask(texts=str(path), save=str(folder / f"{name}.npy")) for name, worker in workers.items()}
    timed = interleave({name: partial(worker.ask, texts=str(path)) for name, worker in workers.items()}, rounds)
    alive = [name for name, worker in workers.items() if worker.failure is None]
    seconds = {name: np.array([answer["seconds"] for answer in timed[name].answers]) for name in alive}
    reference = np.load(folder / f"{REFERENCE}.npy")
    systems: dict[str, dict[str, Any]] = {
        name: {"failed": worker.failure} for name, worker in workers.items() if worker.failure is not None
    }
    for name in alive:
        systems[name] = {
            "texts_per_second": round(len(texts) / float(np.median(seconds[name])), 1),
            "cosine": cosines(np.load(folder / f"{name}.npy"), reference),
        }
        if name != OURS:
            systems[name]["ours_is_faster_by"] = speed_ratio(seconds[name], seconds[OURS])
    tokens = (told[OURS] or {})["tokens"]
    systems[OURS]["tokens_per_second"] = round(tokens / float(np.median(seconds[OURS])))
    return {
        "texts": len(texts),
        "words": words(texts),
        "systems": {name: systems[name] for name in workers},
        "targets": judge_targets(systems, targets),
    }


def judge_targets(systems: dict[str, dict[str, Any]], targets: dict[str, float]) -> dict[str, dict[str, Any]]:
    """For every target what was measured, and whether it is met at our own fidelity."""
    measured = {
        name: system["ours_is_faster_by"]["median"]
        for name, system in systems.items()
        if "ours_is_faster_by" in system and system["cosine"]["mean"] >= LIKE_FIDELITY
    }
    faithful = systems[OURS]["cosine"]["mean"] >= LIKE_FIDELITY
    rivals = {name: ratio for name, ratio in measured.items() if name != REFERENCE and not name.startswith(OURS)}
    nearest = min(rivals, key=lambda name: rivals[name], default=None)
    found = {}
    for target, peer in zip(targets, (REFERENCE, nearest), strict=True):
        ratio = measured.get(peer) if peer else None
        met = faithful and ratio is not None and ratio >= targets[target]
        found[target] = {"peer": peer, "at_least": targets[target], "measured": ratio, "met": met}
    return found


def print_mix(mix: str, entry: dict[str, Any]) -> None:
    """One line a system."""
    print(f"\n{mix}: {entry['texts']} texts, {entry['words']['mean']} words on average")
    for name, system in entry["systems"].items():
        if "failed" in system:
            print(f"{name:38} failed: {system['failed'].splitlines()[-1]}")
            continue
        cosine = system["cosine"]
        line = f"{name:38} {system['texts_per_second']:8} texts/s   "
        line += f"cosine {cosine['mean']:.5f} (least {cosine['least']:.5f})"
        if "ours_is_faster_by" in system:
            ratio = system["ours_is_faster_by"]
            line += f"   ours x {ratio['median']:.2f} [{ratio['low']:.2f}, {ratio['high']:.2f}]"
        print(line)
    for name, target in entry["targets"].items():
        verdict = "met" if target["met"] else "not met"
        print(f"  target: {target['at_least']} x {name} ({target['peer']}): {target['measured']}, {verdict}")


def main() -> None:
    """Measure both length mixes and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--sentences", type=int, default=512)
    parser.add_argument("--abstracts", type=int, default=96)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--peer-python", nargs="+", default=[], metavar="NAME=PATH", help="interpreter of a backend")
    parser.add_argument("--float32", action="store_true", help="compute as a machine without bf16 does")
    parser.add_argument("--results", type=Path)
    arguments = parser.parse_args()
    systems, targets = (FLOAT32_SYSTEMS, FLOAT32_TARGETS) if arguments.float32 else (SYSTEMS, TARGETS)
    results = arguments.results or RESULTS / ("encode_float32.json" if arguments.float32 else "encode.json")
    pythons = interpreters(arguments.peer_python)
    sizes = {"sentences": arguments.sentences, "abstracts": arguments.abstracts}
    mixes = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        export_base(folder / "model")
        calibration = folder / "calibration"
        calibration.mkdir()
        lines = (json.dumps({"text": text}) for text in draw_texts("abstracts", 300, arguments.seed + 1))
        (calibration / "train.jsonl").write_text("\n".join(lines), encoding="utf-8")
        workers = {}
        for name, (target, given, needed) in systems.items():
            if needed and needed not in pythons:
                print(f"{name} is left out: no --peer-python {needed}=PATH")
                continue
            place = {"folder": str(folder / "model")}
            python = pythons[needed] if needed else sys.executable
            workers[name] = stack.enter_context(Worker(target, given | place, python))
        for mix, number in sizes.items():
            mixes[mix] = run_mix(draw_texts(mix, number, arguments.seed), workers, arguments.rounds, folder, targets)
            print_mix(mix, mixes[mix])
    write_results(results, {"rounds": arguments.rounds, "model": BASE, "mixes": mixes})
    draw(results)


def export_base(folder: Path) -> None:
    """The model in the form that sentence-transformers loads."""
    from corpusmith.model.huggingface import export_checkpoint, load_checkpoint

    folder.mkdir()
    export_checkpoint(load_checkpoint(BASE), folder)


if __name__ == "__main__":
    main()
