import numpy as np
import pytest
from scipy import stats

from corpusmith.evaluation.significance import best_of_several, bootstrap_interval, holm, paired_randomisation


def sample(n: int, seed: int, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).beta(0.6, 0.9, n) + shift


@pytest.mark.parametrize("n", [2, 5, 9, 13])
def test_small_samples_give_the_exact_p_value_of_scipy(n: int) -> None:
    first, second = sample(n, 0, 0.1), sample(n, 1)
    expected = stats.permutation_test(
        (first - second,), np.mean, permutation_type="samples", n_resamples=np.inf, alternative="two-sided"
    )
    assert paired_randomisation(first, second, seed=0) == pytest.approx(expected.pvalue)


def test_large_samples_come_close_to_the_p_value_of_scipy() -> None:
    first, second = sample(80, 2, 0.08), sample(80, 3)
    expected = stats.permutation_test(
        (first - second,), np.mean, permutation_type="samples", n_resamples=20_000, rng=np.random.default_rng(5)
    )
    assert paired_randomisation(first, second, seed=0) == pytest.approx(expected.pvalue, abs=0.02)


@pytest.mark.parametrize("n", [9, 80])
def test_the_best_of_one_is_tested_like_any_pair(n: int) -> None:
    first, second = sample(n, 2, 0.08), sample(n, 3)
    assert best_of_several((first - second)[None], seed=0) == paired_randomisation(first, second, seed=0)
    assert best_of_several(np.zeros((2, n)), seed=0) == 1.0


def test_the_best_of_many_that_differ_by_chance_is_rarely_significant() -> None:
    drawn = [np.random.default_rng(trial).normal(size=(8, 60)) for trial in range(300)]
    picked = [paired_randomisation(d[d.mean(axis=1).argmax()], np.zeros(60), seed=0, draws=500) for d in drawn]
    adjusted = [best_of_several(d, seed=0, draws=500) for d in drawn]
    assert np.mean(np.array(picked) < 0.05) > 0.12
    assert np.mean(np.array(adjusted) < 0.05) < 0.06


def test_a_great_loss_among_those_tried_does_not_hide_a_gain() -> None:
    rng = np.random.default_rng(0)
    gain, loss = 0.02 + rng.normal(0, 0.05, 200), -0.3 + rng.normal(0, 0.5, 200)
    assert best_of_several(np.stack([gain, loss]), seed=0) < 0.001


def test_queries_without_a_difference_change_nothing() -> None:
    first, second = sample(10, 4, 0.2), sample(10, 5)
    padded = [np.concatenate([values, np.full(500, 0.5)]) for values in (first, second)]
    assert paired_randomisation(*padded, seed=0) == paired_randomisation(first, second, seed=0)


def test_equal_systems_are_not_told_apart() -> None:
    assert paired_randomisation(sample(30, 6), sample(30, 6), seed=0) == 1.0
    assert paired_randomisation(np.zeros(0), np.zeros(0), seed=0) == 1.0


def test_the_order_of_the_systems_does_not_matter() -> None:
    first, second = sample(40, 7), sample(40, 8)
    assert paired_randomisation(first, second, seed=3) == paired_randomisation(second, first, seed=3)


def test_the_same_seed_gives_the_same_answer() -> None:
    first, second = sample(40, 9, 0.1), sample(40, 10)
    assert paired_randomisation(first, second, seed=1) == paired_randomisation(first, second, seed=1)
    assert bootstrap_interval(first, seed=1) == bootstrap_interval(first, seed=1)
    assert bootstrap_interval(first, seed=1) != bootstrap_interval(first, seed=2)


def test_p_is_never_zero_when_flips_are_drawn() -> None:
    assert paired_randomisation(np.ones(200), np.zeros(200), seed=0, draws=999) == pytest.approx(1 / 1000)


@pytest.mark.parametrize("n", [8, 40])
def test_p_values_are_uniform_where_there_is_no_difference(n: int) -> None:
    p_values = np.array(
        [
            paired_randomisation(sample(n, 2 * trial), sample(n, 2 * trial + 1), seed=trial, draws=500)
            for trial in range(400)
        ]
    )
    assert stats.kstest(p_values, "uniform").statistic < 0.08
    assert (p_values <= 0.05).mean() == pytest.approx(0.05, abs=0.03)


def test_values_of_different_queries_are_refused() -> None:
    with pytest.raises(ValueError, match="same queries"):
        paired_randomisation(np.zeros(3), np.zeros(4), seed=0)
    with pytest.raises(ValueError, match="zip"):
        paired_randomisation([np.zeros(3)], [np.zeros(3), np.zeros(2)], seed=0)


def test_several_collections_count_the_same_whatever_their_size() -> None:
    small, large = np.full(5, 1.0), np.full(500, 0.0)
    assert bootstrap_interval([small, large], seed=0).mean == pytest.approx(0.5)
    gain, loss = [sample(40, 1, 0.3), sample(400, 2)], [sample(40, 3), sample(400, 4)]
    pooled = paired_randomisation(gain, loss, seed=0)
    end_to_end = paired_randomisation(np.concatenate(gain), np.concatenate(loss), seed=0)
    assert pooled < end_to_end


def test_pooled_p_values_are_uniform_where_there_is_no_difference() -> None:
    p_values = np.array(
        [
            paired_randomisation(
                [sample(10, 4 * trial), sample(50, 4 * trial + 1)],
                [sample(10, 4 * trial + 2), sample(50, 4 * trial + 3)],
                seed=trial,
                draws=500,
            )
            for trial in range(400)
        ]
    )
    assert stats.kstest(p_values, "uniform").statistic < 0.08


def test_the_interval_agrees_with_scipy() -> None:
    values = sample(60, 11)
    interval = bootstrap_interval(values, seed=0)
    expected = stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=10_000, rng=np.random.default_rng(1)
    ).confidence_interval
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high), abs=0.005)
    assert interval.mean == pytest.approx(values.mean())
    assert interval.level == 0.95


def test_intervals_cover_the_true_mean_as_often_as_they_say() -> None:
    true_mean = 0.6 / 1.5
    intervals = [bootstrap_interval(sample(60, trial), seed=trial, resamples=400) for trial in range(400)]
    covered = np.mean([interval.low <= true_mean <= interval.high for interval in intervals])
    assert covered == pytest.approx(0.95, abs=0.03)


def test_a_stricter_level_gives_a_wider_interval() -> None:
    narrow, wide = (bootstrap_interval(sample(60, 12), seed=0, level=level) for level in (0.8, 0.99))
    assert wide.low < narrow.low < narrow.high < wide.high


@pytest.mark.parametrize("values", [np.zeros(0), [], [np.ones(3), np.zeros(0)]])
def test_there_is_no_interval_of_nothing(values) -> None:
    with pytest.raises(ValueError, match="at least one value"):
        bootstrap_interval(values, seed=0)


def test_holm_multiplies_by_the_comparisons_left() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([0.02]) == [0.02]
    assert holm([]) == []


def test_holm_keeps_false_rejections_rare_over_several_comparisons() -> None:
    rng = np.random.default_rng(0)
    rejected = np.mean([min(holm(rng.uniform(size=5))) <= 0.05 for _ in range(4000)])
    assert rejected == pytest.approx(0.05, abs=0.012)
