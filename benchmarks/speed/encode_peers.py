"""sentence-transformers as it encodes with each of its backends.

This module imports nothing of corpusmith: backends run in environments of their own.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.speed.workers import Channel

CALIBRATION_TEXTS = 128


def sentence_transformers(channel: Channel, folder: str, kind: str) -> None:
    """Worker: "float32" is sentence-transformers as it comes; `encode` sorts by length and pads batches of 32."""
    with tempfile.TemporaryDirectory() as place:
        model = load(Path(folder), kind, Path(place))

        def one_round(texts: str, save: str = "") -> dict[str, Any]:
            found = json.loads(Path(texts).read_text(encoding="utf-8"))
            started = time.monotonic()
            vectors = np.asarray(model.encode(found, convert_to_tensor=True).float().cpu())
            seconds = time.monotonic() - started
            if save:
                np.save(save, vectors)
            return {"seconds": seconds}

        channel.serve(one_round)


def load(folder: Path, kind: str, place: Path) -> Any:
    """The model with a backend; int8 models are quantised into `place` as sentence-transformers' documentation says."""
    import torch
    from sentence_transformers import SentenceTransformer

    backend, _, arithmetic = kind.partition(" ")
    if kind in ("float32", "bf16"):
        dtype = torch.float32 if kind == "float32" else torch.bfloat16
        return SentenceTransformer(str(folder), device="cpu", model_kwargs={"dtype": dtype})
    options = {"ov_config": {"INFERENCE_PRECISION_HINT": "f32"}} if arithmetic == "float32" else {}
    plain = SentenceTransformer(str(folder), backend=backend, device="cpu", model_kwargs={"export": True} | options)
    if arithmetic != "int8":
        return plain
    plain.save_pretrained(str(place))
    file_name = quantise_onnx(plain, place) if backend == "onnx" else quantise_openvino(plain, place, folder)
    return SentenceTransformer(str(place), backend=backend, device="cpu", model_kwargs={"file_name": file_name})


def quantise_onnx(model: Any, place: Path) -> str:
    """Dynamic quantisation for processors with AVX-512 VNNI."""
    from sentence_transformers import export_dynamic_quantized_onnx_model

    export_dynamic_quantized_onnx_model(model, "avx512_vnni", str(place))
    return "onnx/model_qint8_avx512_vnni.onnx"


def quantise_openvino(model: Any, place: Path, folder: Path) -> str:
    """Static quantisation, calibrated on abstracts that are not among those measured."""
    from optimum.intel import OVQuantizationConfig
    from sentence_transformers import export_static_quantized_openvino_model

    export_static_quantized_openvino_model(
        model,
        OVQuantizationConfig(num_samples=CALIBRATION_TEXTS),
        str(place),
        dataset_name=str(folder.parent / "calibration"),
        dataset_config_name="default",
        dataset_split="train",
        column_name="text",
    )
    return "openvino/openvino_model_qint8_quantized.xml"
