"""Encoding side by side with sentence-transformers, on sentences and on abstracts.

Texts are drawn from the trials of the folder CORPUSMITH_DATA: sentences as they come, and beginnings of articles of
about the length of an abstract. Every system encodes the same texts with all-MiniLM-L6-v2, from strings to vectors.
Beside each speed stands how near the vectors are to sentence-transformers' own in float32.

    CORPUSMITH_DATA=DATA python -m benchmarks.speed.encode

sentence-transformers' ONNX and OpenVINO backends take part where optimum is installed. Results go to
benchmarks/results/encode.json.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from benchmarks.record import RESULTS, write_results
from benchmarks.speed.interleaved import interleave, speed_ratio

from corpusmith import environment
from corpusmith.corpus.sentences import statements
from corpusmith.model.huggingface import export_checkpoint, load_checkpoint
from corpusmith.retrieval.dense import DenseRetriever

BASE = "all-MiniLM-L6-v2"
ABSTRACT_WORDS = (120, 320)
OURS = "corpusmith"
PEERS = {
    "sentence-transformers": {},
    "sentence-transformers, bf16": {"model_kwargs": {"dtype": torch.bfloat16}},
    "sentence-transformers, onnx": {"backend": "onnx"},
    "sentence-transformers, openvino": {"backend": "openvino"},
}
REFERENCE = "sentence-transformers"


def draw_texts(sentences: int, abstracts: int, seed: int) -> dict[str, list[str]]:
    """Texts of both kinds, drawn at random."""
    rng = np.random.default_rng(seed)
    path = Path(os.environ["CORPUSMITH_DATA"]) / "pretrain" / "trials.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as file:
        documents = [json.loads(line)["text"] for line in file]
    drawn = [documents[i] for i in rng.permutation(len(documents))]
    every_sentence = [sentence for text in drawn[:200] for sentence in statements(text)]
    beginnings = [" ".join(text.split()[: rng.integers(*ABSTRACT_WORDS)]) for text in drawn]
    chosen = rng.choice(len(every_sentence), sentences, replace=False)
    return {"sentences": [every_sentence[i] for i in chosen], "abstracts": beginnings[:abstracts]}


def encoders(folder: Path) -> dict[str, Callable[[list[str]], np.ndarray]]:
    """Every system that can be had here, by name."""
    from sentence_transformers import SentenceTransformer

    retriever = DenseRetriever(load_checkpoint(BASE))
    found: dict[str, Callable[[list[str]], np.ndarray]] = {OURS: retriever.encode}
    for name, options in PEERS.items():
        try:
            model = SentenceTransformer(str(folder), device="cpu", **options)
        except Exception as error:
            print(f"{name} is left out: {str(error).splitlines()[0]}")
            continue
        found[name] = lambda texts, model=model: np.asarray(model.encode(texts, convert_to_tensor=True).float())
    return found


def cosines(vectors: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    """Mean and smallest cosine of corresponding rows."""
    norms = np.linalg.norm(vectors, axis=1) * np.linalg.norm(reference, axis=1)
    found = (vectors * reference).sum(axis=1) / norms
    return {"mean": round(float(found.mean()), 6), "least": round(float(found.min()), 6)}


def main() -> None:
    """Measure both length mixes and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--sentences", type=int, default=512)
    parser.add_argument("--abstracts", type=int, default=128)
    arguments = parser.parse_args()
    environment.keep_freed_memory()
    torch.set_num_threads(environment.cores())
    with tempfile.TemporaryDirectory() as folder:
        export_checkpoint(load_checkpoint(BASE), Path(folder))
        systems = encoders(Path(folder))
    found = {}
    for kind, texts in draw_texts(arguments.sentences, arguments.abstracts, seed=0).items():
        vectors = {name: encode(texts) for name, encode in systems.items()}
        runs = {name: (lambda encode=encode, texts=texts: encode(texts)) for name, encode in systems.items()}
        timed = interleave(runs, arguments.rounds)
        found[kind] = {
            "texts": len(texts),
            "mean_words": round(float(np.mean([len(text.split()) for text in texts])), 1),
            "systems": {
                name: {
                    "texts_per_second": round(len(texts) / float(np.median(timed[name].seconds)), 1),
                    "ours_is_faster_by": speed_ratio(timed[name].seconds, timed[OURS].seconds),
                    "cosine": cosines(vectors[name], vectors[REFERENCE]),
                }
                for name in systems
            },
        }
        for name, entry in found[kind]["systems"].items():
            ratio = entry["ours_is_faster_by"]
            print(
                f"{kind:10} {name:32} {entry['texts_per_second']:8} texts/s   ours x {ratio['median']:.2f} "
                f"[{ratio['low']:.2f}, {ratio['high']:.2f}]   cosine {entry['cosine']['mean']:.5f} "
                f"(least {entry['cosine']['least']:.5f})"
            )
    write_results(RESULTS / "encode.json", {"rounds": arguments.rounds, "model": BASE, "mixes": found})


if __name__ == "__main__":
    main()
