"""Checkpoints in and out: nothing lost, nothing trusted, and the other libraries read what was written."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from corpusmith.errors import ModelError
from corpusmith.model.checkpoint import Checkpoint
from corpusmith.model.huggingface import export_checkpoint, load_checkpoint
from corpusmith.model.packed import pack
from corpusmith.model.pooling import pool
from corpusmith.model.weights import LARGEST_TABLE

TEXTS = [
    "Aspirin lowers the risk of a second stroke.",
    "a",
    "",
    "The wing produces lift when air flows faster over its upper surface. " * 40,
    "Immunoglobulins; §12(b) of the Act, naïve Bayes.",
]
KINDS = ["bert", "roberta", "xlm-roberta", "modernbert"]


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="module")
def minilm() -> Checkpoint:
    return load_checkpoint("all-MiniLM-L6-v2")


@pytest.fixture(scope="module")
def saved_bert(reference: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return reference.save(reference.masked_language_model("bert"), tmp_path_factory.mktemp("bert"))


@pytest.fixture
def bert(saved_bert: Path, tmp_path: Path) -> Path:
    """A good checkpoint's folder, to be spoilt."""
    return Path(shutil.copytree(saved_bert, tmp_path / "bert"))


def vectors(checkpoint: Checkpoint, dtype: torch.dtype = torch.float32) -> np.ndarray:
    packed = pack(
        [checkpoint.tokenizer.with_specials(ids, checkpoint.max_tokens) for ids in checkpoint.tokenizer.encode(TEXTS)]
    )
    with torch.inference_mode():
        pooled = pool(checkpoint.encoder.for_inference(dtype)(packed), packed, checkpoint.pooling)
    return (torch.nn.functional.normalize(pooled, dim=-1) if checkpoint.normalize else pooled).numpy()


def test_the_packaged_model_is_read_with_its_sentence_settings(minilm: Checkpoint) -> None:
    assert (minilm.pooling, minilm.normalize, minilm.max_tokens, minilm.head) == ("mean", True, 256, None)
    assert minilm.encoder.parameter_count() == 22_565_376
    assert minilm.tokenizer.mask == 103


def test_sentence_transformers_gives_the_same_vectors_from_the_export(minilm: Checkpoint, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    export_checkpoint(minilm, tmp_path)
    model = SentenceTransformer(str(tmp_path), device="cpu")
    assert model.max_seq_length == 256
    np.testing.assert_allclose(model.encode(TEXTS), vectors(minilm), atol=1e-5)
    np.testing.assert_allclose(vectors(load_checkpoint(tmp_path)), vectors(minilm), atol=1e-6)
    assert (tmp_path / "vocab.txt").is_file()


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("normalize", [True, False])
def test_pooling_and_scaling_survive_the_export(pooling: Any, normalize: bool, bert: Path, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    checkpoint = replace(load_checkpoint(bert), pooling=pooling, normalize=normalize, max_tokens=20)
    folder = tmp_path / "export"
    folder.mkdir()
    export_checkpoint(checkpoint, folder)
    again = load_checkpoint(folder)
    assert (again.pooling, again.normalize, again.max_tokens) == (pooling, normalize, 20)
    np.testing.assert_allclose(
        SentenceTransformer(str(folder), device="cpu").encode(TEXTS), vectors(checkpoint), atol=1e-5
    )


def test_bf16_vectors_are_those_of_float32(minilm: Checkpoint) -> None:
    cosines = (vectors(minilm) * vectors(minilm, torch.bfloat16)).sum(1)
    assert cosines.min() > 0.9999


@pytest.mark.parametrize("kind", KINDS)
def test_transformers_reads_every_tensor_of_the_export_and_misses_none(
    kind: str, reference: Any, tmp_path: Path
) -> None:
    checkpoint = load_checkpoint(reference.save(reference.masked_language_model(kind), tmp_path))
    for with_head, auto in ((False, transformers.AutoModel), (True, transformers.AutoModelForMaskedLM)):
        folder = tmp_path / f"export-{with_head}"
        folder.mkdir()
        export_checkpoint(checkpoint, folder, with_head=with_head)
        model, report = auto.from_pretrained(folder, output_loading_info=True)
        assert not report["unexpected_keys"]
        assert not report["mismatched_keys"]
        assert all("pooler" in name for name in report["missing_keys"])
        assert transformers.AutoTokenizer.from_pretrained(folder)("word1 word2")["input_ids"]
        batch = reference.sequences([7, 20])
        ids, mask = reference.padded(batch, pad=1 if "roberta" in kind else 0)
        out = model.eval()(input_ids=ids, attention_mask=mask)[0][mask.bool()]
        hidden = checkpoint.encoder(pack(batch))
        if with_head:
            assert checkpoint.head is not None
            hidden = checkpoint.head(hidden, checkpoint.encoder.token_embedding.weight)
        torch.testing.assert_close(hidden, out, atol=1e-4, rtol=1e-4)
        again = load_checkpoint(folder)
        assert (again.head is not None) == with_head
        assert torch.equal(
            again.encoder.layers[0].attention.qkv.weight, checkpoint.encoder.layers[0].attention.qkv.weight
        )


def test_weights_without_prefix_and_in_half_precision_are_read(bert: Path) -> None:
    expected = load_checkpoint(bert).encoder.layers[1].mlp.up.weight
    weights = load_file(bert / "model.safetensors")
    halved = {name.removeprefix("bert."): tensor.half() for name, tensor in weights.items()}
    save_file(halved, bert / "model.safetensors")
    found = load_checkpoint(bert).encoder.layers[1].mlp.up.weight
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, atol=2e-3, rtol=2e-3)


def test_a_norm_of_two_names_is_refused(bert: Path) -> None:
    weights = load_file(bert / "model.safetensors")
    name = next(name for name in weights if name.endswith("LayerNorm.weight"))
    save_file(weights | {name.replace("weight", "gamma"): weights[name] * 2}, bert / "model.safetensors")
    with pytest.raises(ModelError, match=r"LayerNorm\.weight twice"):
        load_checkpoint(bert)


def test_norms_named_gamma_and_beta_are_read(bert: Path) -> None:
    expected = load_checkpoint(bert).encoder.state_dict()
    weights = load_file(bert / "model.safetensors")
    renamed = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
        for name, tensor in weights.items()
    }
    save_file(renamed, bert / "model.safetensors")
    found = load_checkpoint(bert).encoder.state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_poolers_and_task_heads_are_left_out(bert: Path) -> None:
    weights = load_file(bert / "model.safetensors")
    extra = {"bert.pooler.dense.weight": torch.zeros(32, 32), "classifier.weight": torch.zeros(2, 32)}
    save_file(weights | extra, bert / "model.safetensors")
    assert load_checkpoint(bert).head is not None


def change_config(folder: Path, **changes: Any) -> None:
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(content | changes))


def drop(folder: Path, name: str) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights[name]
    save_file(weights, folder / "model.safetensors")


def test_a_vocabulary_of_another_size_is_named_before_it_is_allocated(bert: Path) -> None:
    change_config(bert, vocab_size=9_999_999)
    with pytest.raises(ModelError, match=r"word_embeddings.weight has shape \[97, 32\].*makes it \[9999999, 32\]"):
        load_checkpoint(bert)


def test_an_impossible_vocabulary_is_named(bert: Path) -> None:
    change_config(bert, vocab_size=10**12)
    with pytest.raises(ModelError, match="vocab_size = 1000000000000"):
        load_checkpoint(bert)


def test_a_missing_tensor_is_named(bert: Path) -> None:
    drop(bert, "bert.encoder.layer.1.output.dense.bias")
    with pytest.raises(
        ModelError, match=r"lacks bert.encoder.layer.1.output.dense.bias, which config.json says it has"
    ):
        load_checkpoint(bert)


def test_layers_that_the_config_leaves_out_are_named(bert: Path) -> None:
    change_config(bert, num_hidden_layers=2)
    with pytest.raises(ModelError, match=r"bert.encoder.layer.2.* and 13 more tensors, which config.json does not"):
        load_checkpoint(bert)


def test_weights_of_another_architecture_are_named(bert: Path) -> None:
    change_config(bert, model_type="modernbert")
    with pytest.raises(ModelError, match="its weights are not those of a modernbert model"):
        load_checkpoint(bert)


def test_a_tokenizer_larger_than_its_model_is_named(bert: Path) -> None:
    content = json.loads((bert / "tokenizer.json").read_text())
    content["model"]["vocab"]["onemore"] = 97
    (bert / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(ModelError, match="the tokenizer has 98 entries and the model 97 token embeddings"):
        load_checkpoint(bert)


def test_pickled_weights_are_refused_with_the_way_to_convert(bert: Path) -> None:
    (bert / "model.safetensors").rename(bert / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"pickle.*AutoModel.from_pretrained\(folder\).save_pretrained\(folder\)"):
        load_checkpoint(bert)


def test_no_weights_at_all_are_named(bert: Path) -> None:
    (bert / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"holds no model.safetensors"):
        load_checkpoint(bert)


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: b"",
        lambda content: b"abc",
        cut,
        lambda content: (LARGEST_TABLE + 1).to_bytes(8, "little") + content[8:],
        lambda content: content[:8] + b"[" * 1000 + content[1008:],
        lambda content: content.replace(b'"shape":[32]', b'"shape":[99]', 1),
        lambda content: content.replace(b'"shape":[32]', b'"shape":"xy"', 1),
    ],
)
def test_damaged_weights_are_named(spoil: Any, bert: Path) -> None:
    path = bert / "model.safetensors"
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(ModelError, match=r"model.safetensors is damaged or no safetensors file"):
        load_checkpoint(bert)


def test_quantised_weights_are_refused(bert: Path) -> None:
    weights = load_file(bert / "model.safetensors")
    save_file({name: tensor.to(torch.int8) for name, tensor in weights.items()}, bert / "model.safetensors")
    with pytest.raises(ModelError, match="is of type I8; weights must be one of F32, F16, BF16"):
        load_checkpoint(bert)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json", "modules.json"])
def test_damaged_json_is_named(name: str, bert: Path) -> None:
    (bert / name).write_text('{"half": ')
    with pytest.raises(ModelError, match=f"{name} is damaged"):
        load_checkpoint(bert)


@pytest.mark.parametrize(
    ("modules", "message"),
    [
        ([{"type": "sentence_transformers.models.Dense", "path": "2_Dense"}], "a Dense module that does more than cut"),
        ([{"type": "sentence_transformers.models.Pooling", "path": "../elsewhere"}], "points outside its folder"),
        ({"type": "Transformer"}, "not a list of modules"),
        ([{"type": "sentence_transformers.models.Pooling", "path": "1_Pooling"}], "asks for pooling by nothing"),
    ],
)
def test_sentence_modules_that_are_not_reproduced_are_named(modules: Any, message: str, bert: Path) -> None:
    (bert / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ModelError, match=message):
        load_checkpoint(bert)


@pytest.mark.parametrize(
    ("pooling", "found"), [({"pooling_mode": "cls"}, "cls"), ({"pooling_mode_mean_tokens": True}, "mean")]
)
def test_pooling_is_read_in_both_forms(pooling: dict[str, Any], found: str, bert: Path) -> None:
    (bert / "modules.json").write_text(json.dumps([{"type": "x.Pooling", "path": "1_Pooling"}]))
    (bert / "1_Pooling").mkdir()
    (bert / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    checkpoint = load_checkpoint(bert)
    assert (checkpoint.pooling, checkpoint.normalize) == (found, False)


def test_an_unknown_name_is_not_looked_for_elsewhere_unless_allowed() -> None:
    with pytest.raises(ModelError, match=r"no folder some/model.*allow_download"):
        load_checkpoint("some/model")


def test_a_download_that_fails_is_named() -> None:
    with pytest.raises(ModelError, match="not/a/name could not be fetched from the Hugging Face Hub"):
        load_checkpoint("not/a/name", allow_download=True)


def test_a_head_that_is_not_there_cannot_be_exported(minilm: Checkpoint, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="all-MiniLM-L6-v2 has no masked-language head"):
        export_checkpoint(minilm, tmp_path, with_head=True)
