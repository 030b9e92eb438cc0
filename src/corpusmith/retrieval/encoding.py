"""How vectors are computed: the recipe's choice, and the one place that makes a retriever by it.

A build remembers the method beside its vectors, because queries must be encoded as the passages were. Of the methods,
int8 alone changes vectors by more than rounding. So it must prove itself on the corpus first: a few hundred passages
are encoded in float32 as well, and the cosines of the two decide.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from corpusmith.config import Config
from corpusmith.errors import ArtefactError

if TYPE_CHECKING:
    from corpusmith.corpus.shards import TokenShards
    from corpusmith.model.checkpoint import Checkpoint
    from corpusmith.retrieval.dense import Backend, DenseRetriever

Method = Literal["auto", "float32", "bf16", "int8", "onnx", "openvino"]
FILE = "encoding.json"
SAMPLE = 256
"""Passages on which int8 is compared with float32."""
LOW = 0.05
"""The quantile of their cosines that must reach the bound, as the mean must."""


class EncodingConfig(Config):
    """How vectors are computed, those of passages as well as those of queries."""

    method: Method = "auto"
    """The arithmetic, or what computes in PyTorch's place. "auto" takes bf16 where that is clearly
    the faster, else float32. "int8" quantises the linear maps, for processors with VNNI or AMX, if the corpus's own
    passages lose no more than `int8_cosine` allows; otherwise the build does as with "auto", and says so. "onnx" is
    ONNX Runtime in float32, "openvino" OpenVINO in bf16 or float32 as "auto"; each is an extra of the same name to
    install."""
    int8_cosine: float = Field(default=0.99, gt=0, le=1)
    """The least cosine between int8 and float32 vectors of the same passages: their mean must reach it, and 95% of
    them. Above 0, at most 1."""


@dataclass(frozen=True, slots=True)
class Encoding:
    """What vectors were computed with, kept in a file beside them; `reason` is a sentence where there is one to say."""

    method: Method
    reason: str = ""

    def save(self, folder: Path) -> None:
        """Write it into an existing folder."""
        (folder / FILE).write_text(json.dumps(asdict(self), indent=2), encoding="utf-8")

    @classmethod
    def open(cls, folder: Path) -> Encoding:
        """Read it back; "auto" where there is no such file.

        Raises:
            ArtefactError: the file is damaged.
        """
        path = folder / FILE
        if not path.exists():
            return cls("auto")
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise ArtefactError(f"{path} is damaged ({error}); run the build again.") from error


def choose_encoding(config: EncodingConfig, checkpoint: Checkpoint, shards: TokenShards, seed: int) -> Encoding:
    """What the recipe asks for, unless that is int8 and this processor or these passages do not allow it."""
    if config.method != "int8":
        return Encoding(config.method)
    if not _can_int8(checkpoint):
        return Encoding("auto", "This processor has no fast products of 8-bit integers; int8 is not used.")
    drawn = np.random.default_rng([seed, 0x18]).choice(len(shards), min(SAMPLE, len(shards)), replace=False)
    mean, low = fidelity(checkpoint, "int8", shards, np.sort(drawn))
    found = (
        f"On {len(drawn)} passages int8 vectors have a cosine of {mean:.4f} to float32 ones on average, and of "
        f"{low:.4f} or more on {1 - LOW:.0%} of them"
    )
    if min(mean, low) >= config.int8_cosine:
        return Encoding("int8", f"{found}; the recipe asks for {config.int8_cosine}.")
    return Encoding("auto", f"{found}, less than the {config.int8_cosine} that the recipe asks for; int8 is not used.")


def fidelity(checkpoint: Checkpoint, method: Method, shards: TokenShards, rows: np.ndarray) -> tuple[float, float]:
    """Mean and low quantile of the cosines between vectors made by this method and in float32, of these passages."""
    made, exact = (make_retriever(checkpoint, name).encode_shards(shards, rows) for name in (method, "float32"))
    cosines = (made * exact).sum(axis=1)
    return float(cosines.mean()), float(np.quantile(cosines, LOW))


def make_retriever(checkpoint: Checkpoint, method: Method = "auto") -> DenseRetriever:
    """A retriever that computes by this method.

    Where int8 was chosen on another machine and this one cannot do it, "auto" stands in: its vectors lie nearer to
    what int8 approximates.

    Raises:
        RecipeError: the method needs a package that is not installed.
    """
    from corpusmith.retrieval.dense import DenseRetriever

    return DenseRetriever(checkpoint, _backend(checkpoint, method))


def _backend(checkpoint: Checkpoint, method: Method) -> Backend:
    import torch

    from corpusmith.retrieval.dense import PackedBackend
    from corpusmith.retrieval.runtimes import OnnxBackend, OpenVinoBackend

    if method == "onnx":
        return OnnxBackend(checkpoint)
    if method == "openvino":
        return OpenVinoBackend(checkpoint)

    dtypes = {"float32": torch.float32, "bf16": torch.bfloat16}
    return PackedBackend(checkpoint, dtypes.get(method), int8=method == "int8" and _can_int8(checkpoint))


def _can_int8(checkpoint: Checkpoint) -> bool:
    from corpusmith.model.quantised import is_available

    return is_available(next(checkpoint.encoder.parameters()).device)
