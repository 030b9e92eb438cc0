import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpusmith.report import notation


@given(st.text(st.characters()))
def test_visible_text_is_one_line_without_controls_that_every_encoder_takes(text):
    shown = notation.visible(text)
    assert not any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in shown)
    shown.encode("utf-8")


@given(st.text(st.characters(categories=["L", "M", "N", "P", "S", "Zs"])))
def test_visible_leaves_ordinary_text_of_every_script_alone(text):
    assert notation.visible(text) == text


def test_controls_and_direction_overrides_are_written_out():
    assert notation.visible("a\x1b[31mb\u202ec\ud800") == r"a\x1b[31mb\u202ec\ud800"


def test_emoji_made_with_joiners_stay_whole():
    assert notation.visible("👩\u200d🔬") == "👩\u200d🔬"


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.42, "0.4 s"),
        (9.96, "10 s"),
        (59.7, "1 min 00 s"),
        (702.4, "11 min 42 s"),
        (4210, "1 h 10 min"),
        (None, "n/a"),
    ],
)
def test_durations_read_as_people_say_them(seconds, expected):
    assert notation.duration(seconds) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, "0 B"), (950, "950 B"), (3100, "3.10 kB"), (999_600, "1.00 MB"), (81_340_000, "81.3 MB"), (None, "n/a")],
)
def test_sizes_have_three_digits(value, expected):
    assert notation.size(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"), [(0.0002, "p < 0.001"), (0.0123, "p = 0.012"), (0.31, "p = 0.31"), (1.0, "p = 1.00")]
)
def test_p_values_are_never_zero(value, expected):
    assert notation.probability(value) == expected


@pytest.mark.parametrize(("value", "expected"), [(5e-5, "5×10⁻⁵"), (1.5e-4, "1.5×10⁻⁴"), (0, "0")])
def test_small_numbers_are_written_by_their_power(value, expected):
    assert notation.scientific(value) == expected


def test_shares_and_changes_are_percentages():
    assert (notation.share(0.7134), notation.change(-0.1089), notation.rate(1.514)) == ("71.3%", "-10.9%", "1.51")


@pytest.mark.parametrize(
    "write",
    [
        notation.score,
        notation.difference,
        notation.count,
        notation.quantity,
        notation.share,
        notation.change,
        notation.rate,
    ],
)
def test_what_is_not_a_number_is_said_to_be_missing(write):
    assert write(float("nan")) == notation.MISSING


@pytest.mark.parametrize(("value", "expected"), [(0.034, "+3.4%"), (-0.034, "-3.4%"), (-1e-5, "+0.0%"), (None, "n/a")])
def test_a_change_that_rounds_to_none_has_no_minus(value, expected):
    assert notation.change(value) == expected
