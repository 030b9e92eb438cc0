from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpusmith.corpus.sentences import sentence_spans, sentences, statements


@pytest.mark.parametrize(
    "expected",
    [
        ["Aspirin, e.g. 3.5 mg, helps.", "See Fig. 3 of Smith et al. Reported doses vary.", "Dr. J. R. Smith left!"],
        ['"Did he?"', "He did (see p. 4).", "It cost $3.50...", "Why?!"],
        ["It rose from 1.2 to 3.4 in the U.S. and fell.", "No. 5 was best.", "Was it?", "No.", "It was not."],
        ["Am 3. Mai 2020 kam er.", "Nach § 5 Abs. 2 Nr. 3 BGB gilt z. B. Folgendes.", "Im Jahr 1999.", "Nichts."],
        ["El Sr. Pérez llegó.", "¿Quién?", "¡Nadie!"],
        ["Кошка спит.", "Собака лает?", "Да."],
        ["This was shown.[12]", "That was not.[3,4–6]", "End"],
    ],
)
def test_sentences_end_at_stops_and_not_at_abbreviations(expected):
    assert sentences(" ".join(expected)) == expected


@pytest.mark.parametrize(
    "expected",
    [["今日は晴れです。", "「明日は？」", "雨だ！"], ["वह घर है।", "यह नहीं।"], ["你好吗？", "我很好。", "谢谢"]],
)
def test_scripts_with_their_own_stops_need_no_space(expected):
    assert sentences("".join(expected)) == expected


def test_empty_lines_and_list_items_end_sentences_but_line_breaks_do_not():
    text = "Wrapped at\nthe margin\n\nSteps:\n- mix them\n1. heat slowly\n(b) cool"
    assert sentences(text) == ["Wrapped at\nthe margin", "Steps:", "- mix them", "1. heat slowly", "(b) cool"]


def test_an_enumerator_stays_with_what_it_numbers():
    assert sentences("2.1. Scope. This applies.") == ["2.1. Scope.", "This applies."]


@given(st.text(alphabet=st.sampled_from("ab A.!?。 \n1()\"'-[]"), max_size=200))
def test_spans_are_in_order_and_leave_out_nothing_but_white_space(text):
    spans = sentence_spans(text)
    edges = [0, *(edge for span in spans for edge in span), len(text)]
    assert edges == sorted(edges)
    assert all(start < end for start, end in spans)
    assert not "".join(text[edges[i] : edges[i + 1]] for i in range(0, len(edges), 2)).strip()
    assert sentences(text) == [text[start:end].strip() for start, end in spans]


@pytest.mark.parametrize("pattern", [".", ". ", ".) ", "\n", "\n ", "A. ", "\n1. a", "a ", "。"])
def test_repetitive_text_takes_time_linear_in_its_length(pattern):
    """Anything quadratic would take hours here."""
    text = pattern * 300_000
    assert "".join("".join(sentences(text)).split()) == "".join(text.split())


def test_a_text_without_words_has_no_statements() -> None:
    assert statements("") == statements(" \n") == []
