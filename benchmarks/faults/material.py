"""What the fault benchmarks build: a corpus, a model and a recipe small enough to be built a thousand times, and what
two builds are compared by."""

from __future__ import annotations

import json
import string
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from corpusmith.objective import registry

DOCUMENTS = 120
SENTENCES = 4
WORDS = 300
LETTERS = string.ascii_lowercase
OBJECTIVES = tuple(registry.OBJECTIVES)
THREE = ("masked_language", "retromae", "contrastive")
"""One objective of each family, where every kind of file and of trouble counts and not every kind of loss."""
MACHINES_OWN = ("timing.jsonl", "summary.json", "report.html", ".corpusmith.lock")
"""Files that tell what the machine did: they differ from run to run."""


def write_corpus(folder: Path, seed: int = 0) -> Path:
    """A BEIR folder of documents of a few sentences, the first and the last of which name the same thing, the last with
    a number of its own, and judged queries."""
    rng = np.random.default_rng(seed)
    vocabulary = _words(rng, WORDS)
    (folder / "qrels").mkdir(parents=True)
    with (folder / "corpus.jsonl").open("w") as file:
        for number in range(DOCUMENTS):
            sentences = [
                " ".join(rng.choice(vocabulary, rng.integers(6, 14))).capitalize() + "." for _ in range(SENTENCES)
            ]
            title = " ".join(rng.choice(vocabulary, 4)).capitalize()
            name = " ".join(_words(rng, 2))
            text = f"Of {name}. {' '.join(sentences)} So {name} and number {number} ends here."
            record = {"_id": f"d{number}", "title": title, "text": text}
            file.write(json.dumps(record) + "\n")
    judged = {"train": range(0, 70), "test": range(70, 80)}
    with (folder / "queries.jsonl").open("w") as file:
        for split, numbers in judged.items():
            lines = ["query-id\tcorpus-id\tscore"]
            for number in numbers:
                file.write(json.dumps({"_id": f"q{number}", "text": f"number {number} ends"}) + "\n")
                lines.append(f"q{number}\td{number}\t1")
            (folder / "qrels" / f"{split}.tsv").write_text("\n".join(lines) + "\n")
    return folder


def _words(rng: np.random.Generator, number: int) -> np.ndarray:
    lengths = rng.integers(2, 9, number)
    return np.array(["".join(rng.choice(list(LETTERS), length)) for length in lengths])


def write_model(folder: Path, words: Sequence[str] = ()) -> Path:
    """A model of two layers and a masked-language head with random weights, and word pieces that are letters, digits
    and these words."""
    import tokenizers
    import torch

    from corpusmith.model.checkpoint import Checkpoint
    from corpusmith.model.config import EncoderConfig
    from corpusmith.model.encoder import Encoder
    from corpusmith.model.heads import MaskedLanguageHead
    from corpusmith.model.huggingface import export_checkpoint
    from corpusmith.vocabulary.tokenizer import Tokenizer

    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    signs = [*LETTERS, *string.digits]
    pieces = [*specials, ".", *signs, *(f"##{sign}" for sign in signs), *words]
    model = tokenizers.models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]")
    backend = tokenizers.Tokenizer(model)
    backend.normalizer = tokenizers.normalizers.BertNormalizer()
    backend.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    backend.add_special_tokens(specials)
    size = {"hidden_size": 32, "layers": 2, "heads": 2, "intermediate_size": 64, "max_positions": 128}
    config = EncoderConfig(model_type="bert", vocabulary_size=len(pieces), **size)
    generator = torch.Generator().manual_seed(7)
    encoder, head = Encoder(config, generator), MaskedLanguageHead(config, generator)
    tokenizer = Tokenizer(backend, {}, {})
    folder.mkdir()
    checkpoint = Checkpoint(encoder, head, tokenizer, "mean", True, 96, "tiny", config.to_hugging_face())
    export_checkpoint(checkpoint, folder, with_head=True)
    return folder


def write_recipe(path: Path, model: Path, budget: dict[str, float], objectives: tuple[str, ...] = OBJECTIVES) -> Path:
    """A recipe with one stage for each objective, evaluated twice, a checkpoint after every step."""
    from corpusmith.recipe import parse_recipe, to_toml

    training = {"batch_tokens": 2048, "evaluations": 2, "checkpoint_minutes": 0, "held_out": 4, "precision": "float32"}
    content = {
        "name": "faults",
        "budget": budget,
        "corpus": {"passage_words": 24, "overlap_words": 0},
        "model": {"base": str(model)},
        "encoding": {"method": "float32"},
        "pairs": {"per_document": 2, "candidates": 4, "depth": 20},
        "heldout": {"share": 0.5},
        "stages": [{"objective": {"kind": kind}, "training": training} for kind in objectives],
        "search": {"model": "trained", "sentences": 0.5},
    }
    path.write_text(to_toml(parse_recipe(content, "faults")), encoding="utf-8")
    return path


def content_of(folder: Path) -> dict[str, str]:
    """What a build has left, by path: each file's digest, but of manifests and plans only what the machine's speed and
    the clock have no part in. Equal for two builds if, and only if, they made the same things."""
    from corpusmith.digests import digest_file, digest_json

    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_dir() or path.name in MACHINES_OWN:
            continue
        if path.name in ("manifest.json", "plan.json"):
            found[name] = digest_json(_lasting(json.loads(path.read_text(encoding="utf-8"))))
        else:
            found[name] = digest_file(path)
    return found


def _lasting(content: dict) -> dict:
    """A manifest's or a plan's content without what the clock and the machine's speed decided; the files that a
    manifest lists are compared for themselves."""
    passing = ("seconds", "created", "peak_memory_bytes", "files", "evaluation_seconds", "seal")
    kept = {key: value for key, value in content.items() if key not in passing}
    return {key: _lasting(value) if key == "facts" else value for key, value in kept.items()}


def differences(found: dict[str, str], expected: dict[str, str]) -> list[str]:
    """Paths whose content differs, or that only one of two builds has."""
    return sorted(path for path in found.keys() | expected.keys() if found.get(path) != expected.get(path))
