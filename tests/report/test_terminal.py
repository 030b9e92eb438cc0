import io
from dataclasses import replace

import pytest
from rich.console import Console

from corpusmith.report.base import PlannedStep
from corpusmith.report.terminal import print_chain, print_evaluation, print_fertility, print_plan
from corpusmith.vocabulary.fertility import Fertility, FertilityReport, Gain, ImprovedWord, PassageLength, SplitWord

HOSTILE = "[bold red]x[/bold red] [/] \x1b[35m \u202e"
SHOWN = r"[bold red]x[/bold red] [/] \x1b[35m \u202e"


def planned(step: str, seconds: float | None, note: str = "", *, reused: bool = False) -> PlannedStep:
    return {
        "step": step,
        "reused": reused,
        "seconds": seconds,
        "memory_bytes": 1_200_000_000,
        "disk_bytes": 9_800_000,
        "note": note,
    }


PLAN = [
    planned("corpus", 4.0, "read, clean, deduplicate, split", reused=True),
    planned("tokens", 3.0, "cut passages into word pieces"),
    planned("choice", 57.0, "choose model and search settings on held-out queries"),
]


def printed(show, value, *, width: int = 80, terminal: bool = False, encoding: str = "utf-8") -> str:
    """What the function prints on a console of this width, to a file or to a terminal."""
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console = Console(file=file, width=width, force_terminal=terminal, highlight=False, _environ={"TERM": "xterm"})
    show(value, console)
    file.flush()
    return file.buffer.getvalue().decode(encoding)


def words(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("width", [80, 100, 200])
def test_tables_fit_the_terminal_and_lose_nothing(summary, evaluation, width):
    text = printed(print_evaluation, evaluation, width=width)
    text += printed(print_chain, summary["chain"], width=width) + printed(print_plan, PLAN, width=width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    for part in ("0.753", "0.723-0.783", "+0.029, p = 0.004", "+0.009 to +0.049", "not distinguishable", "69.0 TFLOP"):
        assert part in text


def test_an_evaluation_says_what_was_measured_on_what(evaluation):
    text = words(printed(print_evaluation, evaluation))
    assert text.startswith("scifact test")
    assert "300 queries, 1 seed; means with 95% bootstrap intervals" in text
    assert "Judged by people." in text
    assert text.count("the best start") == 2  # the column's head and the baseline's row


def test_an_evaluation_of_one_system_has_no_column_of_differences(evaluation):
    evaluation["systems"] = evaluation["systems"][:1]
    evaluation["comparisons"] = []
    text = printed(print_evaluation, evaluation)
    assert "0.679" in text
    assert "best start" not in text.replace(evaluation["note"], "")


def test_a_plan_counts_only_what_is_still_to_be_done():
    text = words(printed(print_plan, PLAN))
    assert "corpus read, clean, deduplicate, split reused" in text
    assert "in all 1 of 3 steps reused 1 min 00 s 1.20 GB 19.6 MB" in text


def test_a_plan_whose_training_has_no_clock_says_so():
    text = words(printed(print_plan, [*PLAN, planned("stage-1", None)]))
    assert "by budget" in text
    assert "1 min 00 s+" in text


def test_a_chain_names_parents_and_inputs_with_digests(summary):
    text = words(printed(print_chain, summary["chain"]))
    assert "files (66696c65)" in text
    assert "corpus, base" in text
    assert "2 min 48 s" in text


def test_nothing_but_text_goes_to_a_file(summary, evaluation):
    text = printed(print_evaluation, evaluation) + printed(print_chain, summary["chain"]) + printed(print_plan, PLAN)
    assert "\x1b" not in text


def test_a_terminal_gets_colours(evaluation):
    assert "\x1b[32mbetter" in printed(print_evaluation, evaluation, terminal=True)


def test_a_terminal_without_unicode_gets_ascii_lines(summary):
    printed(print_chain, summary["chain"], encoding="ascii").encode("ascii")


@pytest.mark.parametrize("terminal", [False, True])
def test_hostile_text_is_shown_and_not_obeyed(summary, evaluation, terminal):
    evaluation["name"] = evaluation["note"] = evaluation["systems"][0]["name"] = HOSTILE
    summary["chain"][0] |= {"name": HOSTILE, "parents": {HOSTILE: "0" * 64}}
    for show, value in (
        (print_evaluation, evaluation),
        (print_chain, summary["chain"]),
        (print_plan, [planned(HOSTILE, 1.0, HOSTILE)]),
    ):
        text = printed(show, value, width=200, terminal=terminal)
        assert SHOWN in text
        assert "\x1b[35m" not in text
        assert "\u202e" not in text


def fertility(name: str, tokens_per_word: float | None, tokens: int) -> Fertility:
    worst = (SplitWord(HOSTILE, 1234, ("im", "##mun", HOSTILE)), SplitWord("x" * 60, 12, ("xxxxxxxxxx",) * 6))
    return Fertility(name, 30_522, tokens_per_word, None, 0.0123, 4.21, tokens, 125.0, 3e12, worst)


SURVEY = FertilityReport(
    10_000_000,
    123_456_789,
    1_612_345,
    fertility("all-MiniLM-L6-v2", 1.512, 29_300_000),
    (
        Gain(
            fertility("with 2,000 more pieces", None, 26_100_000),
            0.109,
            (ImprovedWord("immunoglobulins", 5678, ("im", "##mun", "##oglobulins"), ("immunoglobulins",)),),
        ),
        Gain(fertility(HOSTILE, 1.2, 31_000_000), -0.058, ()),
    ),
)


@pytest.mark.parametrize("width", [80, 120])
def test_vocabularies_fit_the_terminal_with_what_they_buy(width):
    text = printed(print_fertility, SURVEY, width=width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    for part in ("1.51", "n/a", "1.2%", "4.21", "29.3 M", "-10.9%", "+5.8%", "2 min 05 s", "5,678", "10,000,000"):
        assert part in text
    assert "immunoglobulins" in text


def test_lists_of_the_same_words_are_printed_once():
    split, improved = SplitWord("immune", 7, ("im", "##mune")), ImprovedWord("immune", 7, ("im", "##mune"), ("immune",))
    other = ImprovedWord("kidney", 9, ("kid", "##ney"), ("kidney",))
    base = replace(fertility("base", 1.5, 100), worst=(split,))
    first, second = (Gain(fertility(name, 1.2, 90), 0.1, (improved,)) for name in ("first", "second"))
    alike = printed(print_fertility, replace(SURVEY, base=base, gains=(first, second)))
    assert "first and second: the most improved words" in alike
    assert "the costliest words" not in alike
    assert alike.count("immune") == 2
    unlike = printed(print_fertility, replace(SURVEY, base=base, gains=(replace(first, improved=(other,)), second)))
    assert "first: the most improved words" in unlike
    assert "second: the most improved words" in unlike
    assert "Measured on 1,612,345 words, 10,000,000 of 123,456,789 characters" in words(unlike)
    whole = printed(print_fertility, replace(SURVEY, total_characters=10_000_000))
    assert "Measured on 1,612,345 words, 10,000,000 characters: the whole corpus." in words(whole)
    none = printed(print_fertility, replace(SURVEY, base=base, gains=(replace(first, improved=(other,)),)))
    assert "the costliest words" in none


def test_what_a_model_does_not_read_and_the_distance_stand_below():
    base = replace(fertility("base", 1.5, 100), beyond=0.466)
    gain = Gain(replace(fertility("with 5 more pieces", 1.2, 90), beyond=0.1), 0.1, ())
    survey = replace(SURVEY, base=base, gains=(gain,), passages=PassageLength(180, 254), distance=0.853)
    text = words(printed(print_fertility, survey))
    said = "Of a passage of 180 words, 46.6% lie beyond the 254 tokens that the model reads (with 5 more pieces: 10.0%)"
    assert said in text
    assert "Distance from general text: 0.85" in text


def test_words_of_documents_are_shown_as_they_are():
    text = "".join(printed(print_fertility, SURVEY, width=400).split())
    assert "".join(SHOWN.split()) in text
    assert "\x1b" not in text
