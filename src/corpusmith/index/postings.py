"""Which term occurs in which passage how often, and what that is worth: the arrays under the lexical index.

Term-major compressed rows: the passages of term t are `columns[indptr[t]:indptr[t + 1]]`, ascending, beside how
often t occurs there (`frequencies`, needed when passages are added) and its BM25 weight (`weights`, all that
searching reads).

A term is known by its 64-bit hash and numbered by the order of the hashes: looking one up is a search in a mapped
array, and no word is held in memory, neither while an index is made nor while it is searched. Two words of one hash
would be taken for the same; among ten million words the chance of any such two is 3 in a million.

An index is made of parts, the counts of some thousand passages each, which are merged a range of terms at a time.
Parts and result may lie on the disk, so that memory holds one part and one range, whatever the number of passages.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from corpusmith import environment
from corpusmith.arrays import open_array, save_array
from corpusmith.disk import reserve
from corpusmith.errors import ArtefactError

if TYPE_CHECKING:
    from scipy.sparse import csr_array

POSTINGS_A_BLOCK = 2**19
TERMS_AT_ONCE = 2**18
FREQUENCY_LIMIT = 2**16 - 1
"""Occurrences of a term in one passage are counted up to here; BM25 is flat long before."""


class Postings(NamedTuple):
    """`terms[V]` uint64, ascending, `indptr[V+1]` int64, `columns[P]` int32, `frequencies[P]` uint16, `weights[P]`
    float32."""

    terms: np.ndarray
    indptr: np.ndarray
    columns: np.ndarray
    frequencies: np.ndarray
    weights: np.ndarray

    @classmethod
    def weigh(cls, parts: Sequence[Part], k1: float, b: float, spool: Path | None = None) -> Postings:
        """Postings with BM25 weights (Lucene's variant) of passages in the order of the parts.

        The three largest arrays are files in the folder `spool` if one is given.
        """
        terms, indptr = counted_terms(parts, spool)
        lengths = np.concatenate([np.zeros(0, dtype=np.int32), *(part.lengths for part in parts)])
        mean_length = max(lengths.mean(), 1.0) if len(lengths) else 1.0
        slowness = (k1 * (1 - b + b * lengths / mean_length)).astype(np.float32)
        types = {"columns": np.int32, "frequencies": np.uint16, "weights": np.float32}
        columns, frequencies, weights = (_allocate(spool, name, int(indptr[-1]), types[name]) for name in types)
        sweep = _Sweep(parts)
        for first, stop in _term_ranges(indptr):
            environment.make_room()
            block = slice(int(indptr[first]), int(indptr[stop]))
            numbers, columns[block], occurrences = _merged(sweep, terms, first, stop)
            frequencies[block] = occurrences
            counts = occurrences.astype(np.float32)
            passages = np.diff(indptr[first : stop + 1])
            rarities = np.log1p((len(lengths) - passages + 0.5) / (passages + 0.5)).astype(np.float32)
            weights[block] = rarities[numbers - first] * (counts / (counts + slowness[columns[block]]))
        return cls(terms, indptr, columns, frequencies, weights)

    def matrix(self, values: np.ndarray, n_passages: int) -> csr_array:
        """`[V, N]` terms x passages holding `values[P]`: weights to search, frequencies to count on.

        SciPy wants one type for all places in a product, and would copy the columns into the widest; so `indptr` takes
        theirs, where it can (below 2^31 postings).
        """
        from scipy.sparse import csr_array

        small = self.indptr[-1] <= np.iinfo(self.columns.dtype).max
        indptr = self.indptr.astype(self.columns.dtype) if small else self.indptr
        return csr_array((values, self.columns, indptr), shape=(len(indptr) - 1, n_passages))

    def save(self, folder: Path) -> None:
        """Write the arrays into `folder`."""
        for name, values in self._asdict().items():
            save_array(folder / f"{name}.npy", values)

    @classmethod
    def open(cls, folder: Path) -> Postings:
        """Map the arrays (ArtefactError if one is missing or they do not fit together)."""
        postings = cls(*(open_array(folder / f"{name}.npy", part_of="index") for name in cls._fields))
        sizes = {int(postings.indptr[-1]), *(len(values) for values in postings[2:])}
        if len(postings.indptr) != len(postings.terms) + 1 or len(sizes) != 1:
            raise ArtefactError(f"the arrays of the index in {folder} do not fit together; build it again.")
        return postings


class Part(NamedTuple):
    """Counts of n passages, term-major: the passages of `terms[i]` (uint64, ascending) are
    `rows[starts[i]:starts[i + 1]]` (from 0, ascending) beside their `frequencies`; `lengths[n]` are the passages' own,
    in terms."""

    lengths: np.ndarray
    terms: np.ndarray
    starts: np.ndarray
    rows: np.ndarray
    frequencies: np.ndarray

    @classmethod
    def of(cls, counts: csr_array, terms: np.ndarray) -> Part:
        """The part of a matrix `[n, V]`, passages x terms, whose columns are the hashes `terms[V]`, ascending."""
        order = np.argsort(counts.indices, kind="stable")
        rows = np.repeat(np.arange(counts.shape[0], dtype=np.int32), np.diff(counts.indptr))
        numbers, starts = np.unique(counts.indices[order], return_index=True)
        lengths = np.asarray(counts.sum(axis=1)).astype(np.int32)
        frequencies = counts.data[order].astype(np.uint16)
        return cls(lengths, terms[numbers], np.append(starts, len(order)), rows[order], frequencies)

    def matrix(self, terms: np.ndarray) -> csr_array:
        """`[n, V]`, what the part was made of, with the columns `terms[V]`."""
        from scipy.sparse import csr_array

        columns = np.repeat(np.searchsorted(terms, self.terms), np.diff(self.starts))
        counts = self.frequencies.astype(np.int32)
        return csr_array((counts, (self.rows, columns)), shape=(len(self.lengths), len(terms)))

    def moved(self, folder: Path) -> Part:
        """The part with its arrays in files of a new folder, mapped."""
        folder.mkdir()
        for name, values in self._asdict().items():
            save_array(folder / f"{name}.npy", values)
        return Part(*(open_array(folder / f"{name}.npy", "r", ahead=False) for name in self._fields))


def _allocate(spool: Path | None, name: str, size: int, dtype: type) -> np.ndarray:
    """An array to be filled: in memory, or a mapped file whose space is claimed beforehand."""
    if spool is None or size == 0:
        return np.empty(size, dtype=dtype)
    path = spool / f"{name}.npy"
    array = np.lib.format.open_memmap(path, "w+", dtype, (size,))
    reserve(path)
    return array


def _term_ranges(indptr: np.ndarray) -> Iterator[tuple[int, int]]:
    """Ranges of terms with some `POSTINGS_A_BLOCK` postings each, at least one term."""
    first, n_terms = 0, len(indptr) - 1
    while first < n_terms:
        stop = int(np.searchsorted(indptr, indptr[first] + POSTINGS_A_BLOCK, side="right")) - 1
        yield first, (first := max(first + 1, min(stop, n_terms)))


def counted_terms(parts: Sequence[Part], spool: Path | None = None) -> tuple[np.ndarray, np.ndarray]:
    """`uint64[V]`, every term of the parts, ascending, and `int64[V+1]`, where the passages of each begin when those
    of all terms are laid end to end. Both are files in the folder `spool` if one is given.

    A range of hashes is put together at a time: they are spread evenly.
    """
    terms, ends = _Growing(spool, "terms", np.uint64), _Growing(spool, "ends", np.int64)
    ends.append(np.zeros(1, dtype=np.int64))
    ranges = 1 + sum(len(part.terms) for part in parts) // TERMS_AT_ONCE
    sweep, last = _Sweep(parts), 0
    for number in range(1, ranges + 1):
        found, counts = [np.zeros(0, dtype=np.uint64)], [np.zeros(0, dtype=np.int64)]
        for part, start, stop in sweep.until(number * 2**64 // ranges - 1):
            found.append(part.terms[start:stop])
            counts.append(np.diff(part.starts[start : stop + 1]))
        distinct, places = np.unique(np.concatenate(found), return_inverse=True)
        passages = np.zeros(len(distinct), dtype=np.int64)
        np.add.at(passages, places, np.concatenate(counts))
        terms.append(distinct)
        ends.append(last + np.cumsum(passages))
        last += int(passages.sum())
    return terms.whole(), ends.whole()


class _Sweep:
    """Goes through all parts at once, from the lowest term to the highest. Each part is read from front to back, so
    that pages of mapped files are read once, however many parts there are and however little memory."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = parts
        self._places = [0] * len(parts)

    def until(self, last: int) -> Iterator[tuple[Part, int, int]]:
        """Each part with the beginning and end of its next terms, those up to `last`."""
        for number, part in enumerate(self._parts):
            start, step = self._places[number], 64
            while start + step < len(part.terms) and part.terms[start + step] <= last:
                step *= 2
            near = part.terms[start : start + step]
            self._places[number] = start + int(np.searchsorted(near, np.uint64(last), side="right"))
            yield part, start, self._places[number]


class _Growing:
    """An array that grows at its end, in memory or in a file."""

    def __init__(self, spool: Path | None, name: str, dtype: type) -> None:
        self._path, self._dtype = (spool / name if spool else None), dtype
        self._parts: list[np.ndarray] = []

    def append(self, values: np.ndarray) -> None:
        """Add values at the end."""
        if self._path is None:
            self._parts.append(values)
            return
        with self._path.open("ab") as file:
            file.write(values.tobytes())

    def whole(self) -> np.ndarray:
        """The array; a file is mapped."""
        if self._path is None:
            return np.concatenate(self._parts)
        if self._path.stat().st_size == 0:
            return np.zeros(0, dtype=self._dtype)
        return np.asarray(np.memmap(self._path, dtype=self._dtype, mode="r"))


def _merged(sweep: _Sweep, terms: np.ndarray, first: int, stop: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Term, passage and frequency of the postings of the terms from `first` to `stop`, sorted by term and passage."""
    wanted = terms[first:stop]
    numbers, rows, frequencies = [], [], []
    first_row = 0
    for part, low, high in sweep.until(int(wanted[-1])):
        inside = slice(int(part.starts[low]), int(part.starts[high]))
        found = first + np.searchsorted(wanted, part.terms[low:high])
        numbers.append(np.repeat(found, np.diff(part.starts[low : high + 1])))
        rows.append(part.rows[inside] + np.int32(first_row))
        frequencies.append(part.frequencies[inside])
        first_row += len(part.lengths)
    order = np.argsort(together := np.concatenate(numbers), kind="stable")
    return together[order], np.concatenate(rows)[order], np.concatenate(frequencies)[order]


def count(documents: list[list[int]], columns: np.ndarray, n_terms: int) -> csr_array:
    """`[N, V]` occurrences, from each passage's term numbers in any order, repetitions included; `columns` says
    where each number stands."""
    from scipy.sparse import csr_array

    lengths = np.fromiter(map(len, documents), dtype=np.int64, count=len(documents))
    numbers = np.fromiter((term for document in documents for term in document), dtype=np.int64, count=lengths.sum())
    terms = columns[numbers].astype(np.int32)
    indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)  # as wide as the columns: see `Postings.matrix`
    counts = csr_array((np.ones(len(terms), dtype=np.int32), terms, indptr), shape=(len(documents), n_terms))
    counts.sum_duplicates()
    np.minimum(counts.data, FREQUENCY_LIMIT, out=counts.data)
    return counts
