"""Documents that say what another one says already.

Duplicates waste training, and worse, a copy of a passage is the best "negative" a miner finds for it. Equal texts are
found by a 128-bit hash. Near-equal ones by MinHash (Broder, 1997): of a document's set of five-word sequences
(shingles) only the minima under 128 hash functions are kept; the share of equal minima in two such signatures
estimates the Jaccard similarity of the sets, with a standard error of at most 4.4%, 3.2% at a similarity of 0.85.
Signatures that agree in a whole band of positions are candidates (locality-sensitive hashing; Leskovec, Rajaraman and
Ullman, "Mining of Massive Datasets", section 3.4), and each candidate is verified on the full signatures.

Documents are judged in the order in which they come, each against those kept before it, and never against one that is
itself a near-duplicate: chains of small changes do not grow without end. The result depends on nothing but the texts
and their order. What is remembered of a document (a signature of 512 bytes, the hashes of its bands and of the text,
its id) lies on the disk until the deduplicator is closed, some 1 kB a document; memory hardly grows. NumPy hashes all
shingles with all functions at once, so that 20,000 abstracts take seconds.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import xxhash

from corpusmith.corpus.clean import IDEOGRAPHS, SYMBOLS, UNSPACED
from corpusmith.corpus.spill import HashIndex, Spool, Strings

SHINGLE_WORDS = 5
PERMUTATIONS = 128
RECALL = 0.99
"""Chance that a pair exactly at the threshold becomes a candidate."""

_TERM = re.compile(rf"[{IDEOGRAPHS}{UNSPACED}]|[^\s{SYMBOLS}{IDEOGRAPHS}{UNSPACED}]+")
_BLOCK = 1024
"""Shingles hashed at once: their intermediate values (1 MB) stay in the processor's cache."""
_DIGEST_BYTES = 16
_RECORD_BYTES = _DIGEST_BYTES + 4 * PERMUTATIONS
"""A document's record on the disk: the digest of its text, then its signature."""


@dataclass(frozen=True, slots=True)
class Duplicate:
    """The earlier document that says the same: its id, and how similar it is (1 and `exact`: the same text)."""

    of: str
    similarity: float
    exact: bool

    @property
    def reason(self) -> str:
        """Why the later document is left out."""
        if self.exact:
            return f"exact duplicate: the same text as {self.of!r}"
        return f"near-duplicate: about {self.similarity:.0%} of its word sequences are those of {self.of!r}"


class Deduplicator:
    """Remembers the documents it has seen, and recognises what it has seen before.

    `threshold` is the Jaccard similarity from which on two documents are near-duplicates, `seed` draws the hash
    functions. What it remembers lies in a temporary folder in `folder` (the system's, if None), until `close`.
    """

    def __init__(self, threshold: float, seed: int = 0, folder: Path | None = None):
        rng = np.random.default_rng(seed)
        self.threshold = threshold
        self.bands, self.rows = bands_and_rows(threshold)
        self._multipliers = rng.integers(2**63, size=PERMUTATIONS, dtype=np.uint64) * 2 + 1
        self._increments = rng.integers(2**64, size=PERMUTATIONS, dtype=np.uint64)
        self._shingle_weights = rng.integers(2**63, size=SHINGLE_WORDS, dtype=np.uint64) * 2 + 1
        self._band_weights = rng.integers(2**63, size=(self.bands, self.rows), dtype=np.uint64) * 2 + 1
        self._folder = TemporaryDirectory(prefix=".deduplication-", dir=folder)
        place = Path(self._folder.name)
        for name in ("texts", "bands"):
            (place / name).mkdir()
        self._ids = Strings(place / "ids")
        self._records = Spool(place / "records")
        self._by_text = HashIndex(place / "texts")
        self._by_band = HashIndex(place / "bands")

    def close(self) -> None:
        """Forget everything, and remove it from the disk."""
        _term_hash.cache_clear()
        self._ids.close()
        self._records.close()
        self._folder.cleanup()

    def add(self, id: str, text: str) -> Duplicate | None:
        """The earlier document that `text` duplicates; if there is none, remember `text` under `id`.

        Upper and lower case do not distinguish texts; for near-duplicates punctuation does not either.
        """
        folded = text.casefold()
        digest = xxhash.xxh3_128_digest(folded.encode())
        start = np.frombuffer(digest, dtype=np.uint64, count=1)
        for number in self._by_text.find(start):
            if self._records.read(int(number) * _RECORD_BYTES, _DIGEST_BYTES) == digest:
                return Duplicate(self._ids[int(number)], 1.0, exact=True)
        signature = self._signature(folded)
        bands = self._band_hashes(signature)
        if near := self._most_similar(signature, self._by_band.find(bands)):
            return near
        number = len(self._ids)
        self._ids.append(id)
        self._records.append(digest + signature.tobytes())
        self._by_text.add(start, number)
        self._by_band.add(bands, number)
        return None

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
        words = np.fromiter(map(_term_hash, _TERM.findall(folded)), dtype=np.uint64)
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
        size = 4 * PERMUTATIONS
        found = [self._records.read(int(number) * _RECORD_BYTES + _DIGEST_BYTES, size) for number in candidates]
        signatures = np.frombuffer(b"".join(found), dtype=np.uint32).reshape(-1, PERMUTATIONS)
        agreement = np.count_nonzero(signatures == signature, axis=1) / PERMUTATIONS
        best = int(agreement.argmax())
        if agreement[best] < self.threshold:
            return None
        return Duplicate(self._ids[int(candidates[best])], float(agreement[best]), exact=False)


def bands_and_rows(threshold: float) -> tuple[int, int]:
    """Bands and positions a band, so that a pair at the threshold is found with a chance of at least `RECALL`.

    A pair of similarity s agrees in some of b bands of r positions with the chance 1 - (1 - s^r)^b. The longest bands
    that allow it give the fewest false candidates, the fewest bands of that length the least memory.
    """
    if threshold >= 1:
        return 1, PERMUTATIONS
    for rows in range(PERMUTATIONS, 1, -1):
        chance = threshold**rows
        if chance * PERMUTATIONS < RECALL:  # too little for any number of bands, and for dividing by it
            continue
        bands = math.ceil(math.log(1 - RECALL) / math.log1p(-chance))
        if bands * rows <= PERMUTATIONS:
            return bands, rows
    return PERMUTATIONS, 1


@lru_cache(maxsize=2**16)
def _term_hash(term: str) -> int:
    return xxhash.xxh3_64_intdigest(term.encode())


def _mixed(values: np.ndarray) -> np.ndarray:
    """Spread every input bit over the whole value (the finaliser of SplitMix64; Steele, Lea and Flood, 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
