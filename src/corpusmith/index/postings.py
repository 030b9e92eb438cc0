"""Which term occurs in which passage how often, and what that is worth: the arrays under the lexical index.

Term-major compressed rows: the passages of term t are `columns[indptr[t]:indptr[t + 1]]`, ascending, beside how
often t occurs there (`frequencies`, needed when passages are added) and its BM25 weight (`weights`, all that
searching reads).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from corpusmith.arrays import open_array, save_array
from corpusmith.errors import ArtefactError

if TYPE_CHECKING:
    from scipy.sparse import csr_array

POSTINGS_A_BLOCK = 2**22
FREQUENCY_LIMIT = 2**16 - 1
"""Occurrences of a term in one passage are counted up to here; BM25 is flat long before."""


class Postings(NamedTuple):
    """`indptr[V+1]` int64, `columns[P]` int32, `frequencies[P]` uint16, `weights[P]` float32."""

    indptr: np.ndarray
    columns: np.ndarray
    frequencies: np.ndarray
    weights: np.ndarray

    @classmethod
    def weigh(cls, parts: list[csr_array], n_terms: int, k1: float, b: float) -> Postings:
        """Postings with BM25 weights (Lucene's variant) of passages in the order of the parts.

        Each part is `[n, V]`, counts passages x terms, V at most `n_terms`. Parts are taken out of the list as they
        are laid into place, so that of no posting there are two copies for long: memory peaks at 14 bytes a posting.
        """
        n_passages = sum(part.shape[0] for part in parts)
        lengths = np.concatenate([np.asarray(part.sum(axis=1), dtype=np.float64) for part in parts] or [np.zeros(0)])
        document_frequencies = np.zeros(n_terms, dtype=np.int64)
        for part in parts:
            terms, counts = np.unique(part.indices, return_counts=True)
            document_frequencies[terms] += counts
        indptr = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(document_frequencies)])
        columns, frequencies = _lay_out(parts, indptr)
        rarities = np.log1p((n_passages - document_frequencies + 0.5) / (document_frequencies + 0.5))
        mean_length = max(lengths.mean(), 1.0) if n_passages else 1.0
        slowness = (k1 * (1 - b + b * lengths / mean_length)).astype(np.float32)
        weights = np.repeat(rarities.astype(np.float32), document_frequencies)
        for start in range(0, len(weights), POSTINGS_A_BLOCK):
            block = slice(start, start + POSTINGS_A_BLOCK)
            occurrences = frequencies[block].astype(np.float32)
            weights[block] *= occurrences / (occurrences + slowness[columns[block]])
        return cls(indptr, columns, frequencies, weights)

    def matrix(self, values: np.ndarray, n_passages: int) -> csr_array:
        """`[V, N]` terms x passages holding `values[P]`: weights to search, frequencies to count on."""
        from scipy.sparse import csr_array

        return csr_array((values, self.columns, self.indptr), shape=(len(self.indptr) - 1, n_passages))

    def save(self, folder: Path) -> None:
        """Write the four arrays into `folder`."""
        for name, values in self._asdict().items():
            save_array(folder / f"{name}.npy", values)

    @classmethod
    def open(cls, folder: Path, n_terms: int) -> Postings:
        """Map the four arrays (ArtefactError if one is missing or they do not fit together)."""
        postings = cls(*(open_array(folder / f"{name}.npy", part_of="index") for name in cls._fields))
        sizes = {int(postings.indptr[-1]), *(len(values) for values in postings[1:])}
        if len(postings.indptr) != n_terms + 1 or len(sizes) != 1:
            raise ArtefactError(f"the arrays of the index in {folder} do not fit together; build it again.")
        return postings


def _lay_out(parts: list[csr_array], indptr: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Columns and frequencies, term-major; empties `parts`. Work on a part depends on its own postings alone, not on
    how many terms there are."""
    columns = np.empty(indptr[-1], dtype=np.int32)
    frequencies = np.empty(indptr[-1], dtype=np.uint16)
    ends = indptr[:-1].copy()
    first_row = 0
    while parts:
        part = parts.pop(0)
        order = np.argsort(part.indices, kind="stable")
        rows = np.repeat(np.arange(first_row, first_row + part.shape[0], dtype=np.int32), np.diff(part.indptr))
        terms, starts, counts = np.unique(part.indices[order], return_index=True, return_counts=True)
        places = np.arange(len(order)) + np.repeat(ends[terms] - starts, counts)
        columns[places] = rows[order]
        frequencies[places] = part.data[order]
        ends[terms] += counts
        first_row += part.shape[0]
    return columns, frequencies


def count(documents: list[list[int]], n_terms: int) -> csr_array:
    """`[N, V]` occurrences, from each passage's term numbers in any order, repetitions included."""
    from scipy.sparse import csr_array

    lengths = np.fromiter(map(len, documents), dtype=np.int64, count=len(documents))
    terms = np.fromiter((term for document in documents for term in document), dtype=np.int32, count=lengths.sum())
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    counts = csr_array((np.ones(len(terms), dtype=np.int32), terms, indptr), shape=(len(documents), n_terms))
    counts.sum_duplicates()
    np.minimum(counts.data, FREQUENCY_LIMIT, out=counts.data)
    return counts
