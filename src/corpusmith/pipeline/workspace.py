"""A build's folder, and what its finished steps have left there.

Steps meet only here and on the disk: each reads the artefacts made before it through this class, so that a build that
was cut off goes on as if it had never stopped.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from corpusmith.arrays import open_array
from corpusmith.artefact import FOR_USERS, STEPS, Manifest
from corpusmith.corpus.config import CorpusConfig
from corpusmith.corpus.read import digest_source, source_files
from corpusmith.corpus.readers.source import SourceFile
from corpusmith.corpus.shards import TokenShards
from corpusmith.corpus.store import Corpus
from corpusmith.digests import digest_file, digest_json
from corpusmith.errors import RecipeError
from corpusmith.evaluation.base import QuerySet
from corpusmith.evaluation.beir import is_beir, read_beir, splits
from corpusmith.evaluation.collection import Collection
from corpusmith.evaluation.demonstration import open_demonstration
from corpusmith.evaluation.heldout import MINIMUM_QUERIES, Heldout
from corpusmith.index.dense import DenseIndex
from corpusmith.index.lexical import LexicalIndex
from corpusmith.index.search import SearchEngine, SearchSettings
from corpusmith.index.sentences import FIRST, VECTORS, SentenceIndex
from corpusmith.model.arithmetic import best_device
from corpusmith.model.checkpoint import Checkpoint
from corpusmith.model.huggingface import load_checkpoint
from corpusmith.model.nested import cut_checkpoint
from corpusmith.pipeline.chain import Watcher
from corpusmith.recipe import Recipe
from corpusmith.retrieval.dense import DenseRetriever
from corpusmith.retrieval.encoding import Encoding, make_retriever
from corpusmith.retrieval.late_interaction import LateInteraction
from corpusmith.vocabulary.tokenizer import Tokenizer

DEFAULT_SEARCH = SearchSettings(weight=0.5, feedback=0.25, smoothing=0.2, late=1.0)
"""Search where nothing was chosen (benchmarks/claims/search_settings.py says why these settings)."""
QUICK_SEARCH = DEFAULT_SEARCH.model_copy(update={"late": 0.0})
"""The same without late interaction, for the many queries by which pairs are mined and models and settings compared."""


class Workspace:
    """One build: its inputs, its recipe, its folder, and the artefacts in it, opened when they are first asked for."""

    keeps_checkpoints: ClassVar[bool] = True
    """Whether what training saved on the way stays when a stage is done."""

    def __init__(self, paths: Sequence[Path], recipe: Recipe, folder: Path, watcher: Watcher) -> None:
        self.paths, self.recipe, self.folder, self.watcher = list(paths), recipe, folder, watcher
        self.manifests: dict[str, Manifest] = {}
        self.reused: set[str] = set()
        self._retrievers: dict[str, DenseRetriever] = {}
        self._lexical: dict[str, LexicalIndex] = {}

    def path(self, step: str) -> Path:
        """The folder of a step."""
        return self.folder / step if step in FOR_USERS else self.folder / STEPS / step

    def place(self, step: str, key: str) -> Path:
        """The folder for the artefact of a step with this key; `path` gives it from now on."""
        return self.path(step)

    # What comes from outside.

    @property
    def is_demonstration(self) -> bool:
        """Whether the corpus is the installed documentation, which brings judged queries of its own."""
        return self.recipe.corpus.source == "installed-docs"

    @property
    def needs_pairs(self) -> bool:
        """Whether a stage trains on pairs."""
        return any("pairs" in stage.objective.needs() for stage in self.recipe.stages)

    @cached_property
    def input_digests(self) -> tuple[tuple[str, str], ...]:
        """Digests of what is read: every file's bytes, or the names and versions of the installed packages."""
        if self.recipe.corpus.source == "installed-docs":
            packages = sorted(f"{d.name}=={d.version}" for d in metadata.distributions())
            return (("installed packages", digest_json(packages)),)
        return (("files", self.digest_files()),)

    def digest_files(self) -> str:
        """One digest of all documents' files as they are now."""
        return _digest_sources(self.paths, self.recipe.corpus)

    @cached_property
    def general_digests(self) -> dict[str, str]:
        """Digests of the general texts that the start names, by what reads them.

        Raises:
            CorpusError: one is not there.
        """
        start = self.recipe.start
        named = {part: getattr(getattr(start, part), "general", None) for part in ("vocabulary", "transfer")}
        return {part: _digest_sources([Path(text)], CorpusConfig()) for part, text in named.items() if text is not None}

    @cached_property
    def query_folder(self) -> Path | None:
        """The BEIR folder among the paths, if there is just one path and it is one."""
        return self.paths[0] if len(self.paths) == 1 and is_beir(self.paths[0]) else None

    @cached_property
    def query_digests(self) -> dict[str, str]:
        """Digests of the BEIR folder's queries and judgements."""
        if self.query_folder is None:
            return {}
        files = [*self.query_folder.glob("queries.jsonl*"), *self.query_folder.glob("qrels/*.tsv")]
        return {file.name: digest_file(file) for file in sorted(files) if file.is_file()}

    def queries(self, split: str) -> QuerySet | None:
        """The judged queries of a split, None if the input has none."""
        if self.query_folder is None or split not in splits(self.query_folder):
            return None
        return read_beir(self.query_folder, split)

    # What is there already.

    @cached_property
    def whole_base(self) -> Checkpoint:
        """The model that training starts from; nobody changes it."""
        return self._load_base()

    @cached_property
    def base(self) -> Checkpoint:
        """The model to start from, in the size that searches; nobody changes it."""
        return self.cut(self.whole_base)

    def _load_base(self) -> Checkpoint:
        model = self.recipe.model
        checkpoint = load_checkpoint(model.base, allow_download=model.allow_download).to(best_device())
        if model.max_tokens is None:
            return checkpoint
        if model.max_tokens > checkpoint.encoder.config.max_tokens:
            raise RecipeError(
                f"model.max_tokens = {model.max_tokens} is more than the {checkpoint.encoder.config.max_tokens} "
                f"positions of {model.base}."
            )
        return replace(checkpoint, max_tokens=model.max_tokens)

    # What finished steps have left.

    @cached_property
    def corpus(self) -> Corpus:
        """The corpus."""
        return Corpus.open(self.path("corpus"))

    @cached_property
    def shards(self) -> TokenShards:
        """Every passage's word pieces."""
        return TokenShards.open(self.path("tokens"))

    @cached_property
    def heldout(self) -> Heldout:
        """Queries made from the corpus."""
        return Heldout.open(self.path("heldout"), self.corpus)

    @cached_property
    def lexical(self) -> LexicalIndex:
        """BM25 over all passages."""
        return LexicalIndex.open(self.path("lexical"))

    @property
    def start_steps(self) -> tuple[str, ...]:
        """The steps that make what training begins with of the base, in order; none where it begins with the base."""
        start = self.recipe.start
        return ("vocabulary",) * start.changes_vocabulary + ("growth",) * start.changes_shape

    @cached_property
    def training_shards(self) -> TokenShards:
        """Every passage's pieces in the vocabulary that is trained."""
        return TokenShards.open(self.path("vocabulary-tokens")) if self.recipe.start.changes_vocabulary else self.shards

    @cached_property
    def training_tokenizer(self) -> Tokenizer:
        """The tokenizer of what is trained."""
        if not self.recipe.start.changes_vocabulary:
            return self.base.tokenizer
        return Tokenizer.load(self.path("vocabulary") / "model")

    @property
    def was_trained(self) -> bool:
        """Whether training was asked for, could be afforded, and ended with other weights than the base's."""
        return "trained" in self.manifests and not self.manifests["trained"].facts["is_base"]

    @property
    def practised_kinds(self) -> tuple[str, ...]:
        """Kinds of held-out queries that training practises: they are no evidence of a gain."""
        return self.recipe.pairs.kinds if self.needs_pairs and self.recipe.pairs.source == "corpus" else ()

    @cached_property
    def too_few_to_judge(self) -> str:
        """Why a trained model could not prove itself, to begin a sentence with; empty where it can or need not."""
        number = sum(kind not in self.practised_kinds for kind in self.heldout.kinds("validation"))
        if self.recipe.search.model == "trained" or number >= MINIMUM_QUERIES:
            return ""
        return (
            f"The corpus gives only {number} held-out queries of a kind that training does not practise, too few to "
            "tell whether training helps"
        )

    def vectors(self, step: str) -> np.ndarray:
        """`[N, D]` vectors of all passages from the step "base" or "trained"."""
        return open_array(self.path(step) / "vectors.npy")

    def encoding(self, step: str) -> Encoding:
        """What the vectors of the step "base" or "trained" were computed with."""
        return Encoding.open(self.path(step))

    def retriever(self, step: str) -> DenseRetriever:
        """Encodes with the model of "base" or "trained", as that step did; made once, since that can take seconds."""
        if step not in self._retrievers:
            self._retrievers[step] = make_retriever(self.checkpoint(step), self.encoding(step).method)
        return self._retrievers[step]

    def checkpoint(self, step: str) -> Checkpoint:
        """The model of "base" or "trained", in the size that searches; the base, too, where nothing was trained."""
        return self.trained_checkpoint() if step == "trained" and self.was_trained else self.base

    def trained_checkpoint(self) -> Checkpoint:
        """The model after the last stage, in the size that searches."""
        return self.cut(self.stage_checkpoint(len(self.recipe.stages)))

    def cut(self, checkpoint: Checkpoint) -> Checkpoint:
        """A checkpoint in the size that the recipe wants for search."""
        search = self.recipe.search
        if search.layers is None and search.dimension is None:
            return checkpoint
        return cut_checkpoint(checkpoint, search.layers, search.dimension)

    def stage_checkpoint(self, number: int) -> Checkpoint:
        """The whole model after a stage of training, stages counted from 1; what training begins with after none.

        It is loaded anew at every call, since training changes what it is given.
        """
        return self.checkpoint_of(f"stage-{number}" if number else "".join(self.start_steps[-1:]))

    def checkpoint_of(self, step: str) -> Checkpoint:
        """The whole model that a step left, loaded anew; the base model, if it is none."""
        if not step:
            return self._load_base()
        checkpoint = load_checkpoint(self.path(step) / "model").to(best_device())
        return replace(checkpoint, max_tokens=min(self.base.max_tokens, checkpoint.max_tokens))

    # The steps.

    @cached_property
    def kept(self) -> dict[str, Any]:
        """What the step "kept" wrote."""
        return json.loads((self.path("kept") / "kept.json").read_text(encoding="utf-8"))

    @cached_property
    def choice(self) -> dict[str, Any]:
        """What the step "choice" wrote."""
        return json.loads((self.path("choice") / "choice.json").read_text(encoding="utf-8"))

    @property
    def chosen_search(self) -> SearchSettings:
        """The settings of search that the step "choice" wrote."""
        return SearchSettings(**self.choice["settings"])

    @cached_property
    def excluded_documents(self) -> np.ndarray:
        """Documents that give no training pairs, since held-out or demonstration queries are made from them."""
        masked = [document for collection in self.collections.values() for document, _ in collection.masked]
        return np.unique(np.array(masked, dtype=np.int64))

    @cached_property
    def demonstration(self) -> tuple[QuerySet, Collection]:
        """The demonstration's queries, and what they are asked of."""
        return open_demonstration(self.path("demonstration"), self.corpus)

    @cached_property
    def collections(self) -> dict[str, Collection]:
        """Every collection made of the corpus by masking documents, by the name of the step that made it."""
        found = {"heldout": self.heldout.collection}
        return found | {"demonstration": self.demonstration[1]} if self.is_demonstration else found

    def engine(self, step: str, collection: str | None = None) -> SearchEngine:
        """Search with the model and vectors of "base" or "trained", over the corpus or one of the `collections`."""
        retriever = self.retriever(step)
        if collection is None:
            dense = DenseIndex(retriever.dimension)
            dense.add(np.arange(self.corpus.n_passages), self.vectors(step))
            lexical, documents = self.lexical, self.corpus.passage_documents
            contents: Callable[[np.ndarray], list[str]] = self.corpus.contents_at
        else:
            made = self.collections[collection]
            if collection not in self._lexical:
                scratch = self.folder / f".{collection}.scratch"
                self._lexical[collection] = made.lexical_index(self.recipe.lexical, scratch)
            dense = made.dense_index(self.vectors(step), open_array(self.path(step) / f"{collection}.npy"))
            lexical, documents, contents = self._lexical[collection], made.documents, made.contents_at
        late = LateInteraction(retriever, contents)
        sentences = (
            self._sentences(collection) if "sentences" in self.manifests and step == self.kept["model"] else None
        )
        return SearchEngine(lexical, dense, retriever, documents, QUICK_SEARCH, late, sentences)

    def _sentences(self, collection: str | None) -> SentenceIndex:
        """The sentences of the corpus or of one of the `collections`, as the model that was kept encoded them."""
        folder = self.path("sentences")
        if collection is None:
            return SentenceIndex.open(folder)
        vectors = [open_array(folder / name) for name in (VECTORS, f"{collection}-{VECTORS}")]
        first, masked = (open_array(folder / name) for name in (FIRST, f"{collection}-{FIRST}"))
        return self.collections[collection].sentence_index(vectors, first, masked)


def model_folder(folder: Path) -> Path:
    """Where the model of a build lies; a folder that is no build's holds its model itself."""
    return folder / "model" if (folder / "model").is_dir() else folder


def _digest_sources(paths: Sequence[Path], config: CorpusConfig) -> str:
    """One digest of all files under these paths as they are now."""
    files = source_files(paths, config)
    return digest_json([[file.id, digest_source(file)] for file in files if isinstance(file, SourceFile)])


def fingerprint(checkpoint: Checkpoint) -> str:
    """The digest of all that a checkpoint computes with: weights, architecture, tokenizer, use, head and parts."""
    digest = hashlib.sha256(digest_json(asdict(checkpoint.encoder.config)).encode())
    for module in (checkpoint.encoder, checkpoint.head):
        for name, tensor in sorted(module.state_dict().items() if module is not None else ()):
            digest.update(name.encode())
            digest.update(tensor.cpu().numpy().tobytes())
    for kind, path in sorted(checkpoint.parts.items()):
        digest.update(f"{kind} {digest_file(path)}".encode())
    use = [checkpoint.tokenizer.fingerprint, checkpoint.pooling, checkpoint.normalize, checkpoint.max_tokens]
    use += [checkpoint.cut_dimension] if checkpoint.cut_dimension else []
    use += [checkpoint.prompts] if checkpoint.prompts else []
    return digest_json([digest.hexdigest(), *use])
