from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpusmith.corpus.base import Document
from corpusmith.corpus.clean import (
    WORD,
    clean_document,
    clean_line,
    clean_text,
    count_words,
    kind_of,
    reason_to_drop,
)

SENTENCE = {
    "Arabic": "القطة تجلس على السجادة",
    "Burmese": "ကြောင်က ဖျာပေါ်မှာ ထိုင်နေတယ်",
    "Chinese": "猫坐在垫子上。",
    "Greek": "η γάτα κάθεται στο χαλί",
    "Hindi": "बिल्ली चटाई पर बैठी है",
    "Japanese": "猫がマットの上に座っている",
    "Korean": "고양이가 매트 위에 앉아 있다",
    "Russian": "кошка сидит на ковре",
    "Thai": "แมวนั่งอยู่บนเสื่อ",
}


def document(text: str, title: str = "") -> Document:
    return Document("a", title, text)


def test_invisible_characters_and_soft_hyphens_are_removed():
    assert clean_text("\ufeffhe\u200bmo\u00adglo\u00ad\nbin\u2060 level\x00s") == "hemoglobin level s"


def test_composed_and_decomposed_letters_become_the_same():
    assert clean_text("cafe\u0301") == clean_text("caf\u00e9") == "caf\u00e9"


def test_spaces_are_single_and_paragraphs_are_parted_by_one_empty_line():
    assert clean_text("a \t b\u00a0c\r\n\r\n \r\n\r\nd \ne\x0cf") == "a b c\n\nd\ne\nf"


def test_headings_and_list_items_keep_their_lines():
    text = "# Methods\nfirst line\n- one\n- two"
    assert clean_text(text) == text


def test_zero_width_joiners_stay_where_they_spell_words():
    assert clean_text("می\u200cخواهم") == "می\u200cخواهم"
    assert clean_text("da\u200cta") == "data"


def test_page_headers_page_numbers_and_leader_dots_are_removed():
    pages = [f"Annual Report 2021\nWhat page {n} says is its own.\nPage {n} of 5" for n in range(1, 6)]
    cleaned = clean_text("Contents . . . . . . . . 3\n" + "\n".join(pages))
    assert cleaned.startswith("Contents … 3\n")
    assert cleaned.count("Annual Report 2021") == 1
    assert "of 5" not in cleaned
    assert cleaned.count("is its own.") == 5


def test_repeated_headings_and_single_words_are_kept():
    text = "\n".join(f"# Side effects\nyes\nDrug {n} has some." for n in range(5))
    assert clean_text(text) == text


def test_lone_surrogates_do_not_survive():
    assert clean_text("a\ud800b").encode() == b"a b"


@given(st.text(max_size=200))
def test_cleaning_twice_changes_nothing_more_and_the_result_is_normal(text):
    cleaned = clean_text(text)
    assert clean_text(cleaned) == cleaned
    assert unicodedata.is_normalized("NFC", cleaned)
    assert "  " not in cleaned
    assert "\n\n\n" not in cleaned


@given(st.text(alphabet=st.sampled_from("aB é漢ก\n.#-1\u200b\u00ad\t"), max_size=300))
def test_cleaning_keeps_every_letter_in_order(text):
    def letters(value: str) -> str:
        return "".join(character for character in value if character.isalpha())

    assert letters(clean_text(text)) == letters(unicodedata.normalize("NFC", text))


def test_a_title_is_one_line_without_heading_marks():
    assert clean_document(document("x", "## On\n gout ")).title == "On gout"
    assert clean_line("#") == ""


@pytest.mark.parametrize(
    ("text", "words"),
    [("one two  three", 3), ("猫坐在", 3), ("ネコ cat", 3), ("แมวนั่งอยู่", 3), ("", 0), ("a" * 120, 3), ("बिल्ली है", 2)],
)
def test_words_are_counted_in_every_script(text, words):
    assert count_words(text) == words


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("12 345 678", "no letters: '12 345 678'"),
        ("=== ab ***** ------", "mostly symbols: 88% of the characters are neither letters nor digits"),
        ("two words", "too short: 2 words where minimum_words = 3"),
    ],
)
def test_what_holds_nothing_to_search_for_is_dropped_with_a_reason(text, reason):
    assert reason_to_drop(document(text), minimum_words=3) == reason


def test_the_title_counts_as_part_of_the_document():
    assert reason_to_drop(document("short", "but a title"), minimum_words=3) is None


def test_with_no_minimum_only_the_empty_document_is_dropped():
    assert reason_to_drop(document("12"), minimum_words=0) is None
    assert reason_to_drop(document(""), minimum_words=0) == "empty"


@pytest.mark.parametrize("language", SENTENCE)
def test_no_script_is_dropped_by_mistake(language):
    cleaned = clean_document(document(SENTENCE[language]))
    assert cleaned.text == unicodedata.normalize("NFC", SENTENCE[language])
    assert reason_to_drop(cleaned, minimum_words=3) is None


def test_reasons_are_counted_by_kind():
    assert kind_of("too short: 2 words where minimum_words = 3") == "too short"
    assert kind_of("broken; what came before is kept") == "broken"


@given(st.text(alphabet="ab .-\n\t\x1c\x1f", max_size=400).map(lambda text: text.replace("b", "b" * 30)))
def test_words_of_plain_ascii_are_counted_as_those_of_any_text(text: str) -> None:
    assert count_words(text) == len(WORD.findall(text))
