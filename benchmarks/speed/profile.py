"""Where the time of encoding and of training goes, by category, and how near it is to this machine's matrix products.

Texts are those of the other benchmarks (`benchmarks.speed.texts`, folder CORPUSMITH_DATA). Each case is run a few times
for its speed, and once more under PyTorch's profiler for the shares; times of the operations themselves are added, so
that Python between them shows as "outside operations".

    CORPUSMITH_DATA=DATA python -m benchmarks.speed.profile

Results go to benchmarks/results/profile.json.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from benchmarks.record import RESULTS, write_results
from benchmarks.speed.texts import draw_texts

from corpusmith import environment
from corpusmith.model.arithmetic import DTYPES, fastest_precision, match_cores, product_rate
from corpusmith.model.checkpoint import Checkpoint
from corpusmith.model.config import EncoderConfig
from corpusmith.model.encoder import Encoder
from corpusmith.model.heads import MaskedLanguageHead
from corpusmith.model.huggingface import load_checkpoint
from corpusmith.model.packed import PackedBatch, pack
from corpusmith.objective.masked_language import head_flops, named_tokens_loss
from corpusmith.retrieval.dense import DenseRetriever
from corpusmith.training.optimiser import average_and_clip

BASE = "all-MiniLM-L6-v2"
SHAPES = {"L4-H256": (4, 256, 4), "L6-H384": (6, 384, 12), "L12-H768": (12, 768, 12)}
MASKING_RATE = 0.15
STEP_TOKENS = 4_096
CATEGORIES = {
    "matrix products of linear maps": ("mkldnn::_linear_pointwise", "aten::mm", "aten::addmm", "aten::linear"),
    "matrix products of attention": ("aten::bmm", "aten::baddbmm"),
    "exponentials": ("aten::exp",),
    "activation": ("aten::gelu",),
    "norms": ("aten::native_layer_norm",),
    "optimiser": ("aten::_fused_adamw", "aten::_foreach", "aten::linalg_vector_norm"),
    "moving and casting": ("aten::copy_", "aten::index", "aten::cat", "aten::gather", "aten::scatter"),
    "sums and largest scores": ("aten::sum", "aten::amax", "aten::amin", "aten::aminmax"),
    "element by element": ("aten::add", "aten::mul", "aten::sub", "aten::div", "aten::masked_fill", "aten::log"),
}


@dataclass(frozen=True, slots=True)
class Work:
    """Something to be timed: `run` does it, for so many tokens and FLOPs."""

    run: Callable[[], object]
    tokens: int
    flops: float


def encoding(checkpoint: Checkpoint, texts: list[str]) -> Work:
    """From strings to vectors."""
    retriever = DenseRetriever(checkpoint)
    lengths = [min(len(ids) + 2, checkpoint.max_tokens) for ids in checkpoint.tokenizer.encode(texts)]
    return Work(lambda: retriever.encode(texts), sum(lengths), checkpoint.encoder.flops(lengths))


def training(shape: str, checkpoint: Checkpoint, texts: list[str], precision: str) -> Work:
    """One step of masked language modelling on texts of like length, from fresh weights."""
    layers, size, heads = SHAPES[shape]
    config = EncoderConfig(
        model_type="bert",
        vocabulary_size=checkpoint.tokenizer.size,
        hidden_size=size,
        layers=layers,
        heads=heads,
        intermediate_size=4 * size,
        max_positions=512,
    )
    encoder = Encoder(config)
    head = MaskedLanguageHead(config)
    encoder.compute_dtype = DTYPES[precision]  # type: ignore[index]
    parameters = [*encoder.parameters(), *head.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=1e-4, fused=True)
    packed = one_batch([checkpoint.tokenizer.with_specials(ids, 512) for ids in checkpoint.tokenizer.encode(texts)])
    tokens = len(packed.ids)
    hidden = np.random.default_rng(0).choice(tokens, round(MASKING_RATE * tokens), replace=False)
    places = torch.from_numpy(np.sort(hidden))

    def step() -> None:
        loss = named_tokens_loss(encoder, head, encoder(packed), places, packed.ids[places])
        loss.backward()
        average_and_clip(parameters, 1.0, 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    return Work(step, tokens, 3 * encoder.flops(packed) + head_flops(encoder, len(places)))


def one_batch(sequences: Sequence[np.ndarray]) -> PackedBatch:
    """Neighbours in the order of lengths from the middle, as many as make a step."""
    ordered = sorted(sequences, key=len)
    middle = ordered[len(ordered) // 2 :] + ordered[: len(ordered) // 2][::-1]
    total = np.cumsum([len(sequence) for sequence in middle])
    return pack(middle[: max(1, int(np.searchsorted(total, STEP_TOKENS, side="right")))])


def shares(run: Callable[[], object]) -> dict[str, float]:
    """Share of the time of each category, of one run under the profiler."""
    started = environment.seconds()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        run()
        seconds = environment.seconds() - started
    spent = dict.fromkeys(CATEGORIES, 0.0)
    other = 0.0
    for event in profiler.key_averages():
        category = next((name for name, kinds in CATEGORIES.items() if event.key.startswith(kinds)), None)
        if category:
            spent[category] += event.self_cpu_time_total / 1e6
        else:
            other += event.self_cpu_time_total / 1e6
    found = {name: value / seconds for name, value in spent.items()} | {"other operations": other / seconds}
    found["outside operations"] = 1 - sum(found.values())
    return {name: round(value, 3) for name, value in found.items()}


def measure(work: Work, rounds: int, rate: float) -> dict[str, Any]:
    """Speed, utilisation and shares of one case."""
    seconds = []
    for round_ in range(rounds + 1):
        started = environment.seconds()
        work.run()
        if round_:
            seconds.append(environment.seconds() - started)
    middle = float(np.median(seconds))
    return {
        "tokens_per_second": round(work.tokens / middle),
        "utilisation": round(work.flops / middle / rate, 3),
        "shares": shares(work.run),
    }


def main() -> None:
    """Profile encoding and every shape's training on both mixes, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    environment.keep_freed_memory()
    match_cores()
    device = torch.device("cpu")
    precision = fastest_precision(device)
    rates = {name: product_rate(device, name) for name in DTYPES}
    checkpoint = load_checkpoint(BASE)
    texts = {"sentences": draw_texts("sentences", 512, seed=0), "abstracts": draw_texts("abstracts", 96, seed=0)}
    cases: dict[str, dict[str, Any]] = {}
    for mix, drawn in texts.items():
        cases[f"encode {BASE}, {mix}"] = measure(encoding(checkpoint, drawn), arguments.rounds, rates[precision])
        for shape in SHAPES:
            work = training(shape, checkpoint, drawn, precision)
            cases[f"train {shape}, {mix}"] = measure(work, arguments.rounds, rates[precision])
    for name, case in cases.items():
        print(f"{name:36} {case['tokens_per_second']:7,} tokens/s  {case['utilisation']:.0%} of the product's rate")
        print("    " + ", ".join(f"{kind} {share:.0%}" for kind, share in case["shares"].items()))
    gigaflops = {name: round(rate / 1e9, 1) for name, rate in rates.items()}
    write_results(
        RESULTS / "profile.json", {"precision": precision, "product_gigaflops_per_second": gigaflops, "cases": cases}
    )


if __name__ == "__main__":
    main()
