"""An existing tokenizer with more pieces: those that the domain's words need most.

New pieces are entries of the tokenizer's own model, behind all that are there, so that old ids keep their meaning and
texts are cut by them as by any other piece; nothing is matched before the model sees it. How they are chosen:

- *saved*: the span of pieces within a word (a whole word, a beginning, an end) whose joining saves the most tokens of
  the sample, one after the other, counted anew after each (`merges`). Letters that the vocabulary lacks come first,
  since they make whole words unknown; they take at most half of the new pieces. A piece that longer ones have made
  needless in the end ("immunoglobu" beside "immunoglobulin") gives its place to the next.
- *balanced*: a vocabulary of the same kind is learned from the domain's and a general text, the smaller of both
  repeated until they weigh the same; its pieces that the old vocabulary lacks are added, those that the domain uses
  most first.

By kind of model: WordPiece gets entries ("##" before those that go on with a word). Unigram gets entries with a score,
the logarithm of the share of tokens that the piece would be in the sample, yet always more than the best way to write
it with the other pieces, so that it is used. BPE can reach a piece of several letters only through merges of two, so
its merges are learned further: behind the old ones, from the sample cut by these; with *balanced*, from the domain's
and the general text with the same weight. Some tokenizers show their model whole texts (Gemma's, which mmBERT has);
pieces stay within words there too. A letter that is written by its bytes for want of an entry counts as lacking.

Where we depart from the paper or it is silent: the authors pretrain from random weights on the balanced mixture; here
only their vocabulary is taken, and the base model is kept. WordPiece takes the longest match from the left, and so may
cut a word otherwise than the joining of spans supposes; what was really saved is what `fertility` measures.

Citation: Wada et al. 2020, "Pre-training technique to localize medical BERT and enhance biomedical BERT" (balanced
mixture, amplified vocabulary).
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

import tokenizers

from corpusmith.errors import CorpusError, ModelError
from corpusmith.vocabulary.config import ExtendConfig, ReplaceConfig
from corpusmith.vocabulary.merges import Span, best_spans, joiner, pairs
from corpusmith.vocabulary.tokenizer import Tokenizer
from corpusmith.vocabulary.train import marked, strips_accents, train_tokenizer
from corpusmith.vocabulary.transfer.correspondence import BYTE_NAME, word_mark
from corpusmith.vocabulary.words import Pieces, balanced, count_words, sequences

LONGEST = 32
"""Letters of the longest piece that is added."""
MARGIN = 0.01
"""By how much a new Unigram piece scores more than the best way to write it with others."""
DIGITS = 5
WORD = re.compile(r"▁*[^▁\s]+|▁+|\s+")
"""A word with the marks of the spaces before it, or what is between words."""
ALGORITHMS = {"WordPiece": "wordpiece", "Unigram": "unigram"}


def extend_tokenizer(
    options: ExtendConfig, source: Tokenizer, texts: Iterable[str], general: Iterable[str] = ()
) -> Tokenizer:
    """The tokenizer with at most `options.pieces` more pieces; fewer where the texts do not give so many.

    Args:
        options: how many pieces, and how they are chosen.
        source: the tokenizer to extend; it is not changed.
        texts: of the domain.
        general: general text, for `options.choose = "balanced"`.

    Raises:
        CorpusError: the texts hold no word.
        ModelError: the tokenizer is of a kind that cannot be extended.
    """
    if source.kind not in ("WordPiece", "Unigram", "BPE"):
        raise ModelError(
            f"a {source.kind} tokenizer cannot be extended; keep it, or replace it by a vocabulary of the corpus"
        )
    texts = list(texts)
    counts = _words(source, texts)
    if not counts:
        raise CorpusError("the texts hold no word to find pieces for; point to documents with text")
    if options.choose == "balanced" and source.kind != "BPE":
        new = _amplified(options, source, counts, texts, general)
        return with_pieces(source, new, counts)
    letters = _missing_letters(options, source, counts)
    source, wanted = with_pieces(source, letters, counts), options.pieces - len(letters)
    if source.kind == "BPE":
        return _with_merges(options, source, balanced(counts, _words(source, general)), wanted)
    return with_pieces(source, _best_pieces(options, source, counts, wanted), counts)


def _words(source: Tokenizer, texts: Iterable[str]) -> Counter[str]:
    """How often each word occurs, also where the tokenizer shows its model several words at once."""
    counts = count_words(source.backend, texts)
    if word_mark(source) != "▁" or source.kind == "WordPiece":
        return counts
    words: Counter[str] = Counter()
    for text, count in counts.items():
        for word in WORD.findall(text):
            words[word] += count
    return words


def with_pieces(source: Tokenizer, pieces: Sequence[str], counts: Mapping[str, int]) -> Tokenizer:
    """The tokenizer with these pieces behind its own, none of which it has; `counts` of words score them in Unigram."""

    def add(model: dict[str, Any]) -> None:
        if isinstance(model["vocab"], dict):
            model["vocab"] |= {piece: source.size + number for number, piece in enumerate(pieces)}
        else:
            model["vocab"] += _scored(source, pieces, counts, dict(map(tuple, model["vocab"])))

    return _changed(source, add) if pieces else source


def _changed(source: Tokenizer, change: Callable[[dict[str, Any]], None]) -> Tokenizer:
    """The tokenizer with its model's description changed.

    What was added to the tokenizer beside its model becomes an entry of the model first: the library would otherwise
    number it anew, behind the pieces that come in.
    """
    content = json.loads(source.backend.to_str())
    vocabulary = content["model"]["vocab"]
    for number, token in sorted(source.backend.get_added_tokens_decoder().items()):
        if isinstance(vocabulary, dict):
            vocabulary.setdefault(token.content, number)
        elif number == len(vocabulary):
            vocabulary.append([token.content, 0.0])
        elif number > len(vocabulary):
            raise ModelError(
                f"the tokenizer has no entries between {len(vocabulary)} and {number}; it cannot be extended"
            )
    change(content["model"])
    return Tokenizer(tokenizers.Tokenizer.from_str(json.dumps(content)), source.settings, source.special_tokens)


def _cutter(source: Tokenizer) -> Callable[[str], list[str | None]]:
    """What cuts a word into pieces, with None for what is unknown or spelt byte by byte for want of a piece."""
    falls_back = getattr(source.backend.model, "byte_fallback", False)

    def cut(word: str) -> list[str | None]:
        return [
            None if token.id == source.unk or (falls_back and BYTE_NAME.fullmatch(token.value)) else token.value
            for token in source.cut(word)
        ]

    return cut


def _missing_letters(options: ExtendConfig, source: Tokenizer, counts: Mapping[str, int]) -> list[str]:
    """Letters that the vocabulary lacks and that therefore make words unknown, or are spelt byte by byte; the commonest
    first."""
    cut, known = _cutter(source), source.backend.get_vocab(with_added_tokens=True)
    letters_of: Callable[[str], list[str]] = marked if source.kind == "WordPiece" else list
    missing: Counter[str] = Counter()
    for word, count in counts.items():
        if None in cut(word):
            for letter in letters_of(word):
                if letter not in known:
                    missing[letter] += count
    frequent = [letter for letter, count in missing.items() if count >= options.minimum_count]
    return sorted(frequent, key=lambda letter: (-missing[letter], letter))[: options.pieces // 2]


def _best_pieces(options: ExtendConfig, source: Tokenizer, counts: Mapping[str, int], wanted: int) -> list[str]:
    """The spans that save the most tokens, as pieces."""
    known, cut = source.backend.get_vocab(with_added_tokens=True), _cutter(source)
    counted = sequences(counts, _without_signs(cut))
    join = joiner(_prefix(source))
    frequent = _frequent_spans(counted, join, options.minimum_count)

    def spans(sequence: Pieces) -> list[Span]:
        found: list[Span] = []
        for first, piece in enumerate(sequence):
            for last in range(first + 1, len(sequence)):
                piece = join((piece, sequence[last]))
                if piece not in frequent:
                    break
                if piece not in known:
                    found.append((piece, first, last + 1))
        return found

    found = (piece for piece, _ in best_spans(counted, spans, join, options.minimum_count))
    pieces: list[str] = []
    while more := list(islice(found, wanted - len(pieces))):
        pieces = _used(options, source, [*pieces, *more], counts)
    return pieces


def _used(options: ExtendConfig, source: Tokenizer, pieces: Sequence[str], counts: Mapping[str, int]) -> list[str]:
    """Those of the pieces that words are cut into often enough where all of them are there."""
    cut = _cutter(with_pieces(source, pieces, counts))
    used: Counter[str | None] = Counter()
    for word, count in counts.items():
        for piece in cut(word):
            used[piece] += count
    return [piece for piece in pieces if used[piece] >= options.minimum_count]


def _without_signs(cut: Callable[[str], list[str | None]]) -> Callable[[str], list[str | None]]:
    """The cutter with None for signs as well."""
    return lambda word: [None if _is_signs(piece) else piece for piece in cut(word)]


def _is_signs(piece: str | None) -> bool:
    """Whether it is made of punctuation and signs alone: joined with the word before it, it would say nothing new."""
    text = (piece or "").removeprefix("▁")
    return bool(text) and all(unicodedata.category(character)[0] in "PS" for character in text)


def _frequent_spans(counted: Mapping[Pieces, int], join: Callable[[Sequence[str]], str], least: int) -> set[str]:
    """The texts of all spans that occur so often and are not too long. A span of n + 1 pieces is only counted where
    its first n occur so often, so that memory stays small."""
    found: set[str] = set()
    places = [(sequence, count, first) for sequence, count in counted.items() for first in range(len(sequence) - 1)]
    length = 2
    while places:
        occurrences: Counter[str] = Counter()
        for sequence, count, first in places:
            occurrences[join(sequence[first : first + length])] += count
        frequent = {piece for piece, count in occurrences.items() if count >= least and len(piece) <= LONGEST}
        places = [
            (sequence, count, first)
            for sequence, count, first in places
            if first + length < len(sequence) and join(sequence[first : first + length]) in frequent
        ]
        found |= frequent
        length += 1
    return found


def _amplified(
    options: ExtendConfig, source: Tokenizer, counts: Mapping[str, int], texts: Sequence[str], general: Iterable[str]
) -> list[str]:
    """The new pieces of a vocabulary learned from domain and general text, those that the domain uses most first."""
    algorithm = ALGORITHMS[source.kind]
    strip = strips_accents(source)  # pieces with accents would never be used by a tokenizer that drops them
    mixture = ReplaceConfig.model_validate(
        {"algorithm": algorithm, "size": options.balanced_size, "strip_accents": strip}
    )
    cut = _cutter(train_tokenizer(mixture, source, texts, general))
    known = source.backend.get_vocab(with_added_tokens=True)
    used: Counter[str] = Counter()
    for word, count in counts.items():
        for piece in cut(word):
            if piece is not None and piece not in known:
                used[piece] += count
    frequent = [piece for piece, count in used.items() if count >= options.minimum_count]
    return sorted(frequent, key=lambda piece: (-used[piece], piece))[: options.pieces]


def _with_merges(options: ExtendConfig, source: Tokenizer, counts: Mapping[str, int], wanted: int) -> Tokenizer:
    """The BPE tokenizer with its merges learned further, until it has so many more pieces."""
    known = source.backend.get_vocab(with_added_tokens=True)
    added = {token.content for token in source.backend.get_added_tokens_decoder().values()}
    join = joiner(_prefix(source))
    merges: list[list[str]] = []
    pieces: dict[str, int] = {}

    def spans(sequence: Pieces) -> list[Span]:
        return [span for span in pairs(sequence) if join(span[0]) not in added]

    cut = _cutter(source) if word_mark(source) == "Ġ" else _without_signs(_cutter(source))
    for pair, _ in best_spans(sequences(counts, cut), spans, join, options.minimum_count):
        piece = join(pair)
        if piece not in known and piece not in pieces:
            if len(pieces) == wanted:
                break
            pieces[piece] = source.size + len(pieces)
        merges.append(list(pair))

    def add(model: dict[str, Any]) -> None:
        model["vocab"] |= pieces
        model["merges"] += merges

    return _changed(source, add)


def _prefix(source: Tokenizer) -> str:
    return getattr(source.backend.model, "continuing_subword_prefix", None) or ""


def _scored(
    source: Tokenizer, pieces: Sequence[str], counts: Mapping[str, int], scores: dict[str, float]
) -> list[list[Any]]:
    """Unigram pieces with their scores; the shorter are scored first, since the longer may contain them."""
    tokens = sum(len(sequence) * count for sequence, count in sequences(counts, _cutter(source)).items())
    wanted, longest = set(pieces), max(map(len, pieces))
    occurrences: Counter[str] = Counter()
    for sequence, count in sequences(counts, list).items():
        word = "".join(sequence)
        for first in range(len(word)):
            for last in range(first + 1, min(len(word), first + longest) + 1):
                if word[first:last] in wanted:
                    occurrences[word[first:last]] += count
    scores = dict(scores)
    for piece in sorted(pieces, key=lambda piece: (len(piece), piece)):
        share = math.log(max(occurrences[piece], 1) / max(tokens, 1))
        scores[piece] = round(max(share, _best_score(piece, scores) + MARGIN), DIGITS)
    return [[piece, scores[piece]] for piece in pieces]


def _best_score(text: str, scores: Mapping[str, float]) -> float:
    """The score of the best way to write a text as pieces, minus infinity where there is none."""
    best = [0.0, *(-math.inf for _ in text)]
    for last in range(1, len(text) + 1):
        ways = (best[first] + scores.get(text[first:last], -math.inf) for first in range(last))
        best[last] = max(ways)
    return best[-1]
