"""The optional runtimes against the encoder itself. Each is skipped where its packages are not installed; the padded
encoder that their graphs are made from is always tested."""

import importlib.util

import numpy as np
import pytest
import torch

from corpusmith.errors import RecipeError
from corpusmith.model.checkpoint import Checkpoint
from corpusmith.model.config import EncoderConfig
from corpusmith.model.encoder import Encoder
from corpusmith.model.huggingface import load_checkpoint
from corpusmith.model.padded import PaddedEncoder
from corpusmith.retrieval import runtimes
from corpusmith.retrieval.dense import Backend, DenseRetriever, PackedBackend
from corpusmith.retrieval.encoding import make_retriever
from corpusmith.retrieval.runtimes import OnnxBackend, OpenVinoBackend, rectangles
from corpusmith.vocabulary.tokenizer import Tokenizer

PACKAGES = {"padded": (), "onnx": ("onnx", "onnxscript", "onnxruntime"), "openvino": ("openvino",)}
ARCHITECTURES = {
    "bert": {},
    "roberta": {"position_offset": 2, "type_vocabulary_size": 1},
    "modernbert": {
        "type_vocabulary_size": 0,
        "rotary": True,
        "local_window": 3,
        "windowed": (False, True),
        "norm_first": True,
        "norm_bias": False,
        "attention_bias": False,
        "mlp_bias": False,
        "gated": True,
    },
}


class Padded:
    """The padded encoder itself as a backend."""

    batch_tokens = 4096

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.encoder = PaddedEncoder(checkpoint.encoder, checkpoint.pooling)

    def encode(self, sequences: list[np.ndarray]) -> np.ndarray:
        parts = [self.encoder(*(torch.from_numpy(array) for array in part)) for part in rectangles(sequences)]
        return torch.cat(parts).numpy()


@pytest.fixture(params=PACKAGES, scope="module")
def runtime(request: pytest.FixtureRequest) -> str:
    missing = [name for name in PACKAGES[request.param] if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed")
    return request.param


def make(runtime: str, checkpoint: Checkpoint) -> Backend:
    if runtime == "openvino":
        return OpenVinoBackend(checkpoint, torch.float32)
    return OnnxBackend(checkpoint) if runtime == "onnx" else Padded(checkpoint)


def tiny(architecture: str, tokenizer: Tokenizer, pooling: str) -> Checkpoint:
    sizes = {"vocabulary_size": tokenizer.size, "hidden_size": 32, "layers": 2, "heads": 2, "intermediate_size": 48}
    config = EncoderConfig(
        model_type=architecture, max_positions=64, initializer_range=0.3, **sizes, **ARCHITECTURES[architecture]
    )
    encoder = Encoder(config, torch.Generator().manual_seed(7))
    return Checkpoint(encoder, None, tokenizer, pooling, True, 62, architecture, config.to_hugging_face())


@pytest.mark.parametrize(("architecture", "pooling"), [("bert", "mean"), ("roberta", "cls"), ("modernbert", "mean")])
def test_vectors_are_those_of_the_encoder_for_every_architecture(
    runtime: str, architecture: str, pooling: str, tiny_tokenizer: Tokenizer, sentences: list[str]
) -> None:
    checkpoint = tiny(architecture, tiny_tokenizer, pooling)
    texts = [*sentences, "", "a", " ".join(sentences)]
    expected = DenseRetriever(checkpoint, PackedBackend(checkpoint, torch.float32)).encode(texts)
    retriever = DenseRetriever(checkpoint, make(runtime, checkpoint))
    vectors = retriever.encode(texts)
    assert vectors.dtype == np.float32
    assert vectors == pytest.approx(expected, abs=1e-5)
    for text, vector in zip(texts[-4:], vectors[-4:], strict=True):
        assert retriever.encode([text])[0] == pytest.approx(vector, abs=1e-5)


def test_the_default_models_vectors_are_within_1e_4_and_alone_as_in_company(runtime: str, sentences: list[str]) -> None:
    checkpoint = load_checkpoint("all-MiniLM-L6-v2")
    texts = [*sentences, "", "流体 mechanics — naïve?", "words " * 900]
    expected = DenseRetriever(checkpoint, PackedBackend(checkpoint, torch.float32)).encode(texts)
    retriever = DenseRetriever(checkpoint, make(runtime, checkpoint))
    vectors = retriever.encode(texts)
    assert vectors == pytest.approx(expected, abs=1e-4)
    for text, vector in zip(texts[-4:], vectors[-4:], strict=True):
        assert retriever.encode([text])[0] == pytest.approx(vector, abs=1e-5)


def test_openvino_in_bf16_stays_close(sentences: list[str]) -> None:
    pytest.importorskip("openvino", reason="openvino not installed")
    checkpoint = load_checkpoint("all-MiniLM-L6-v2")
    backends = OpenVinoBackend(checkpoint, torch.bfloat16), PackedBackend(checkpoint, torch.float32)
    coarse, exact = (DenseRetriever(checkpoint, backend).encode(sentences) for backend in backends)
    assert (coarse * exact).sum(axis=1).min() > 0.999


@pytest.mark.parametrize(("method", "package"), [("onnx", "onnxruntime"), ("openvino", "openvino")])
def test_a_missing_package_is_named_with_the_extra_that_brings_it(
    method: str, package: str, monkeypatch: pytest.MonkeyPatch, tiny_tokenizer: Tokenizer
) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(runtimes.importlib, "import_module", missing)
    with pytest.raises(RecipeError, match=rf"the package {package}, .*pip install 'corpusmith\[{method}\]'"):
        make_retriever(tiny("bert", tiny_tokenizer, "mean"), method)


def test_rectangles_hold_every_sequence_in_order_with_little_padding() -> None:
    lengths = [40, 38, 33, 31, 31, 12, 11, 3, 2]
    sequences = [np.arange(1, length + 1) for length in lengths]
    parts = list(rectangles(sequences))
    assert [ids.shape for ids, _ in parts] == [(3, 40), (2, 31), (2, 12), (1, 3), (1, 2)]
    unpadded = [row[kept] for ids, inside in parts for row, kept in zip(ids, inside, strict=True)]
    assert all(np.array_equal(row, sequence) for row, sequence in zip(unpadded, sequences, strict=True))
    assert all((ids[~inside] == 0).all() for ids, inside in parts)
