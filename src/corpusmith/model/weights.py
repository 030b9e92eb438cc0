"""Weights in the Hugging Face form: how its tensors are called, and reading them without trusting the file.

A safetensors file begins with a table of its tensors. That table is read first and held against the model's config, so
that a damaged, foreign or hostile checkpoint is named in a sentence before any memory is spent on it. Two things differ
between the file and the encoder here: queries, keys and values are one matrix (in BERT's files three), and names are
shorter; `encoder_sources` and `head_sources` say which tensors of the file, stacked, make which parameter.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from corpusmith.errors import ModelError
from corpusmith.model.config import EncoderConfig
from corpusmith.model.encoder import Encoder

PREFIXES = {"bert": "bert.", "roberta": "roberta.", "xlm-roberta": "roberta.", "modernbert": "model."}
"""What stands before an encoder tensor's name when the file also holds a head."""

BYTES = {"F32": 4, "F16": 2, "BF16": 2}
"""Dtypes that weights may be stored in, and their size."""

LARGEST_TABLE = 100_000_000
"""Bytes of a safetensors table; the format's own limit."""

Sources = dict[str, tuple[str, ...]]


def encoder_sources(config: EncoderConfig, prefix: str) -> Sources:
    """For each encoder parameter, the file's tensors that make it, stacked along the first axis."""
    modern = config.model_type == "modernbert"
    modules = _modernbert_modules(config) if modern else _bert_modules(config)
    with torch.device("meta"):
        parameters = Encoder(config).state_dict()
    return {name: _sources_of(name, modules, prefix) for name in parameters}


def head_sources(config: EncoderConfig) -> Sources:
    """The same for the masked-language head; its decoder matrix is the token embedding and has no entry."""
    dense, norm, bias = {
        "bert": ("cls.predictions.transform.dense", "cls.predictions.transform.LayerNorm", "cls.predictions.bias"),
        "modernbert": ("head.dense", "head.norm", "decoder.bias"),
    }.get(config.model_type, ("lm_head.dense", "lm_head.layer_norm", "lm_head.bias"))
    sources: Sources = {"dense.weight": (f"{dense}.weight",), "norm.weight": (f"{norm}.weight",)}
    if config.head_bias:
        sources["dense.bias"] = (f"{dense}.bias",)
    if config.norm_bias:
        sources["norm.bias"] = (f"{norm}.bias",)
    if config.decoder_bias:
        sources["bias"] = (bias,)
    return sources


def _sources_of(parameter: str, modules: Mapping[str, tuple[str, ...]], prefix: str) -> tuple[str, ...]:
    module, _, kind = parameter.rpartition(".")
    return tuple(f"{prefix}{source}.{kind}" for source in modules[module])


def _bert_modules(config: EncoderConfig) -> dict[str, tuple[str, ...]]:
    modules: dict[str, tuple[str, ...]] = {
        "embeddings.tokens": ("embeddings.word_embeddings",),
        "embeddings.positions": ("embeddings.position_embeddings",),
        "embeddings.types": ("embeddings.token_type_embeddings",),
        "embeddings.norm": ("embeddings.LayerNorm",),
    }
    for i in range(config.layers):
        ours, theirs = f"layers.{i}", f"encoder.layer.{i}"
        modules |= {
            f"{ours}.attention.qkv": tuple(f"{theirs}.attention.self.{kind}" for kind in ("query", "key", "value")),
            f"{ours}.attention.output": (f"{theirs}.attention.output.dense",),
            f"{ours}.attention_norm": (f"{theirs}.attention.output.LayerNorm",),
            f"{ours}.mlp.up": (f"{theirs}.intermediate.dense",),
            f"{ours}.mlp.down": (f"{theirs}.output.dense",),
            f"{ours}.mlp_norm": (f"{theirs}.output.LayerNorm",),
        }
    return modules


def _modernbert_modules(config: EncoderConfig) -> dict[str, tuple[str, ...]]:
    modules: dict[str, tuple[str, ...]] = {
        "embeddings.tokens": ("embeddings.tok_embeddings",),
        "embeddings.norm": ("embeddings.norm",),
        "final_norm": ("final_norm",),
    }
    for i in range(config.layers):
        modules |= {
            f"layers.{i}.attention.qkv": (f"layers.{i}.attn.Wqkv",),
            f"layers.{i}.attention.output": (f"layers.{i}.attn.Wo",),
            f"layers.{i}.attention_norm": (f"layers.{i}.attn_norm",),
            f"layers.{i}.mlp.up": (f"layers.{i}.mlp.Wi",),
            f"layers.{i}.mlp.down": (f"layers.{i}.mlp.Wo",),
            f"layers.{i}.mlp_norm": (f"layers.{i}.mlp_norm",),
        }
    return modules


class WeightFile:
    """A safetensors file whose table has been read and checked, and no tensor yet.

    Attributes:
        path: the file.
        shapes: shape of each tensor by name; the names of old TensorFlow checkpoints (gamma, beta) made today's.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stored: dict[str, str] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        for stored, entry in read_table(path).items():
            name = stored.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
            if name in self._stored:
                raise ModelError(f"{path} holds {name} twice, as {self._stored[name]} and {stored}")
            self._stored[name] = stored
            self.shapes[name] = tuple(entry["shape"])
            if entry["dtype"] not in BYTES and "position_ids" not in name:
                raise ModelError(
                    f"{path}: tensor {stored} is of type {entry['dtype']}; weights must be one of {', '.join(BYTES)} "
                    "(a quantised model must be exported unquantised first)"
                )

    def prefix(self, config: EncoderConfig) -> str:
        """What stands before the encoder's tensor names in this file: nothing, or the architecture's prefix."""
        first = encoder_sources(config, "")["embeddings.tokens.weight"][0]
        for prefix in ("", PREFIXES[config.model_type]):
            if prefix + first in self.shapes:
                return prefix
        raise ModelError(
            f"{self.path} holds no tensor {first}, with or without {PREFIXES[config.model_type]!r} before it; "
            f"its weights are not those of a {config.model_type} model"
        )

    def fill(self, module: nn.Module, sources: Sources) -> None:
        """Give a module on the meta device its weights, as float32.

        Raises:
            ModelError: a tensor is missing or has another shape than the module's, and nothing has been allocated
                then; or it holds values that are NaN or infinite.
        """
        expected = module.state_dict()
        missing = [source for name in expected for source in sources[name] if source not in self.shapes]
        if missing:
            raise ModelError(f"{self.path} lacks {_listing(missing)}, which config.json says it has")
        for name, parameter in expected.items():
            self._check_shape(tuple(parameter.shape), sources[name])
        with safe_open(self.path, framework="pt") as file:
            weights = {
                name: torch.cat([file.get_tensor(self._stored[source]).float() for source in sources[name]])
                for name in expected
            }
        for name, weight in weights.items():
            if not weight.sum().isfinite():
                raise ModelError(
                    f"{self.path} is damaged: values of {_listing(list(sources[name]))} are NaN or infinite; copy it "
                    "again"
                )
        module.load_state_dict(weights, assign=True)
        module.requires_grad_(True)

    def _check_shape(self, shape: tuple[int, ...], sources: tuple[str, ...]) -> None:
        wanted = (shape[0] // len(sources), *shape[1:])
        for source in sources:
            if self.shapes[source] != wanted:
                raise ModelError(
                    f"{self.path}: tensor {source} has shape {list(self.shapes[source])}, but config.json "
                    f"makes it {list(wanted)}; the two files do not belong together"
                )

    def refuse_unknown_layers(self, prefix: str, sources: Sources) -> None:
        """Raise ModelError if the encoder's part of the file holds more than the config says: then it is not read
        as it was trained. Heads, poolers and position counters are no part of the encoder and may be there."""
        known = {source for parts in sources.values() for source in parts}
        inside = tuple(prefix + part for part in ("embeddings.", "encoder.", "layers.", "final_norm."))
        unknown = [name for name in self.shapes if name.startswith(inside) and name not in known]
        unknown = [name for name in unknown if not name.endswith("position_ids")]
        if unknown:
            raise ModelError(
                f"{self.path} holds {_listing(unknown)}, which config.json does not provide for; "
                "the two files do not belong together"
            )


def write_weights(path: Path, parts: Iterable[tuple[nn.Module, Sources]]) -> None:
    """Write modules, each with its sources, as one safetensors file in the Hugging Face form."""
    tensors: dict[str, torch.Tensor] = {}
    for module, sources in parts:
        for name, parameter in module.state_dict().items():
            pieces = parameter.detach().float().cpu().chunk(len(sources[name]))
            tensors |= {source: piece.contiguous() for source, piece in zip(sources[name], pieces, strict=True)}
    save_file(tensors, path, metadata={"format": "pt"})


def read_table(path: Path) -> dict[str, dict[str, Any]]:
    """The table at a safetensors file's head: for each tensor its dtype, shape and place; held against the file's size.

    Raises:
        ModelError: the file is cut short, or is no safetensors file.
    """
    damaged = f"{path} is damaged or no safetensors file"
    total = path.stat().st_size
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if total < 8 or size > min(total - 8, LARGEST_TABLE):
            raise ModelError(f"{damaged} (its table does not fit in its {total} bytes); copy it again")
        try:
            table = json.loads(file.read(size))
            table.pop("__metadata__", None)
            for name, entry in table.items():
                start, stop = entry["data_offsets"]
                length = math.prod(entry["shape"]) * BYTES.get(entry["dtype"], 0)
                if not 0 <= start <= stop <= total - 8 - size or (length and stop - start != length):
                    raise ModelError(f"{damaged} (tensor {name} does not lie within it); copy it again")
            with safe_open(path, framework="pt"):
                return table
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, SafetensorError) as error:
            raise ModelError(f"{damaged} ({error}); copy it again") from error


def _listing(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more tensors"
