"""ONNX Runtime and OpenVINO in the encoder's place.

Both are optional, and both want rectangles: a batch, whose sequences come sorted by length, is cut into rectangles of
nearly equal lengths, so that little of them is padding. The graph is made on the spot from the checkpoint at hand,
which takes seconds, and kept nowhere. Vectors are those of float32 to about 1e-6, except that OpenVINO computes in bf16
where that is the faster.
"""

from __future__ import annotations

import importlib
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from corpusmith.errors import RecipeError
from corpusmith.model.arithmetic import DTYPES, fastest_precision
from corpusmith.model.checkpoint import Checkpoint
from corpusmith.model.padded import PaddedEncoder

BATCH_TOKENS = 4_096
FILLED = 0.8
"""No sequence of a rectangle is shorter than this share of its longest one."""
INPUTS = ("ids", "inside")
EXAMPLE = (2, 8)
"""B and L of the batch with which the encoder is traced; both may be anything afterwards."""


class OnnxBackend:
    """The encoder in ONNX Runtime, in float32.

    Args:
        checkpoint: encoder and pooling; neither is shared.

    Raises:
        RecipeError: a package that it needs is not installed.
    """

    batch_tokens = BATCH_TOKENS
    arithmetic = "onnx"

    def __init__(self, checkpoint: Checkpoint) -> None:
        runtime = _package("onnxruntime", "onnx")
        for name in ("onnx", "onnxscript"):
            _package(name, "onnx")
        with _quietly():
            program = torch.onnx.export(_exported(checkpoint), input_names=INPUTS, verbose=False)
        assert program is not None
        graph = program.model_proto.SerializeToString()
        options = runtime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        self.encoder = checkpoint.encoder.for_inference(torch.float32)
        self._session = runtime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    def encode(self, sequences: list[np.ndarray]) -> np.ndarray:
        """See `Backend`."""
        run = [self._session.run(None, dict(zip(INPUTS, part, strict=True)))[0] for part in rectangles(sequences)]
        return np.concatenate(run)


class OpenVinoBackend:
    """The encoder in OpenVINO.

    Args:
        checkpoint: encoder and pooling; neither is shared.
        dtype: float32 or bf16; None takes bf16 where it is the faster, else float32.

    Raises:
        RecipeError: openvino is not installed.
    """

    batch_tokens = BATCH_TOKENS

    def __init__(self, checkpoint: Checkpoint, dtype: torch.dtype | None = None) -> None:
        openvino = _package("openvino", "openvino")
        dtype = dtype or DTYPES[fastest_precision(torch.device("cpu"))]
        self.arithmetic = f"openvino, {dtype}"
        options = {
            "INFERENCE_PRECISION_HINT": "bf16" if dtype == torch.bfloat16 else "f32",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        }
        with _quietly():
            graph = openvino.convert_model(_exported(checkpoint))
        self.encoder = checkpoint.encoder.for_inference(dtype)
        self._model = openvino.compile_model(graph, "CPU", options)

    def encode(self, sequences: list[np.ndarray]) -> np.ndarray:
        """See `Backend`."""
        return np.concatenate([self._model(list(part))[0].copy() for part in rectangles(sequences)])


def rectangles(sequences: list[np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Sequences, longest first, as padded parts: int64 ids `[b, L]`, and bool `[b, L]`, True at tokens."""
    lengths = np.array([len(sequence) for sequence in sequences])
    first = 0
    while first < len(sequences):
        stop = int(np.searchsorted(-lengths, -FILLED * lengths[first], side="right"))
        inside = np.arange(lengths[first]) < lengths[first:stop, None]
        ids = np.zeros(inside.shape, dtype=np.int64)
        ids[inside] = np.concatenate(sequences[first:stop])
        yield ids, inside
        first = stop


def _exported(checkpoint: Checkpoint) -> torch.export.ExportedProgram:
    encoder = PaddedEncoder(checkpoint.encoder, checkpoint.pooling, checkpoint.cut_dimension)
    batch = (torch.zeros(EXAMPLE, dtype=torch.int64), torch.ones(EXAMPLE, dtype=torch.bool))
    size = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length", max=checkpoint.encoder.config.max_tokens)}
    return torch.export.export(encoder, batch, dynamic_shapes=(size, size))


@contextmanager
def _quietly() -> Iterator[None]:
    """Without PyTorch's warnings about itself: that it uses what it deprecates, and that torchvision is not there."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield


def _package(name: str, extra: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise RecipeError(
            f"encoding.method = '{extra}' needs the package {name}, which is not installed: "
            f"pip install 'corpusmith[{extra}]', or choose encoding.method = 'auto'."
        ) from None
