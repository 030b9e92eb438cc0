import pytest

from corpusmith.report.base import comparison_of, finding, method


@pytest.mark.parametrize(
    ("difference", "p_adjusted", "expected"),
    [
        (0.03, 0.049, "better"),
        (-0.03, 0.049, "worse"),
        (0.30, 0.05, "not distinguishable"),
        (-0.30, 0.4, "not distinguishable"),
        (0.0, 0.0, "not distinguishable"),
    ],
)
def test_better_and_worse_need_a_significant_difference(evaluation, difference, p_adjusted, expected):
    comparison = evaluation["comparisons"][0] | {"difference": difference, "p_adjusted": p_adjusted}
    assert finding(comparison) == expected


def test_the_unadjusted_p_value_decides_nothing(evaluation):
    comparison = evaluation["comparisons"][0] | {"p": 0.001, "p_adjusted": 0.2}
    assert finding(comparison) == "not distinguishable"


def test_the_baseline_is_compared_with_nothing(evaluation):
    assert comparison_of(evaluation, evaluation["baseline"]) is None


def test_the_method_names_queries_seeds_intervals_and_test(evaluation):
    text = method(evaluation)
    for part in ("300 queries", "1 seed;", "95% bootstrap", "paired randomisation test", "Holm"):
        assert part in text


def test_no_test_is_named_where_nothing_was_tested(evaluation):
    evaluation["comparisons"] = []
    assert "randomisation" not in method(evaluation)
