"""The steps before training: documents to passages, indexes, held-out queries and training pairs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict

import numpy as np

from corpusmith.artefact import Draft, link_folder
from corpusmith.corpus.build import build_corpus
from corpusmith.corpus.read import read
from corpusmith.corpus.shards import TokenShards, write_shards
from corpusmith.errors import CorpusError, RecipeError
from corpusmith.evaluation.demonstration import make_demonstration as write_demonstration
from corpusmith.evaluation.heldout import make_heldout as draw_heldout
from corpusmith.index.lexical import LexicalIndex
from corpusmith.model.checkpoint import Checkpoint
from corpusmith.pipeline.reach import advice, share_beyond
from corpusmith.pipeline.workspace import QUICK_SEARCH, Workspace
from corpusmith.retrieval.base import Progress
from corpusmith.retrieval.dense import DenseRetriever
from corpusmith.retrieval.encoding import choose_encoding, make_retriever
from corpusmith.retrieval.pairs import labelled_pairs, mine_candidates, save_pairs
from corpusmith.retrieval.pairs import make_pairs as pairs_from_corpus
from corpusmith.retrieval.vectors import Fill, encode_to_file
from corpusmith.vocabulary.tokenizer import SPECIAL_TOKENS, Tokenizer

SAY_EVERY = 500


def make_corpus(work: Workspace, draft: Draft) -> None:
    """Documents to passages."""
    documents = read(work.paths, work.recipe.corpus)

    def advance(note: str, done: int) -> None:
        work.watcher.advance(done, None, note)

    judged = work.query_folder is not None
    summary = build_corpus(documents, work.recipe.corpus, draft.folder, advance, judged=judged)
    work.watcher.say(f"  {summary}")
    draft.facts.update(asdict(summary))
    if not work.is_demonstration and work.digest_files() != dict(work.input_digests)["files"]:
        raise CorpusError("a file changed while the documents were being read; run the same command again.")


def make_tokens(work: Workspace, draft: Draft) -> None:
    """Passages to token shards."""
    _write_tokens(work, work.base.tokenizer, draft, aloud=not work.recipe.start.changes_vocabulary)


def make_vocabulary_tokens(work: Workspace, draft: Draft) -> None:
    """Passages to token shards in the vocabulary that is trained."""
    _write_tokens(work, work.training_tokenizer, draft, aloud=True)


def _write_tokens(work: Workspace, tokenizer: Tokenizer, draft: Draft, *, aloud: bool) -> None:
    """The shards, and how much of the passages the model will not read; said `aloud` where it is too much."""
    shards = write_shards(_contents(work), tokenizer, draft.folder)
    draft.cost["tokens"] = int(shards.lengths.sum())
    draft.facts["beyond"] = share_beyond(shards.lengths, work.base.max_tokens - SPECIAL_TOKENS)
    if note := advice(shards.lengths, work.base.max_tokens, work.recipe.corpus):
        draft.facts["note"] = note
        if aloud:
            work.watcher.say(f"  {note}")


def _contents(work: Workspace) -> Iterator[str]:
    """Every passage's content, the watcher told now and then."""
    for done, passage in enumerate(work.corpus.passages(), 1):
        if done % SAY_EVERY == 0:
            work.watcher.advance(done, work.corpus.n_passages)
        yield passage.content


def make_heldout(work: Workspace, draft: Draft) -> None:
    """Queries from the corpus."""
    heldout = draw_heldout(work.corpus, work.recipe.heldout, work.recipe.seed, draft.scratch)
    heldout.save(draft.folder)
    draft.facts["queries"] = len(heldout.queries)


def make_demonstration(work: Workspace, draft: Draft) -> None:
    """Judged queries over the installed documentation."""
    draft.facts["queries"] = write_demonstration(work.corpus, work.recipe.corpus, work.recipe.seed, draft.folder)


def make_lexical(work: Workspace, draft: Draft) -> None:
    """BM25 over all passages."""
    index = LexicalIndex(work.recipe.lexical, spool=draft.scratch)
    index.add(np.arange(work.corpus.n_passages), _contents(work))
    index.save(draft.folder)


def make_base(work: Workspace, draft: Draft) -> None:
    """The base model's vectors."""
    _encode(work, work.base, work.shards, draft)


def make_trained(work: Workspace, draft: Draft) -> None:
    """The trained model's vectors; the base's own where training never beat it or was skipped, since another vocabulary
    or shape is only a beginning."""
    stages = [manifest.facts for name, manifest in work.manifests.items() if name.startswith("stage-")]
    is_untrained = all(facts.get("kept_step", 0) == 0 for facts in stages)
    draft.facts["is_base"] = is_untrained and not (work.start_steps and any(facts.get("steps") for facts in stages))
    if draft.facts["is_base"]:
        link_folder(work.path("base"), draft.folder)
    else:
        _encode(work, work.trained_checkpoint(), work.training_shards, draft)


def _encode(work: Workspace, checkpoint: Checkpoint, shards: TokenShards, draft: Draft) -> None:
    encoding = choose_encoding(work.recipe.encoding, checkpoint, shards, work.recipe.seed)
    encoding.save(draft.folder)
    if encoding.reason:
        work.watcher.say(f"  {encoding.reason}")
    retriever = make_retriever(checkpoint, encoding.method)

    def encode(start: int, stop: int, out: np.ndarray, progress: Progress) -> None:
        retriever.encode_shards(shards, np.arange(start, stop), out, progress)

    def write(name: str, total: int, fill: Fill) -> None:
        path, key = draft.folder / name, retriever.backend.arithmetic
        encode_to_file(path, total, retriever.dimension, fill, work.watcher.advance, key, draft.scratch)

    write("vectors.npy", len(shards), encode)
    for name, collection in work.collections.items():
        write(f"{name}.npy", len(collection.masked), _encoding(retriever, [text for _, text in collection.masked]))
    tokens = np.minimum(shards.lengths + 2, checkpoint.max_tokens)
    draft.cost["tokens"] = int(tokens.sum())
    draft.cost["flops"] = float(checkpoint.encoder.flops(tokens))


def _encoding(retriever: DenseRetriever, texts: Sequence[str]) -> Fill:
    """Encodes documents' texts for `encode_to_file`."""

    def fill(start: int, stop: int, out: np.ndarray, progress: Progress) -> None:
        out[:] = retriever.encode_documents(texts[start:stop], progress)

    return fill


def make_pairs(work: Workspace, draft: Draft) -> None:
    """Pairs with candidates and a teacher's scores; none where the corpus gives none."""
    options, seed = work.recipe.pairs, work.recipe.seed
    engine = work.engine("base")
    engine.settings = QUICK_SEARCH.model_copy(update={"candidates": 2 * options.depth})

    def rank(queries: Sequence[str], k: int) -> tuple[np.ndarray, np.ndarray]:
        found = engine.rank(queries, k)
        return found.passages, found.scores

    if options.source == "labels":
        labels = work.queries("train")
        if labels is None:
            raise RecipeError(
                "pairs.source = 'labels' needs a BEIR folder with qrels/train.tsv as the one path; "
                "choose the default preset for documents without judgements."
            )
        pairs = labelled_pairs(labels.queries, labels.qrels, work.corpus, rank)
    else:
        pairs = pairs_from_corpus(work.corpus, options, work.excluded_documents, seed)
    draft.facts["pairs"] = len(pairs)
    if not pairs:
        return
    rows, scores = mine_candidates(
        pairs, rank, work.corpus, options, seed, work.excluded_documents, work.watcher.advance
    )
    save_pairs(pairs, rows, scores, work.training_tokenizer, draft.folder)
