"""A model cut to fewer layers and dimensions gives the whole model's states there, here and in the other libraries."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import save_file
from torch.nn import functional as F

from corpusmith.errors import ModelError
from corpusmith.model.checkpoint import Checkpoint
from corpusmith.model.huggingface import export_checkpoint, load_checkpoint
from corpusmith.model.nested import SharedRun, cut_checkpoint
from corpusmith.model.packed import pack
from corpusmith.model.pooling import pool
from corpusmith.retrieval.dense import DenseRetriever, PackedBackend

KINDS = ["bert", "roberta", "modernbert"]
TEXTS = ["word1 word2 word3", "word4", "word5 word11s word6ing word7 word8 word9 word10", "word2 word89"]


@pytest.fixture(params=KINDS)
def whole(request: Any, reference: Any, tmp_path: Path) -> Checkpoint:
    return load_checkpoint(reference.save(reference.masked_language_model(request.param), tmp_path / "whole"))


def encoded(checkpoint: Checkpoint, texts: list[str]) -> np.ndarray:
    return DenseRetriever(checkpoint, PackedBackend(checkpoint, torch.float32)).encode(texts)


def exported(checkpoint: Checkpoint, folder: Path) -> Path:
    folder.mkdir()
    export_checkpoint(checkpoint, folder)
    return folder


def intermediate_vectors(checkpoint: Checkpoint, layers: int, dimension: int) -> np.ndarray:
    """From the whole model's own states after a layer, one text at a time."""
    found = []
    for ids in checkpoint.tokenizer.encode(TEXTS):
        packed = pack([checkpoint.tokenizer.with_specials(ids, checkpoint.max_tokens)])
        states = checkpoint.encoder.hidden_states(packed, (layers,))[0]
        if layers < checkpoint.encoder.config.layers:
            states = checkpoint.encoder.final_norm(states)
        found.append(F.normalize(states.mean(dim=0)[:dimension], dim=0).detach().numpy())
    return np.stack(found)


@pytest.mark.parametrize(("layers", "dimension"), [(2, 12), (1, 32), (3, 8), (3, 32)])
def test_cut_vectors_are_the_whole_models_intermediate_ones_also_after_an_export(
    whole: Checkpoint, tmp_path: Path, layers: int, dimension: int
) -> None:
    cut = cut_checkpoint(whole, layers, dimension)
    assert (cut.encoder.config.layers, cut.dimension) == (layers, dimension)
    assert (whole.encoder.config.layers, whole.dimension) == (3, 32)
    expected = intermediate_vectors(whole, layers, dimension)
    again = load_checkpoint(exported(cut, tmp_path / "cut"))
    assert again.cut_dimension == cut.cut_dimension
    for checkpoint in (cut, again):
        assert DenseRetriever(checkpoint).dimension == dimension
        np.testing.assert_allclose(encoded(checkpoint, TEXTS), expected, atol=1e-5)


@pytest.mark.parametrize(("layers", "dimension"), [(2, 12), (3, 8), (1, 32)])
def test_sentence_transformers_gives_the_same_cut_vectors(
    whole: Checkpoint, tmp_path: Path, layers: int, dimension: int
) -> None:
    from sentence_transformers import SentenceTransformer

    if whole.hf_config["model_type"] == "modernbert":
        pytest.skip("it gives this tokenizer's texts no special tokens; see the test with token ids")
    cut = cut_checkpoint(whole, layers, dimension)
    model = SentenceTransformer(str(exported(cut, tmp_path / "cut")), device="cpu")
    assert model.get_embedding_dimension() == dimension
    one_by_one = model.encode(TEXTS, batch_size=1)  # this tokenizer pads with a token that RoBERTa counts
    np.testing.assert_allclose(one_by_one, encoded(cut, TEXTS), atol=1e-5)


@pytest.mark.parametrize("layers", [1, 2])
def test_transformers_gives_the_same_states_from_a_cut_export(
    whole: Checkpoint, reference: Any, tmp_path: Path, layers: int
) -> None:
    folder = exported(cut_checkpoint(whole, layers, 8), tmp_path / "cut")
    model, report = transformers.AutoModel.from_pretrained(folder, output_loading_info=True)
    assert not report["unexpected_keys"]
    assert all("pooler" in name for name in report["missing_keys"])
    batch = reference.sequences([7, 20])
    ids, mask = reference.padded(batch, pad=1 if "roberta" in whole.hf_config["model_type"] else 0)
    out = model.eval()(input_ids=ids, attention_mask=mask)[0]
    pooled = torch.stack([states[: len(sequence)].mean(dim=0)[:8] for states, sequence in zip(out, batch, strict=True)])
    vectors = PackedBackend(load_checkpoint(folder), torch.float32).encode(batch)
    np.testing.assert_allclose(vectors, F.normalize(pooled, dim=-1).detach().numpy(), atol=1e-5)


def test_a_cut_of_the_packaged_model_agrees_with_sentence_transformers(tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    cut = cut_checkpoint(load_checkpoint("all-MiniLM-L6-v2"), 3, 96)
    texts = ["Aspirin lowers the risk of a second stroke.", "The wing produces lift.", "a"]
    model = SentenceTransformer(str(exported(cut, tmp_path / "cut")), device="cpu")
    assert model.encode(texts).shape == (3, 96)
    np.testing.assert_allclose(model.encode(texts), encoded(cut, texts), atol=1e-5)


def test_a_cut_model_that_was_loaded_is_cut_further_and_no_wider(whole: Checkpoint) -> None:
    once = cut_checkpoint(whole, 2, 16)
    twice = cut_checkpoint(once, 1, 8)
    np.testing.assert_allclose(encoded(twice, TEXTS), intermediate_vectors(whole, 1, 8), atol=1e-5)
    assert cut_checkpoint(once).dimension == 16
    for layers, dimension in ((3, None), (None, 17), (0, None), (None, 0)):
        with pytest.raises(ModelError, match="cannot be cut to"):
            cut_checkpoint(once, layers, dimension)


def test_a_truncation_named_in_the_settings_of_sentence_transformers_is_honoured(
    whole: Checkpoint, tmp_path: Path
) -> None:
    folder = exported(whole, tmp_path / "whole-again")
    path = folder / "config_sentence_transformers.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"truncate_dim": 8}))
    np.testing.assert_allclose(encoded(load_checkpoint(folder), TEXTS), intermediate_vectors(whole, 3, 8), atol=1e-5)


@pytest.mark.parametrize(
    "matrix", [torch.eye(32)[:8].roll(1, dims=1), 2 * torch.eye(8, 32), torch.eye(8, 16), torch.eye(8)]
)
def test_a_dense_module_that_does_more_than_cut_is_refused(
    whole: Checkpoint, tmp_path: Path, matrix: torch.Tensor
) -> None:
    folder = exported(cut_checkpoint(whole, 3, 8), tmp_path / "cut")
    load_checkpoint(folder)
    save_file({"linear.weight": matrix.contiguous()}, folder / "2_Dense" / "model.safetensors")
    with pytest.raises(ModelError, match=r"cut"):
        load_checkpoint(folder)


def test_views_take_states_from_one_run_and_those_are_what_a_cut_model_gives(whole: Checkpoint) -> None:
    encoder = whole.encoder
    calls = []
    small_ones = {layers: cut_checkpoint(whole, layers).encoder for layers in (1, 3)}
    encoder.embeddings.register_forward_hook(lambda *_: calls.append(1))
    packed = [pack([np.arange(5, 5 + n) for n in lengths]) for lengths in ((3, 9, 1), (4,))]
    run = SharedRun(encoder, (1, 3))
    for layers, dimension in ((3, 32), (1, 32), (1, 8)):
        view = run.view(layers, dimension)
        small = small_ones[layers]
        for batch in packed:
            states, expected = view(batch), small(batch)
            torch.testing.assert_close(states[:, :dimension], expected[:, :dimension], atol=1e-5, rtol=1e-5)
            assert not states[:, dimension:].any()
        vectors = torch.cat([pool(small(batch), batch, "mean") for batch in packed])
        torch.testing.assert_close(run.vectors(layers, "mean"), vectors, atol=1e-5, rtol=1e-5)
        assert view.config == small.config
    assert len(calls) == len(packed)


def test_views_refuse_batches_in_another_order(whole: Checkpoint) -> None:
    run = SharedRun(whole.encoder, (1, 3))
    run.view(3, 32)(pack([np.arange(5, 9)]))
    with pytest.raises(ValueError, match="another order"):
        run.view(1, 32)(pack([np.arange(5, 8)]))


def test_runtimes_cut_vectors_too(whole: Checkpoint) -> None:
    from corpusmith.model.padded import PaddedEncoder

    cut = cut_checkpoint(whole, 2, 12)
    ids = np.concatenate([[2], np.arange(7, 12), [3]])
    found = PaddedEncoder(cut.encoder, cut.pooling, cut.cut_dimension)(
        torch.from_numpy(ids)[None], torch.ones(1, len(ids), dtype=torch.bool)
    )
    expected = PackedBackend(cut, torch.float32).encode([ids])
    np.testing.assert_allclose(found.detach().numpy(), expected, atol=1e-5)
