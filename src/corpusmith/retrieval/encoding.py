"""How vectors are computed: the recipe's choice, and the one place that makes a retriever by it.

A build remembers the method beside its vectors, because queries must be encoded as the passages were.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from corpusmith.config import Config
from corpusmith.errors import ArtefactError

if TYPE_CHECKING:
    from corpusmith.model.checkpoint import Checkpoint
    from corpusmith.retrieval.dense import Backend, DenseRetriever

Method = Literal["auto", "float32", "bf16"]
FILE = "encoding.json"


class EncodingConfig(Config):
    """How vectors are computed, those of passages as well as those of queries."""

    method: Method = "auto"
    """The arithmetic. "auto" takes bf16 where the processor multiplies it in hardware, else float32."""


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


def make_retriever(checkpoint: Checkpoint, method: Method = "auto") -> DenseRetriever:
    """A retriever that computes by this method."""
    from corpusmith.retrieval.dense import DenseRetriever

    return DenseRetriever(checkpoint, _backend(checkpoint, method))


def _backend(checkpoint: Checkpoint, method: Method) -> Backend:
    import torch

    from corpusmith.retrieval.dense import PackedBackend

    dtypes = {"float32": torch.float32, "bf16": torch.bfloat16}
    return PackedBackend(checkpoint, dtypes.get(method))
