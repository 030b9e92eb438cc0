"""Foreign checkpoints in which anything may stand: a sentence or a working model, never a traceback, never a pickle."""

from __future__ import annotations

import contextlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from corpusmith.errors import ModelError
from corpusmith.model.huggingface import load_checkpoint
from corpusmith.retrieval.dense import DenseRetriever

FILES = ("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "modules.json",
         "1_Pooling/config.json", "sentence_bert_config.json", "config_sentence_transformers.json")  # fmt: skip

leaves = (
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=6)
    | st.sampled_from([0, -1, 1, 2**31, 2**63, 1e308, "", "../..", "[CLS]", "[UNK]", "\0", "gelu", "mean"])
)  # fmt: skip
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=4,
)


def places(content: Any, path: tuple = ()) -> list[tuple]:
    """Every place in a JSON value, those of long lists and vocabularies left out but for a few."""
    found = [path] if path else []
    children = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for number, (key, value) in enumerate(children):
        if number < 12:
            found += places(value, (*path, key))
    return found


def replaced(content: Any, path: tuple, value: Any, remove: bool) -> Any:
    """The content with another value in one place, or with nothing there."""
    inner = content
    for key in path[:-1]:
        inner = inner[key]
    if remove:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return content


def load_and_use(folder: Path) -> None:
    """A checkpoint that loads must encode, whatever its files say."""
    with contextlib.suppress(ModelError):
        retriever = DenseRetriever(load_checkpoint(folder))
        vectors = retriever.encode(["Aspirin lowers the risk.", "", "x" * 300, "猫 \u202e 🦆"])
        assert vectors.shape[0] == 4
        assert np.isfinite(vectors).all()


@pytest.fixture(scope="module")
def folder(base_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shutil.copytree(base_model, tmp_path_factory.mktemp("hostile") / "model")


@settings(max_examples=250)
@given(data=st.data(), name=st.sampled_from(FILES), value=values, remove=st.booleans())
def test_any_value_in_any_place_is_a_sentence_or_a_model(
    data: st.DataObject, name: str, value: Any, remove: bool, folder: Path, base_model: Path
) -> None:
    content = json.loads((base_model / name).read_text(encoding="utf-8"))
    path = data.draw(st.sampled_from(places(content)))
    try:
        (folder / name).write_text(json.dumps(replaced(content, path, value, remove)), encoding="utf-8")
        load_and_use(folder)
    finally:
        shutil.copy(base_model / name, folder / name)


@settings(max_examples=60)
@given(
    name=st.sampled_from([*FILES, "model.safetensors"]),
    place=st.floats(0, 1, exclude_max=True),
    noise=st.binary(min_size=1, max_size=40),
    cut=st.booleans(),
)
def test_any_bytes_in_any_place_are_a_sentence_or_a_model(
    name: str, place: float, noise: bytes, cut: bool, folder: Path, base_model: Path
) -> None:
    content = (base_model / name).read_bytes()
    start = int(place * min(len(content), 4000))  # of the weights, their table
    try:
        (folder / name).write_bytes(content[:start] + noise + (b"" if cut else content[start + len(noise) :]))
        load_and_use(folder)
    finally:
        shutil.copy(base_model / name, folder / name)


ODD: dict[str, tuple[str, tuple, Any, str]] = {
    "fewer than no segments": ("config.json", ("type_vocab_size",), -1, "type_vocab_size = -1"),
    "segments beyond counting": ("config.json", ("type_vocab_size",), 10**30, "type_vocab_size = 1000"),
    "a NUL in a path": ("modules.json", (1, "path"), "a\0b", "a path that cannot be"),
    "half a character in a path": ("modules.json", (1, "path"), "\ud900", "a path that cannot be"),
    "a number for a prompt": ("config_sentence_transformers.json", ("prompts",), {"query": 5}, "the prompt 'query'"),
    "a list for a prompt": ("config_sentence_transformers.json", ("prompts",), {"passage": ["x"]}, "prompt 'passage'"),
    "half a character": ("config_sentence_transformers.json", ("prompts",), {"query": "\ud800"}, "prompt 'query'"),
    "a novel": ("config_sentence_transformers.json", ("prompts",), {"query": "a " * 9000}, "10,000 characters"),
}


@pytest.mark.parametrize("case", ODD)
def test_an_odd_value_is_named_when_the_model_is_loaded(case: str, folder: Path, base_model: Path) -> None:
    name, path, value, message = ODD[case]
    content = json.loads((base_model / name).read_text(encoding="utf-8"))
    try:
        (folder / name).write_text(json.dumps(replaced(content, path, value, remove=False)), encoding="utf-8")
        with pytest.raises(ModelError, match=message):
            load_checkpoint(folder)
    finally:
        shutil.copy(base_model / name, folder / name)


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_weights_that_are_no_numbers_are_named_when_the_model_is_loaded(
    value: str, base_model: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(base_model, tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if name.endswith("query.weight"))
    weights[name][0, 0] = float(value)
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(ModelError, match=rf"{name}.* are NaN or infinite"):
        load_checkpoint(folder)


def test_a_prompt_of_nothing_is_no_prompt(folder: Path, base_model: Path) -> None:
    name = "config_sentence_transformers.json"
    try:
        (folder / name).write_text('{"prompts": {"query": "query: ", "document": null}}')
        assert load_checkpoint(folder).prompts == {"query": "query: "}
    finally:
        shutil.copy(base_model / name, folder / name)


def test_junk_among_what_objectives_keep_is_named_when_the_model_is_loaded(folder: Path) -> None:
    (folder / "objectives").mkdir()
    (folder / "objectives" / "head.safetensors").write_bytes(b"junk" * 10)
    try:
        with pytest.raises(ModelError, match=r"head\.safetensors is damaged or no safetensors file"):
            load_checkpoint(folder)
    finally:
        shutil.rmtree(folder / "objectives")
