from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from corpusmith.vocabulary.config import ReplaceConfig
from corpusmith.vocabulary.fertility import FertilityReport, PassageLength, count_units, report_fertility
from corpusmith.vocabulary.sample import TextSample
from corpusmith.vocabulary.tokenizer import Tokenizer
from corpusmith.vocabulary.train import train_tokenizer

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "heart", "im", "##mun", "##e", ".", "-"]


def sample(*texts: str, of: int | None = None) -> TextSample:
    characters = sum(map(len, texts))
    return TextSample(texts, characters, of or characters)


@pytest.fixture
def small(tmp_path: Path) -> Tokenizer:
    (tmp_path / "vocab.txt").write_text("\n".join(PIECES))
    return Tokenizer.load(tmp_path)


@pytest.fixture
def larger(tmp_path: Path) -> Tokenizer:
    (tmp_path / "vocab.txt").write_text("\n".join([*PIECES, "immune", "kidney"]))
    return Tokenizer.load(tmp_path)


def test_measures_are_those_counted_by_hand(small: Tokenizer) -> None:
    report = report_fertility(sample("The heart. The heart.", "Immune heart - kidney"), "small", small, {})
    assert report.words == 7
    base = report.base
    assert base.tokens_per_word == pytest.approx((5 + 3 + 1) / 7)
    assert base.kept_whole == pytest.approx(5 / 7)
    assert base.unknown == pytest.approx(1 / 7)
    assert base.corpus_tokens == 6 + 6
    assert base.characters_per_token == pytest.approx(42 / 12)
    assert base.entries == len(PIECES)
    assert [(entry.word, entry.count, entry.pieces) for entry in base.worst] == [("Immune", 1, ("im", "##mun", "##e"))]
    assert report.gains == ()


def test_what_another_vocabulary_buys(small: Tokenizer, larger: Tokenizer) -> None:
    texts = sample("immune immune heart kidney", of=26_000)
    report = report_fertility(texts, "small", small, {"larger": larger}, tokens_per_second=100, flops_per_token=5e6)
    (gain,) = report.gains
    assert gain.saved == pytest.approx(4 / 8)
    assert [(word.word, word.count, word.before, word.after) for word in gain.improved] == [
        ("immune", 2, ("im", "##mun", "##e"), ("immune",))
    ]
    assert (report.base.unknown, gain.fertility.unknown) == (0.25, 0.0)
    assert (report.base.corpus_tokens, gain.fertility.corpus_tokens) == (8000, 4000)
    assert (report.base.seconds, gain.fertility.seconds) == (80, 40)
    assert gain.fertility.flops == pytest.approx(2e10)


@pytest.mark.parametrize(("words", "beyond"), [(4, 0), (8, 0.5)])
def test_what_a_model_does_not_read_of_a_passage_follows_from_its_length(
    small: Tokenizer, words: int, beyond: float
) -> None:
    texts = sample("immune immune heart kidney")  # 8 tokens of 4 words
    report = report_fertility(texts, "small", small, {}, passages=PassageLength(words, 8))
    assert report.base.beyond == pytest.approx(beyond)
    assert report_fertility(texts, "small", small, {}).base.beyond is None


def test_a_base_of_the_name_of_what_is_compared_with_it_stays_itself(small: Tokenizer, larger: Tokenizer) -> None:
    texts = sample("immune immune heart kidney")
    alike, expected = (report_fertility(texts, name, small, {"larger": larger}) for name in ("larger", "small"))
    assert alike.base.tokens_per_word == expected.base.tokens_per_word
    assert alike.gains == expected.gains


def test_more_tokens_are_a_negative_gain(small: Tokenizer, larger: Tokenizer) -> None:
    (gain,) = report_fertility(sample("immune heart"), "larger", larger, {"small": small}).gains
    assert gain.saved == pytest.approx(-1)
    assert gain.improved == ()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("法院驳回了上诉,因为提交得太晚了。", 15),
        ("ศาลยกฟ้องเพราะยื่นช้าเกินไป", 7),
    ],
)
def test_scripts_without_spaces_count_as_words_of_a_usual_length(text: str, words: int, minilm: Tokenizer) -> None:
    report = report_fertility(sample(text), "minilm", minilm, {})
    assert report.words == words
    assert report.base.tokens_per_word is not None
    assert 0 < report.base.tokens_per_word < 6
    assert report.base.kept_whole is None
    assert report.base.worst == ()


def test_words_are_letters_with_their_marks() -> None:
    units = count_units(["न्यायालय ने (कहा) — don't 👍🏽 x_1", "plain text"])
    assert set(units) == {"न्यायालय", "ने", "कहा", "don", "t", "x_1", "plain", "text"}


@pytest.mark.parametrize("text", ["!!! … ---", "👍"])
def test_a_text_without_words_has_no_fertility(text: str, minilm: Tokenizer) -> None:
    report = report_fertility(sample(text), "minilm", minilm, {})
    assert (report.words, report.base.tokens_per_word, report.base.kept_whole) == (0, None, None)
    assert "NaN" not in json.dumps(report.to_json())


def test_a_report_is_plain_json(small: Tokenizer, larger: Tokenizer) -> None:
    report: FertilityReport = report_fertility(sample("immune heart"), "small", small, {"larger": larger})
    content = json.loads(json.dumps(report.to_json()))
    assert content["gains"][0]["improved"][0]["before"] == ["im", "##mun", "##e"]
    assert content["base"]["seconds"] is None


def test_pieces_of_bytes_are_shown_as_the_characters_that_they_stand_for(
    source: Callable[[str], Tokenizer], minilm: Tokenizer
) -> None:
    own = train_tokenizer(ReplaceConfig(algorithm="bpe", size=400), source("bpe"), ["Größe Größe prüfen"] * 5)
    texts = sample("Größe Größe", "prüfen")
    (gain,) = report_fertility(texts, "bytes", source("bpe"), {"own": own}).gains
    assert [(word.word, word.after) for word in gain.improved] == [("Größe", ("Größe",)), ("prüfen", ("prüfen",))]


def test_a_mark_with_no_letter_before_it_is_no_word() -> None:
    assert count_units(["Warning \u26a0\ufe0f and \u2764\ufe0f e\u0301a"]) == {"Warning": 1, "and": 1, "e\u0301a": 1}
