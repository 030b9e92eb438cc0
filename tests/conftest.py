"""Things small enough to make on the spot: a few real sentences, a word-piece tokenizer of them, an encoder."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import hypothesis
import numpy as np
import pytest
import tokenizers
import torch
from tests.examples import write_documents, write_queries

from corpusmith.corpus.shards import TokenShards, write_shards
from corpusmith.model.config import EncoderConfig
from corpusmith.model.encoder import Encoder
from corpusmith.objective.data import PairSet, TrainingData
from corpusmith.vocabulary.tokenizer import Tokenizer

# A busy machine is no failure, and what passes passes again; `--hypothesis-profile=search` draws anew each time.
hypothesis.settings.register_profile("search", deadline=None)
hypothesis.settings.register_profile("suite", deadline=None, derandomize=True)
hypothesis.settings.load_profile("suite")
torch.set_num_threads(1)  # products this small only wait for each other's threads, and long on a busy machine

SENTENCES = (
    "The heart pumps blood through the arteries and veins of the body.",
    "Aspirin lowers the risk of a second stroke in most patients.",
    "Insulin moves sugar from the blood into muscle and liver cells.",
    "The kidney filters about one hundred and eighty litres of blood a day.",
    "A fever is a rise of body temperature that helps against infection.",
    "Antibiotics kill bacteria but have no effect on a virus.",
    "A lease gives the tenant the right to use the property for a term.",
    "The court dismissed the appeal because it was filed too late.",
    "A contract needs an offer, an acceptance and something of value.",
    "The buyer may return the goods within fourteen days of delivery.",
    "The statute of limitations bars claims older than six years.",
    "A trustee must act in the interest of the beneficiaries alone.",
    "The wing produces lift when air flows faster over its upper surface.",
    "Drag grows with the square of the speed of the aircraft.",
    "A turbine turns the energy of hot gas into the motion of a shaft.",
    "The boundary layer separates from the wing at a high angle of attack.",
    "A shock wave forms when the flow exceeds the speed of sound.",
    "The rudder at the tail turns the aircraft to the left or right.",
    "The function returns the index of the first element that matches.",
    "A hash table finds a key in constant time on average.",
    "The compiler turns source code into instructions of the machine.",
    "Sorting a list takes time proportional to its length times its logarithm.",
    "A thread waits for the lock until another thread releases it.",
    "The array is copied unless the caller asks for a view.",
)


@pytest.fixture(scope="session")
def sentences() -> list[str]:
    return list(SENTENCES)


@pytest.fixture(scope="session")
def tiny_tokenizer(sentences: list[str]) -> Tokenizer:
    """A word-piece tokenizer whose vocabulary is put together from the sentences (and so the same everywhere): their
    letters, their pairs of letters within words, their short words. Long words become several pieces."""
    words = sorted(set(re.findall("[a-z]+", " ".join(sentences).lower())))
    letters = sorted(set("".join(words)))
    pairs = sorted({word[i : i + 2] for word in words for i in range(1, len(word) - 1)})
    short = [word for word in words if 1 < len(word) <= 5]
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces = [*specials, ".", ",", *letters, *(f"##{part}" for part in letters + pairs), *short]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    backend = tokenizers.Tokenizer(tokenizers.models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.normalizer = tokenizers.normalizers.BertNormalizer()
    backend.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    backend.add_special_tokens(specials)
    return Tokenizer(backend, {}, {})


@pytest.fixture
def tiny_checkpoint(tiny_tokenizer: Tokenizer) -> Callable[..., SimpleNamespace]:
    """Makes checkpoints of two layers, always with the same weights; `pooling` and the like can be chosen."""

    def make(**choices: object) -> SimpleNamespace:
        config = EncoderConfig(
            model_type="bert",
            vocabulary_size=tiny_tokenizer.size,
            hidden_size=32,
            layers=2,
            heads=2,
            intermediate_size=64,
            max_positions=64,
        )
        encoder = Encoder(config, torch.Generator().manual_seed(7))
        parts = {"encoder": encoder, "head": None, "tokenizer": tiny_tokenizer, "pooling": "mean", "normalize": True}
        return SimpleNamespace(**(parts | {"max_tokens": 32, "parts": {}} | choices))

    return make


@pytest.fixture(scope="session")
def tiny_passages(
    sentences: list[str], tiny_tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory
) -> TokenShards:
    return write_shards(sentences, tiny_tokenizer, tmp_path_factory.mktemp("passages"))


@pytest.fixture(scope="session")
def tiny_data(
    sentences: list[str],
    tiny_tokenizer: Tokenizer,
    tiny_passages: TokenShards,
    tmp_path_factory: pytest.TempPathFactory,
) -> TrainingData:
    """Every sentence is a passage; two neighbours are a document; a sentence's first half asks for its second half,
    and the sentences six and twelve further on are mined negatives, the second missing for some."""
    count = len(sentences)
    halves = [(" ".join(s.split()[:5]), " ".join(s.split()[5:])) for s in sentences]
    documents = np.arange(count) // 2
    negatives = np.stack([(np.arange(count) + 6) % count, (np.arange(count) + 12) % count], axis=1)
    negatives[::3, 1] = -1
    pairs = PairSet(
        queries=write_shards([a for a, _ in halves], tiny_tokenizer, tmp_path_factory.mktemp("queries")),
        positives=write_shards([b for _, b in halves], tiny_tokenizer, tmp_path_factory.mktemp("positives")),
        negatives=negatives,
        documents=documents,
        kinds=np.zeros(count, dtype=np.int64),
        kind_names=("halves",),
    )
    return TrainingData(tiny_passages, np.arange(count), documents, pairs)


@pytest.fixture(scope="session")
def base_model(tiny_tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random model of two layers, as a recipe names it."""
    from corpusmith.model.checkpoint import Checkpoint
    from corpusmith.model.huggingface import export_checkpoint

    size = {"vocabulary_size": tiny_tokenizer.size, "hidden_size": 32, "layers": 2, "heads": 2}
    config = EncoderConfig(model_type="bert", intermediate_size=64, max_positions=128, **size)
    encoder = Encoder(config, torch.Generator().manual_seed(7))
    folder = tmp_path_factory.mktemp("base")
    export_checkpoint(
        Checkpoint(encoder, None, tiny_tokenizer, "mean", True, 96, "tiny", config.to_hugging_face()), folder
    )
    return folder


@pytest.fixture(scope="session")
def notes(sentences: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BEIR folder of 24 documents of three sentences with hostile titles, and 6 judged queries."""
    folder = tmp_path_factory.mktemp("notes")
    with (folder / "corpus.jsonl").open("w") as file:
        for i, sentence in enumerate(sentences):
            text = " ".join([sentence, sentences[(i + 5) % 24], sentences[(i + 11) % 24]])
            file.write(json.dumps({"_id": f"d{i}", "title": f"[bold]Note {i}[/bold] \u202e", "text": text}) + "\n")
    write_queries(folder, {"test": 6}, lambda i: " ".join(sentences[i].split()[:4]))
    return folder


@pytest.fixture(scope="session")
def documents(sentences: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 120 documents of five sentences, enough to hold queries out of them."""
    folder = tmp_path_factory.mktemp("documents")

    def title(i: int) -> str:
        return f"Notes on {sentences[i % 24].split()[1]} case {i}"

    write_documents(folder / "notes.jsonl", sentences, 120, title, key="id")
    return folder


@pytest.fixture(scope="session")
def built_notes(base_model: Path, notes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished build of the notes, without training; not to be changed."""
    from corpusmith.pipeline import build
    from corpusmith.recipe import preset

    out = tmp_path_factory.mktemp("built") / "out"
    build(notes, recipe=preset("search-only").with_overrides({"model.base": str(base_model)}), out=out)
    return out
