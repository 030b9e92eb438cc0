"""Which arithmetic is fastest on this machine, found by doing some.

What a processor's flags promise and what it does are two things: where bf16 is emulated it runs several times slower
than float32. So one product of the size that small encoders do most is timed in both. The choice is kept in the
user's cache folder, for each kind of processor: results depend on it, and should not change from run to run because
the machine was busy while it was measured.

The rate is also the yardstick of model FLOPs utilisation (Chowdhery et al., 2022, PaLM, section 4.1), measured anew by
each run of training: not a data sheet's peak, but what this machine's best product reaches today.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Literal

import torch

from corpusmith import environment
from corpusmith.disk import write_whole
from corpusmith.errors import MachineError
from corpusmith.model.linear import linear

Precision = Literal["bf16", "float32"]
DTYPES: dict[Precision, torch.dtype] = {"bf16": torch.bfloat16, "float32": torch.float32}

TOKENS, WIDTH, INNER = {"cpu": 2_048, "cuda": 16_384}, 384, 1_536
"""The product timed, `[TOKENS, WIDTH]` by `[WIDTH, INNER]`: a feed-forward part's."""

REPEATS = 7
ADVANTAGE = 1.2
"""How many times faster bf16 must be to be chosen: it costs a little exactness."""


def best_device() -> torch.device:
    """The GPU where PyTorch finds one (an empty CUDA_VISIBLE_DEVICES hides it), else the processor."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def fastest_precision(device: torch.device) -> Precision:
    """bf16 where it is clearly faster on this device, else float32."""
    if device.type != "cpu":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    return _fastest_on_processor()


@cache
def _fastest_on_processor() -> Precision:
    path = environment.cache_folder() / "arithmetic.json"
    key = f"{environment.processor()}, {environment.cores()} cores, torch {torch.__version__}"
    known = _read_choices(path)
    if key in known:
        return known[key]
    rates = {name: product_rate(torch.device("cpu"), name) for name in DTYPES}
    found: Precision = "bf16" if rates["bf16"] > ADVANTAGE * rates["float32"] else "float32"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(known | {key: found}, indent=1) + "\n")
    except (OSError, MachineError):  # a home that cannot be written only costs measuring again
        pass
    return found


def _read_choices(path: Path) -> dict[str, Precision]:
    """Choices made so far; none where the file is missing or damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {key: choice for key, choice in content.items() if choice in DTYPES} if isinstance(content, dict) else {}


@cache
@torch.inference_mode()
def product_rate(device: torch.device, precision: Precision) -> float:
    """Floating-point operations a second of the best of a few products, timed once a process (a tenth of a second)."""
    tokens, dtype = TOKENS.get(device.type, TOKENS["cpu"]), DTYPES[precision]
    generator = torch.Generator().manual_seed(0)
    input = torch.randn(tokens, WIDTH, generator=generator).to(device, dtype)
    weight = torch.randn(INNER, WIDTH, generator=generator).to(device, dtype)
    seconds = []
    for _ in range(REPEATS):
        started = environment.seconds()
        linear(input, weight, None)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(environment.seconds() - started)
    return 2.0 * tokens * WIDTH * INNER / max(min(seconds), 1e-9)


def match_cores() -> None:
    """Let PyTorch use no more threads than this process has cores: it does not know of a container's quota. Fewer, as
    OMP_NUM_THREADS or the caller may have chosen, stay."""
    torch.set_num_threads(min(torch.get_num_threads(), environment.cores()))
