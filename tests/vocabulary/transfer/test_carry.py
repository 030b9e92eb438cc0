"""A model over another vocabulary works wherever the old one did."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import save_file
from tests.training.interrupted import assert_trains_resumes_and_exports
from tests.vocabulary.transfer import test_transfers

from corpusmith.corpus.shards import write_shards
from corpusmith.errors import ModelError
from corpusmith.model.checkpoint import Checkpoint
from corpusmith.model.huggingface import export_checkpoint
from corpusmith.model.packed import pack
from corpusmith.model.pooling import pool
from corpusmith.objective.data import TrainingData
from corpusmith.vocabulary.carry import carry
from corpusmith.vocabulary.tokenizer import Tokenizer
from corpusmith.vocabulary.transfer.config import FocusConfig, MeanConfig, RandomConfig, SubwordConfig, WechselConfig
from corpusmith.vocabulary.transfer.correspondence import matching_pieces, ordinary_ids
from corpusmith.vocabulary.transfer.registry import build_transfer

ARCHITECTURES = ["bert", "roberta", "modernbert"]


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def carried_to(checkpoint: Checkpoint, target: Tokenizer, texts: list[str], config: Any = None) -> Checkpoint:
    config = config or FocusConfig(fewest=1, dimensions=8)
    return carry(checkpoint, target, build_transfer(config), texts, np.random.default_rng(0))


def packed(tokenizer: Tokenizer, texts: list[str]) -> Any:
    return pack([tokenizer.with_specials(ids, 48) for ids in tokenizer.encode(texts)])


@pytest.fixture(params=ARCHITECTURES)
def old(request: pytest.FixtureRequest, makers: Any) -> Checkpoint:
    tokenizer = request.getfixturevalue("old_words" if request.param == "bert" else "old_bytes")
    return makers.checkpoint(tokenizer, request.param)


@pytest.fixture
def target(old: Checkpoint, new_words: Tokenizer, new_bytes: Tokenizer) -> Tokenizer:
    return new_words if old.encoder.config.model_type == "bert" else new_bytes


def test_transformers_computes_the_same_from_the_export(
    old: Checkpoint, target: Tokenizer, sentences: list[str], tmp_path: Path
) -> None:
    carried = carried_to(old, target, sentences)
    export_checkpoint(carried, tmp_path, with_head=True)
    theirs, info = transformers.AutoModelForMaskedLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"]
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    batch = tokenizer(sentences, padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = theirs.eval()(**batch).logits[batch["attention_mask"].bool()]
        ours = packed(carried.tokenizer, sentences)
        logits = carried.head(carried.encoder(ours), carried.encoder.token_embedding.weight)
    assert batch["input_ids"][batch["attention_mask"].bool()].tolist() == ours.ids.tolist()
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)
    assert tokenizer.model_max_length == old.encoder.config.max_tokens
    assert theirs.config.pad_token_id == tokenizer.pad_token_id == target.pad


def test_sentence_transformers_gives_the_same_vectors_from_the_export(
    old: Checkpoint, target: Tokenizer, sentences: list[str], tmp_path: Path
) -> None:
    from sentence_transformers import SentenceTransformer

    carried = carried_to(old, target, sentences)
    export_checkpoint(carried, tmp_path, with_head=True)
    batch = packed(carried.tokenizer, sentences)
    with torch.no_grad():
        vectors = torch.nn.functional.normalize(pool(carried.encoder(batch), batch, "mean"), dim=1)
    theirs = SentenceTransformer(str(tmp_path), device="cpu").encode(sentences)
    np.testing.assert_allclose(theirs, vectors.numpy(), atol=1e-4)


@pytest.mark.parametrize("config", test_transfers.CONFIGS, ids=test_transfers.name)
def test_whatever_was_carried_over_trains_on_resumes_and_is_exported(
    config: Any, old: Checkpoint, target: Tokenizer, sentences: list[str], tmp_path: Path
) -> None:
    (tmp_path / "shards").mkdir()
    data = TrainingData(write_shards(sentences, target, tmp_path / "shards"), np.arange(24), np.arange(24) // 2)
    assert_trains_resumes_and_exports(carried_to(old, target, sentences, config), data, tmp_path)


def test_an_extension_changes_nothing_where_no_new_piece_stands(
    makers: Any, old_words: Tokenizer, sentences: list[str]
) -> None:
    pieces = [old_words.backend.id_to_token(i) for i in range(5, old_words.size)]
    extended = makers.word_piece([*pieces, "aircraft", "insulin"])
    old = makers.checkpoint(old_words)
    carried = carried_to(old, extended, sentences, SubwordConfig())
    texts = [text for text in sentences if "aircraft" not in text and "nsulin" not in text]
    assert 15 < len(texts) < 24
    with torch.no_grad():
        ours, theirs = carried.encoder(packed(extended, texts)), old.encoder(packed(old_words, texts))
        logits = carried.head(ours, carried.encoder.token_embedding.weight)
        expected = old.head(theirs, old.encoder.token_embedding.weight)
    assert torch.equal(ours, theirs)
    torch.testing.assert_close(logits[:, : old_words.size], expected, atol=1e-6, rtol=1e-6)


def test_the_old_model_is_left_as_it_was_and_shares_nothing(
    old: Checkpoint, target: Tokenizer, sentences: list[str]
) -> None:
    before = {name: tensor.clone() for name, tensor in old.encoder.state_dict().items()}
    carried = carried_to(old, target, sentences)
    with torch.no_grad():
        for parameter in [*carried.encoder.parameters(), *carried.head.parameters()]:
            assert parameter.requires_grad
            parameter.add_(1.0)
    assert all(torch.equal(tensor, before[name]) for name, tensor in old.encoder.state_dict().items())
    assert old.encoder.config.vocabulary_size == old.tokenizer.size
    assert "model_max_length" not in target.settings


def test_layers_and_settings_are_kept_and_the_name_says_what_happened(
    old: Checkpoint, target: Tokenizer, sentences: list[str]
) -> None:
    old.prompts = {"query": "find: "}
    carried = carried_to(old, target, sentences)
    for name, tensor in old.encoder.state_dict().items():
        if name != "embeddings.tokens.weight":
            assert torch.equal(tensor, carried.encoder.state_dict()[name]), name
    assert (carried.pooling, carried.normalize, carried.max_tokens, carried.prompts) == ("mean", True, 48, old.prompts)
    kept = int((matching_pieces(old.tokenizer, target) >= 0).sum())
    assert (
        carried.name == f"{old.name} (vocabulary of {target.size:,}: {kept:,} pieces kept, {target.size - kept:,} new)"
    )


@pytest.mark.parametrize("config", [FocusConfig(fewest=1), WechselConfig(fewest=1), MeanConfig(), RandomConfig()])
def test_the_bias_is_kept_or_mixed_as_the_vectors_are(
    config: Any, makers: Any, old_words: Tokenizer, new_words: Tokenizer, sentences: list[str]
) -> None:
    old = makers.checkpoint(old_words)
    with torch.no_grad():  # a bias that is a linear function of the vector: so mixtures of both must agree
        old.head.bias.copy_(old.encoder.token_embedding.weight[:, 0])
    carried = carried_to(old, new_words, sentences, config)
    same = matching_pieces(old_words, new_words)
    bias, vectors = carried.head.bias.detach(), carried.encoder.token_embedding.weight.detach()
    if config.kind in ("focus", "wechsel"):
        torch.testing.assert_close(bias, vectors[:, 0], atol=1e-6, rtol=1e-5)
    else:
        assert torch.equal(bias[same >= 0], old.head.bias.detach()[same[same >= 0]])
        mean = old.head.bias.detach()[ordinary_ids(old_words)].mean()
        torch.testing.assert_close(bias[same < 0], mean.expand(int((same < 0).sum())))


def test_special_tokens_keep_their_vectors_whatever_they_are_called(
    makers: Any, old_words: Tokenizer, sentences: list[str]
) -> None:
    old = makers.checkpoint(old_words)
    target = makers.word_piece(makers.letters(sentences), specials=("<pad>", "<unk>", "<s>", "</s>", "<mask>"))
    carried = carried_to(old, target, sentences, RandomConfig(keep_shared=False))
    for kind in ("pad", "unk", "cls", "sep", "mask"):
        ours = carried.encoder.token_embedding.weight[getattr(target, kind)]
        assert torch.equal(ours, old.encoder.token_embedding.weight[getattr(old_words, kind)])


def test_token_ids_in_the_config_are_those_of_the_new_vocabulary(
    makers: Any, old_bytes: Tokenizer, sentences: list[str]
) -> None:
    target = makers.byte_level(sentences, 400, specials=("<pad>", "<unk>", "<s>", "</s>", "<mask>"))
    old = makers.checkpoint(old_bytes, "modernbert")
    old.hf_config |= {"mask_token_id": 4, "unk_token_id": None, "bos_token_id": 0}
    found = carried_to(old, target, sentences, SubwordConfig()).hf_config
    ids = {name: number for name, number in found.items() if name.endswith("_token_id")}
    assert ids == {
        "pad_token_id": 0,
        "bos_token_id": 2,
        "cls_token_id": 2,
        "eos_token_id": 3,
        "sep_token_id": 3,
        "mask_token_id": 4,
        "unk_token_id": None,
    }
    assert found["vocab_size"] == target.size
    assert old.hf_config["bos_token_id"] == 0


def test_a_padding_token_at_another_place_is_refused_where_positions_hang_on_it(
    makers: Any, old_bytes: Tokenizer, sentences: list[str]
) -> None:
    target = makers.byte_level(sentences, 400, specials=("<pad>", "<unk>", "<s>", "</s>", "<mask>"))
    with pytest.raises(ModelError, match=r"counts positions from its padding token, entry 1 .* token at 0;"):
        carried_to(makers.checkpoint(old_bytes, "roberta"), target, sentences)


def test_parts_with_the_old_vocabulary_begin_anew_and_others_stay(
    makers: Any, old_words: Tokenizer, new_words: Tokenizer, sentences: list[str], tmp_path: Path
) -> None:
    old = makers.checkpoint(old_words)
    tensors = {
        "retromae": {"decoder.norm.weight": torch.zeros(32)},
        "contriever": {"queue_documents": torch.zeros(7, dtype=torch.int64), "e": torch.zeros(old_words.size, 32)},
        "head": {"bias": torch.zeros(old_words.size)},
    }
    for kind, content in tensors.items():
        save_file(content, tmp_path / f"{kind}.safetensors")
    old.parts = {kind: tmp_path / f"{kind}.safetensors" for kind in tensors}
    assert carried_to(old, new_words, sentences, SubwordConfig()).parts == {"retromae": old.parts["retromae"]}
    old.parts["head"].write_bytes(b"not safetensors")
    with pytest.raises(ModelError, match="remove the file to begin these parts anew"):
        carried_to(old, new_words, sentences, SubwordConfig())


def test_a_model_without_head_stays_without(
    makers: Any, old_words: Tokenizer, new_words: Tokenizer, sentences: list[str]
) -> None:
    old = makers.checkpoint(old_words)
    old.head = None
    assert carried_to(old, new_words, sentences).head is None
