"""Whether documents want the base's vocabulary kept, extended or replaced, and the numbers that say so.

Pieces are learned from one half of a sample's documents and measured on the other. The decision asks, in this order:

1. What share of the words has a token for what is unknown: from `MOST_UNKNOWN` on the vocabulary is of another script,
   and a byte-level one takes its place, which knows every text. Tokens a word say nothing there: an unknown word is one
   token.
2. How large the corpus is: below `LEAST_WORDS` what is learned from it is noise.
3. What share of the tokens more pieces save.

A vocabulary that knows the words is never replaced: after some minutes of training search with an extended one was as
good as with the base's, on German law too (an English base), and worse with every replaced one (docs/lab-notes.md).

How far the corpus is from general text is told beside and decides nothing: a far corpus in familiar words needs other
training and not other pieces.

The bounds are judgements (docs/lab-notes.md), and the same documents always give the same decision and the same words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

from corpusmith.vocabulary.config import DecidedVocabulary, ExtendConfig, KeepConfig, ReplaceConfig
from corpusmith.vocabulary.distance import distance_from_general
from corpusmith.vocabulary.fertility import FertilityReport, Gain, PassageLength, report_fertility
from corpusmith.vocabulary.make import make_tokenizer
from corpusmith.vocabulary.sample import TextSample
from corpusmith.vocabulary.tokenizer import Tokenizer
from corpusmith.vocabulary.transfer.correspondence import matching_pieces

LEAST_SAVED = 0.1
"""Share of the tokens that other pieces must save, or the vocabulary stays: what is saved is soon less than what new
vectors must learn."""
MOST_UNKNOWN = 0.02
"""From this share of unknown words on a vocabulary lacks a script, and not a rare sign here and there."""
LEAST_WORDS = 50_000
"""Words of a corpus below which its base keeps its vocabulary: a new piece would be seen too seldom to learn a vector
from, and the whole corpus is read in minutes with the old ones. Our judgement, from no measurement."""
MOSTLY_UNKNOWN = 0.5
"""From this share of unknown words on even a smaller corpus gets another vocabulary: with its own it has no meaning."""
EXTENDED, BYTE_LEVEL = ExtendConfig(), ReplaceConfig(algorithm="bpe")
"""What is decided among, beside keeping the vocabulary."""


@dataclass(frozen=True)
class Learner:
    """What learns and measures vocabularies for a base, on the two halves of a sample.

    Attributes:
        name: the base's, for people.
        base: its tokenizer.
        sample: of the corpus.
        seed: draws what is drawn.
        passages: how long passages are, and what of them the base reads.
    """

    name: str
    base: Tokenizer
    sample: TextSample
    seed: int
    passages: PassageLength
    _learned: dict[str, Tokenizer] = field(default_factory=dict)

    @cached_property
    def distance(self) -> float | None:
        """How far the documents are from general text."""
        return distance_from_general(self.base, self.sample.halves()[1].texts)

    def learn(self, options: DecidedVocabulary) -> Tokenizer:
        """The vocabulary that these options make of one half; learned once."""
        key = options.model_dump_json()
        if key not in self._learned:
            self._learned[key] = make_tokenizer(options, self.base, self.sample.halves()[0].texts, self.seed)
        return self._learned[key]

    def measure(
        self,
        others: Mapping[str, DecidedVocabulary],
        tokens_per_second: float | None = None,
        flops_per_token: float | None = None,
    ) -> FertilityReport:
        """The base and vocabularies of these options, by their names, on the other half."""
        learned = {name: self.learn(options) for name, options in others.items()}
        measured = self.sample.halves()[1]
        report = report_fertility(
            measured, self.name, self.base, learned, tokens_per_second, flops_per_token, self.passages
        )
        return replace(report, distance=self.distance)


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of the vocabulary, and why.

    Attributes:
        options: of what is chosen.
        reason: with its numbers, to stand behind a colon.
        corpus_tokens: of the whole corpus under the base's vocabulary, estimated.
        saved: share of them that the choice saves; 0 where it is kept.
        new_rows: of the token embedding, that the base has no vector for.
    """

    options: DecidedVocabulary
    reason: str
    corpus_tokens: int
    saved: float
    new_rows: int

    @property
    def sentence(self) -> str:
        """What was decided, and why."""
        done = {"keep": "kept", "extend": "extended", "replace": "replaced"}[self.options.kind]
        return f"the vocabulary is {done}: {self.reason}"

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self) | {"options": self.options.model_dump(mode="json")}


def decide(learner: Learner) -> Decision:
    """Keep, extend or replace."""
    alone = learner.measure({})
    base, words = alone.base, _corpus_words(alone)
    unknown = base.unknown or 0.0
    if unknown >= (MOST_UNKNOWN if words >= LEAST_WORDS else MOSTLY_UNKNOWN):
        report = learner.measure({"replace": BYTE_LEVEL})
        why = [_of_unknown(unknown), _corpus(report), _gain(learner, report.gains[0], BYTE_LEVEL)]
        return _decision(learner, BYTE_LEVEL, report, why)
    if words < LEAST_WORDS:
        why = [f"about {_rounded(words)} words are fewer than the {LEAST_WORDS:,} that new pieces are learned from"]
        return _decision(learner, KeepConfig(), alone, [*why, *_known(alone), _corpus(alone)])
    report = learner.measure({"extend": EXTENDED})
    (extended,) = report.gains
    why = [*_known(report), _corpus(report), _gain(learner, extended, EXTENDED)]
    if extended.saved >= LEAST_SAVED:
        return _decision(learner, EXTENDED, report, why)
    return _decision(learner, KeepConfig(), report, [*why, f"less than {LEAST_SAVED:.0%} is too little to learn them"])


def _decision(learner: Learner, options: DecidedVocabulary, report: FertilityReport, why: Sequence[str]) -> Decision:
    gain = next((gain for gain in report.gains if gain.fertility.name == options.kind), None)
    reason = "; ".join([*why, *_beyond(report, gain)])
    new_rows = 0 if gain is None else _new_rows(learner, options)
    return Decision(options, reason, report.base.corpus_tokens, gain.saved if gain else 0.0, new_rows)


def _corpus_words(report: FertilityReport) -> int:
    """Words of the whole corpus, as far as its sample tells."""
    return round(report.words * report.total_characters / max(1, report.characters))


def _of_unknown(unknown: float) -> str:
    return f"{unknown:.1%} of the words are unknown to the base's vocabulary, and a byte-level one knows every text"


def _known(report: FertilityReport) -> list[str]:
    if report.base.tokens_per_word is None:
        return ["the documents hold no words"]
    unknown = f", and {report.base.unknown:.1%} of the words are unknown to it" if report.base.unknown else ""
    return [f"the base's vocabulary takes {report.base.tokens_per_word:.2f} tokens a word{unknown}"]


def _corpus(report: FertilityReport) -> str:
    """Size, and distance from general text."""
    size = f"the corpus is about {_rounded(report.base.corpus_tokens)} tokens"
    if report.distance is None:
        return size
    return f"{size} and lies {report.distance:.2f} from general text (0 the same, 1 nothing in common)"


def _gain(learner: Learner, gain: Gain, options: ExtendConfig | ReplaceConfig) -> str:
    """What a vocabulary gives and costs."""
    rows = _new_rows(learner, options)
    if isinstance(options, ExtendConfig):
        what, s = (f"{rows:,} more pieces", "") if rows != 1 else ("1 more piece", "s")
    else:
        what, s = f"a vocabulary of these documents ({options.algorithm}, {gain.fertility.entries:,} entries)", "s"
    does = f"save{s} {gain.saved:.1%}" if gain.saved >= 0 else f"need{s} {-gain.saved:.1%} more"
    learned = f"{rows:,} new vector{'' if rows == 1 else 's'} to learn"
    return f"{what} {does} of them ({_rounded(gain.fertility.corpus_tokens)} are left), with {learned}"


def _beyond(report: FertilityReport, gain: Gain | None) -> list[str]:
    """How much of a passage the model does not read, with the base's vocabulary and the one chosen."""
    if report.passages is None or not (report.base.beyond or (gain and gain.fertility.beyond)):
        return []
    after = "" if gain is None else f", with the new vocabulary {gain.fertility.beyond or 0.0:.0%}"
    return [
        f"of a passage of {report.passages.words} words {report.base.beyond or 0.0:.0%} lies beyond the "
        f"{report.passages.tokens} tokens that the model reads{after}"
    ]


def _rounded(number: int) -> str:
    """Three digits of an estimate, with thousands set apart."""
    return f"{float(f'{number:.3g}'):,.0f}"


def _new_rows(learner: Learner, options: DecidedVocabulary) -> int:
    return int((matching_pieces(learner.base, learner.learn(options)) < 0).sum())
