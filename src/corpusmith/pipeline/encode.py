"""The vectors of texts by a build's model, in a file: what `corpusmith encode` does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from corpusmith.digests import digest_json
from corpusmith.model.arithmetic import best_device
from corpusmith.model.huggingface import load_checkpoint
from corpusmith.pipeline.workspace import fingerprint, model_folder
from corpusmith.retrieval.encoding import Encoding, make_retriever
from corpusmith.retrieval.vectors import encode_to_file

if TYPE_CHECKING:
    import numpy as np

    from corpusmith.corpus.lines import Lines
    from corpusmith.pipeline.chain import Watcher
    from corpusmith.retrieval.base import Progress


def encode_texts(folder: Path, texts: Lines, out: Path, watcher: Watcher) -> int:
    """Write float32 `[N, D]`, a vector of length 1 for each text, to the .npy file `out`.

    An interrupted call goes on where it was; memory does not grow with the number of texts.

    Args:
        folder: a build's folder, or one with a model.
        texts: N of them.
        out: where the vectors go.
        watcher: is shown the progress.

    Returns:
        D, the number of dimensions.

    Raises:
        CorpusmithError: there is no model, it cannot be loaded, or the file cannot be written.
    """
    checkpoint = load_checkpoint(model_folder(folder)).to(best_device())
    retriever = make_retriever(checkpoint, Encoding.open(folder / "index").method)

    def fill(start: int, stop: int, vectors: np.ndarray, progress: Progress) -> None:
        vectors[:] = retriever.encode(texts[start:stop], progress)

    key = digest_json([texts.digest(), fingerprint(checkpoint), retriever.backend.arithmetic])
    watcher.start("encode", f"{len(texts)} texts", reused=False)
    encode_to_file(out, len(texts), retriever.dimension, fill, watcher.advance, key)
    return retriever.dimension
