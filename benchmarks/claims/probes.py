"""What a model's states are worth for tasks of its field: a linear map on them, the model left as it is.

Tagging asks each word's state (the mean of its pieces', so that vocabularies of other pieces are asked alike), and
classifying each text's vector. The map is a multinomial logistic regression on standardised states, fitted by L-BFGS
on some labelled texts and asked others. A probe is not fine-tuning: it says what the model knows, not what it could
learn from the labels. Search needs no probe: a judged collection, cut to some documents, is asked its test queries.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from benchmarks.claims.objectives import DEPTH, MEASURE, cut_collection

from corpusmith.corpus.base import Document
from corpusmith.evaluation.beir import read_beir
from corpusmith.evaluation.measures import measure
from corpusmith.model.arithmetic import DTYPES, fastest_precision
from corpusmith.model.checkpoint import Checkpoint
from corpusmith.retrieval.dense import DenseRetriever, token_states

FITTED, ASKED, SEARCHED = 500, 750, 600
"""Texts that a probe is fitted on, and texts that it is asked; documents of a collection that is searched."""
ITERATIONS = 100
WEIGHT_DECAY = 1e-2
"""Times the sum of squared weights, beside the mean loss; the best of 1e-4, 1e-3 and 1e-2 for all-MiniLM-L6-v2 on the
dev splits of ncbi_disease and trec_questions."""
OUTSIDE = "O"

Tagged = tuple[tuple[str, ...], tuple[str, ...]]
"""The words of a sentence and their BIO tags."""


@dataclass(frozen=True)
class Task:
    """A labelled set: what is asked of it, and the splits that are fitted on and asked."""

    name: str
    kind: Literal["tags", "classes", "search"]
    fitted: str = "train"
    asked: str = "test"

    def values(self, data: Path, checkpoint: Checkpoint, scratch: Path) -> np.ndarray:
        """What the model is worth on each text asked: the F1 of its entities (1 where there are none and none is
        found), whether the class is right, or nDCG@10 of search by its vectors. `scratch` gets what is cut."""
        if self.kind == "search":
            folder = scratch / f"{self.name}-{SEARCHED}"
            if not folder.exists():
                cut_collection(data / "retrieval" / self.name, folder, SEARCHED)
            return search_values(checkpoint, folder)
        if self.kind == "tags":
            fitted, asked = (self._sentences(data, split) for split in (self.fitted, self.asked))
            return tag_values(checkpoint, fitted[:FITTED], asked[:ASKED])
        fitted, asked = (self._texts(data, split) for split in (self.fitted, self.asked))
        return class_values(checkpoint, fitted[:FITTED], asked[:ASKED])

    def _sentences(self, data: Path, split: str) -> list[Tagged]:
        with (data / "ner" / self.name / f"{split}.tsv").open(encoding="utf-8") as file:
            return list(islice(read_sentences(file), max(FITTED, ASKED)))

    def _texts(self, data: Path, split: str) -> list[tuple[str, str]]:
        with (data / "classification" / self.name / f"{split}.jsonl").open(encoding="utf-8") as file:
            records = map(json.loads, islice(file, max(FITTED, ASKED)))
            return [(record["text"], record["label"]) for record in records]


def read_sentences(lines: Iterator[str]) -> Iterator[Tagged]:
    """Sentences of lines "word, tab, tag" with a blank line after each."""
    for is_blank, group in groupby(lines, lambda line: not line.strip()):
        if not is_blank:
            words, tags = zip(*(line.rstrip("\n").split("\t") for line in group), strict=True)
            yield words, tags


def tag_values(checkpoint: Checkpoint, fitted: Sequence[Tagged], asked: Sequence[Tagged]) -> np.ndarray:
    """The F1 of the entities of each sentence asked."""
    states = [np.concatenate(word_states(checkpoint, [words for words, _ in part])) for part in (fitted, asked)]
    names, numbers = np.unique([tag for _, tags in fitted for tag in tags], return_inverse=True)
    found = iter(names[predictions(states[0], numbers, states[1])].tolist())
    return np.array([entity_f1(list(islice(found, len(tags))), tags) for _, tags in asked])


def search_values(checkpoint: Checkpoint, folder: Path) -> np.ndarray:
    """nDCG@10 of each test query of a collection, documents ranked by their vectors, what is too long cut off."""
    from corpusmith.corpus.config import CorpusConfig
    from corpusmith.corpus.read import read

    documents = [item for item in read([folder / "corpus.jsonl"], CorpusConfig()) if isinstance(item, Document)]
    queries, retriever = read_beir(folder, "test"), DenseRetriever(checkpoint)
    vectors = retriever.encode_documents([f"{document.title} {document.text}" for document in documents])
    scores = retriever.encode_queries(list(queries.queries.values())) @ vectors.T
    best = np.argsort(-scores, axis=1, kind="stable")[:, :DEPTH]
    run = {
        query: [documents[row].id for row in rows] for query, rows in zip(queries.queries, best.tolist(), strict=True)
    }
    return measure(queries, run).values[MEASURE]


def class_values(
    checkpoint: Checkpoint, fitted: Sequence[tuple[str, str]], asked: Sequence[tuple[str, str]]
) -> np.ndarray:
    """Whether the class of each text asked is right, 0 or 1."""
    retriever = DenseRetriever(checkpoint)
    vectors = [retriever.encode([text for text, _ in part]) for part in (fitted, asked)]
    names, numbers = np.unique([label for _, label in fitted], return_inverse=True)
    found = names[predictions(vectors[0], numbers, vectors[1])]
    return (found == np.array([label for _, label in asked])).astype(float)


@torch.inference_mode()
def word_states(checkpoint: Checkpoint, sentences: Sequence[Sequence[str]]) -> list[np.ndarray]:
    """`[words, D]` for each sentence: the mean of the last states of each word's pieces, zeros for words that do not
    fit into the model."""
    tokenizer, device = checkpoint.tokenizer, next(checkpoint.encoder.parameters()).device
    words = list(dict.fromkeys(word for sentence in sentences for word in sentence))
    unknown = np.array([tokenizer.sep if tokenizer.unk is None else tokenizer.unk])
    pieces = {word: ids if len(ids) else unknown for word, ids in zip(words, tokenizer.encode(words), strict=True)}
    encoder = checkpoint.encoder.for_inference(DTYPES[fastest_precision(device)])
    found = [np.zeros(0)] * len(sentences)
    sequences = [
        tokenizer.with_specials(np.concatenate([pieces[word] for word in sentence]), checkpoint.max_tokens)
        for sentence in sentences
    ]
    for number, states in token_states(encoder, sequences):
        found[number] = _means(states.cpu().numpy(), [len(pieces[word]) for word in sentences[number]])
    return found


def _means(states: np.ndarray, lengths: Sequence[int]) -> np.ndarray:
    """The mean of each run of so many rows; zeros where they end before."""
    ends = np.cumsum(lengths)
    means = np.zeros((len(lengths), states.shape[1]), dtype=np.float32)
    for number, (end, length) in enumerate(zip(ends, lengths, strict=True)):
        if end <= len(states):
            means[number] = states[end - length : end].mean(axis=0)
    return means


def predictions(fitted: np.ndarray, classes: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """The class of each row of `asked[M, D]` by a logistic regression on `fitted[N, D]` of `classes[N]` from 0 on."""
    mean, spread = fitted.mean(axis=0), fitted.std(axis=0) + 1e-6
    inputs, wanted = torch.from_numpy((fitted - mean) / spread).float(), torch.from_numpy(classes)
    linear = torch.nn.Linear(inputs.shape[1], int(classes.max()) + 1)
    torch.nn.init.zeros_(linear.weight)
    torch.nn.init.zeros_(linear.bias)
    optimiser = torch.optim.LBFGS(linear.parameters(), max_iter=ITERATIONS, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        value = torch.nn.functional.cross_entropy(linear(inputs), wanted)
        value = value + WEIGHT_DECAY * linear.weight.square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimiser.step(loss)  # type: ignore[arg-type]
    with torch.inference_mode():
        found: np.ndarray = linear(torch.from_numpy((asked - mean) / spread).float()).argmax(dim=1).numpy()
    return found


def entity_f1(found: Sequence[str], wanted: Sequence[str]) -> float:
    """F1 of the entities of one sentence, each right only as a whole; 1 where neither has any."""
    ours, theirs = set(entities(found)), set(entities(wanted))
    return 2 * len(ours & theirs) / (len(ours) + len(theirs)) if ours or theirs else 1.0


def entities(tags: Sequence[str]) -> Iterator[tuple[int, int, str]]:
    """First word, end and type of each entity; an "I" that goes on with nothing begins one, as in CoNLL's scorer."""
    start, kind = 0, ""
    for place, tag in enumerate([*tags, OUTSIDE]):
        mark, _, name = tag.partition("-")
        if kind and (mark != "I" or name != kind):
            yield start, place, kind
            kind = ""
        if name and not kind:
            start, kind = place, name
