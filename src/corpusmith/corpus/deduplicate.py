"""Documents that say what another one says already.

Duplicates waste training, and worse, a copy of a passage is the best "negative" a miner finds for it. Equal texts are
found by a 128-bit hash. Near-equal ones by MinHash (Broder, 1997): of a document's set of five-word sequences
(shingles) only the minima under 128 hash functions are kept; the share of equal minima in two such signatures
estimates the Jaccard similarity of the sets, with a standard error of at most 4.4%, 3.2% at a similarity of 0.85.
Signatures that agree in a whole band of positions are candidates (locality-sensitive hashing; Leskovec, Rajaraman and
Ullman, "Mining of Massive Datasets", section 3.4), and each candidate is verified on the full signatures.

Documents are judged in the order in which they come, each against those kept before it, and never against one that is
itself a near-duplicate: chains of small changes do not grow without end. The result depends on nothing but the texts
and their order. What stays in memory is a signature of 512 bytes, the hashes of its bands and of the text, the id, and
no text: some 1.6 kB a document (measured). NumPy hashes all shingles with all functions at once, so that 20,000
abstracts take seconds.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from operator import itemgetter

import numpy as np
import xxhash

from corpusmith.corpus.clean import IDEOGRAPHS, SYMBOLS, UNSPACED

SHINGLE_WORDS = 5
PERMUTATIONS = 128
RECALL = 0.99
"""Chance that a pair exactly at the threshold becomes a candidate."""

_TERM = re.compile(rf"[{IDEOGRAPHS}{UNSPACED}]|[^\s{SYMBOLS}{IDEOGRAPHS}{UNSPACED}]+")
_BLOCK = 1024
"""Shingles hashed at once: their intermediate values (1 MB) stay in the processor's cache."""
_RECENT = 2**16
"""Band hashes kept in a dictionary before they are merged into the sorted array."""


@dataclass(frozen=True, slots=True)
class Duplicate:
    """The earlier document that says the same: its id, and how similar it is (1 and `exact`: the same text)."""

    of: str
    similarity: float
    exact: bool


class Deduplicator:
    """Remembers the documents it has seen, and recognises what it has seen before.

    `threshold` is the Jaccard similarity from which on two documents are near-duplicates, `seed` draws the hash
    functions.
    """

    def __init__(self, threshold: float, seed: int = 0):
        rng = np.random.default_rng(seed)
        self.threshold = threshold
        self.bands, self.rows = bands_and_rows(threshold)
        self._multipliers = rng.integers(2**63, size=PERMUTATIONS, dtype=np.uint64) * 2 + 1
        self._increments = rng.integers(2**64, size=PERMUTATIONS, dtype=np.uint64)
        self._shingle_weights = rng.integers(2**63, size=SHINGLE_WORDS, dtype=np.uint64) * 2 + 1
        self._band_weights = rng.integers(2**63, size=(self.bands, self.rows), dtype=np.uint64) * 2 + 1
        self._ids: list[str] = []
        self._signatures = np.empty((1024, PERMUTATIONS), dtype=np.uint32)
        self._by_text: dict[bytes, int] = {}
        self._by_band = _BandIndex()

    def add(self, id: str, text: str) -> Duplicate | None:
        """The earlier document that `text` duplicates; if there is none, remember `text` under `id`.

        Upper and lower case do not distinguish texts; for near-duplicates punctuation does not either.
        """
        folded = text.casefold()
        digest = xxhash.xxh3_128_digest(folded.encode())
        if (number := self._by_text.get(digest)) is not None:
            return Duplicate(self._ids[number], 1.0, exact=True)
        signature = self._signature(folded)
        bands = self._band_hashes(signature)
        if near := self._most_similar(signature, self._by_band.find(bands)):
            return near
        self._remember(id, digest, signature, bands)
        return None

    def _remember(self, id: str, digest: bytes, signature: np.ndarray, bands: np.ndarray) -> None:
        number = len(self._ids)
        if number == len(self._signatures):
            self._signatures = np.concatenate([self._signatures, np.empty_like(self._signatures)])
        self._ids.append(id)
        self._signatures[number] = signature
        self._by_text[digest] = number
        self._by_band.add(bands, number)

    def _signature(self, folded: str) -> np.ndarray:
        """The minimum of each hash function over the shingles, uint32 [PERMUTATIONS]."""
        shingles = self._shingles(folded)
        minima = np.full(PERMUTATIONS, 2**32 - 1, dtype=np.uint64)
        for start in range(0, len(shingles), _BLOCK):
            hashed = shingles[start : start + _BLOCK, None] * self._multipliers
            hashed += self._increments
            np.minimum(minima, (hashed >> np.uint64(32)).min(axis=0), out=minima)
        return minima.astype(np.uint32)

    def _shingles(self, folded: str) -> np.ndarray:
        """A 64-bit hash of each five consecutive words; texts of fewer words are one shingle. uint64 [words - 4]."""
        words = np.fromiter(map(_term_hash, map(itemgetter(0), _TERM.finditer(folded))), dtype=np.uint64)
        if len(words) < SHINGLE_WORDS:
            words = np.pad(words, (0, SHINGLE_WORDS - len(words)))
        count = len(words) - SHINGLE_WORDS + 1
        shingles = np.zeros(count, dtype=np.uint64)
        for offset, weight in enumerate(self._shingle_weights):
            shingles += words[offset : offset + count] * weight
        return _mixed(shingles)

    def _band_hashes(self, signature: np.ndarray) -> np.ndarray:
        """A 64-bit hash of each band of the signature, different in each band. uint64 [bands]."""
        banded = signature[: self.bands * self.rows].reshape(self.bands, self.rows).astype(np.uint64)
        return _mixed((banded * self._band_weights).sum(axis=1))

    def _most_similar(self, signature: np.ndarray, candidates: np.ndarray) -> Duplicate | None:
        """The candidate most like the signature if it is like enough, the earliest of several."""
        if not len(candidates):
            return None
        agreement = np.count_nonzero(self._signatures[candidates] == signature, axis=1) / PERMUTATIONS
        best = int(agreement.argmax())
        if agreement[best] < self.threshold:
            return None
        return Duplicate(self._ids[candidates[best]], float(agreement[best]), exact=False)


def bands_and_rows(threshold: float) -> tuple[int, int]:
    """Bands and positions a band, so that a pair at the threshold is found with a chance of at least `RECALL`.

    A pair of similarity s agrees in some of b bands of r positions with the chance 1 - (1 - s^r)^b. The longest bands
    that allow it give the fewest false candidates, the fewest bands of that length the least memory.
    """
    if threshold >= 1:
        return 1, PERMUTATIONS
    for rows in range(PERMUTATIONS, 1, -1):
        bands = math.ceil(math.log(1 - RECALL) / math.log1p(-(threshold**rows)))
        if bands * rows <= PERMUTATIONS:
            return bands, rows
    return PERMUTATIONS, 1


class _BandIndex:
    """Which documents share a band: pairs of band hash and document number.

    Python's dictionaries take some 200 bytes a pair. So only the latest pairs are in one; the others lie in two arrays
    sorted by hash, at 12 bytes a pair. They are merged when the dictionary holds an eighth of all.
    """

    def __init__(self) -> None:
        self._hashes = np.empty(0, dtype=np.uint64)
        self._numbers = np.empty(0, dtype=np.uint32)
        self._recent: dict[int, list[int]] = {}
        self._recent_pairs = 0

    def find(self, hashes: np.ndarray) -> np.ndarray:
        """The numbers of all documents that share one of the hashes, in ascending order."""
        starts = np.searchsorted(self._hashes, hashes, side="left")
        ends = np.searchsorted(self._hashes, hashes, side="right")
        found = [self._numbers[start:end] for start, end in zip(starts, ends, strict=True) if start < end]
        recent = [self._recent[value] for value in hashes.tolist() if value in self._recent]
        found.append(np.fromiter(chain.from_iterable(recent), dtype=np.uint32))
        return np.unique(np.concatenate(found))

    def add(self, hashes: np.ndarray, number: int) -> None:
        """Note the hashes of one document."""
        for value in hashes.tolist():
            self._recent.setdefault(value, []).append(number)
        self._recent_pairs += len(hashes)
        if self._recent_pairs > max(_RECENT, len(self._hashes) // 8):
            self._merge()

    def _merge(self) -> None:
        sizes = [len(numbers) for numbers in self._recent.values()]
        recent_hashes = np.repeat(np.fromiter(self._recent, dtype=np.uint64, count=len(self._recent)), sizes)
        recent_numbers = np.fromiter(chain.from_iterable(self._recent.values()), dtype=np.uint32, count=sum(sizes))
        hashes = np.concatenate([self._hashes, recent_hashes])
        order = np.argsort(hashes, kind="stable")
        self._hashes = hashes[order]
        self._numbers = np.concatenate([self._numbers, recent_numbers])[order]
        self._recent = {}
        self._recent_pairs = 0


@lru_cache(maxsize=2**16)
def _term_hash(term: str) -> int:
    return xxhash.xxh3_64_intdigest(term.encode())


def _mixed(values: np.ndarray) -> np.ndarray:
    """Spread every input bit over the whole value (the finaliser of SplitMix64; Steele, Lea and Flood, 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
