"""Choices on held-out queries are cautious."""

from __future__ import annotations

import numpy as np

from corpusmith.evaluation.choose import choose_model, choose_setting

RNG = np.random.default_rng(0)
BASE = RNG.uniform(0.2, 0.6, 200)
KINDS = ["title"] * 100 + ["topic"] * 100


def test_a_setting_that_is_not_significantly_better_does_not_replace_the_default() -> None:
    noise = RNG.normal(0.0005, 0.1, 200)
    chosen, choice = choose_setting("weight", {0.4: BASE + noise, 0.5: BASE}, 0.5, seed=0)
    assert chosen == 0.5
    assert "not distinguishable" in choice.reason or "default is the best" in choice.reason


def test_a_setting_that_is_significantly_better_does() -> None:
    chosen, choice = choose_setting("weight", {0.4: BASE + 0.05, 0.5: BASE}, 0.5, seed=0)
    assert chosen == 0.4
    assert choice.chosen == "0.4"
    assert {candidate.name for candidate in choice.candidates} == {"0.4", "0.5"}


def test_a_better_model_is_taken() -> None:
    better, choice = choose_model(BASE, BASE + 0.05, KINDS, ["title"], seed=0)
    assert better
    assert choice.chosen == "trained"


def test_a_model_that_wins_by_titles_and_loses_topics_is_refused() -> None:
    trained = BASE + np.array([0.3] * 100 + [-0.1] * 100)
    better, choice = choose_model(BASE, trained, KINDS, ["title"], seed=0)
    assert not better
    assert "worse" in choice.reason


def test_a_model_that_wins_by_topics_and_loses_titles_is_refused() -> None:
    trained = BASE + np.array([-0.1] * 100 + [0.3] * 100)
    better, choice = choose_model(BASE, trained, KINDS, ["title"], seed=0)
    assert not better
    assert "title" in choice.reason


def test_a_gain_on_what_was_practised_is_no_evidence() -> None:
    trained = BASE + np.array([0.3] * 100 + [0.0] * 100)
    assert not choose_model(BASE, trained, KINDS, ["title"], seed=0)[0]


def test_a_model_that_is_no_better_is_refused() -> None:
    assert not choose_model(BASE, BASE + RNG.normal(0, 0.1, 200), KINDS, ["title"], seed=0)[0]
    assert "worse" in choose_model(BASE, BASE - 0.05, KINDS, ["title"], seed=0)[1].reason
