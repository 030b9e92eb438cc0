"""Recipes: typed, complete, and helpful where they are wrong."""

from __future__ import annotations

import contextlib
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpusmith.errors import RecipeError
from corpusmith.recipe import Recipe, parse_recipe, preset, presets, read_recipe, to_toml


@pytest.mark.parametrize("name", list(presets()))
def test_a_preset_survives_being_written_and_read(name: str) -> None:
    recipe = preset(name)
    assert recipe.name == name
    assert recipe.description
    assert parse_recipe(tomllib.loads(to_toml(recipe)), "test") == recipe


def test_an_empty_recipe_is_complete() -> None:
    assert parse_recipe({}, "test") == Recipe()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"corpus": {"pasage_words": 3}}, "corpus.pasage_words: no such option; did you mean 'passage_words'?"),
        ({"budgets": {}}, "budgets: no such option; did you mean 'budget'?"),
        ({"stages": [{"objective": {"kind": "contrastve"}}]}, "did you mean 'contrastive'?"),
        (
            {"stages": [{"objective": {"kind": "contrastive", "temprature": 1}}]},
            "stages.0.objective.temprature: no such option; did you mean 'temperature'?",
        ),
        ({"budget": {"minutes": 1, "tokens": 3}}, "exactly one of minutes, tokens and flops"),
        ({"seed": "x"}, "seed: input should be a valid integer"),
        ({"search": {"weight": 3}}, "weight lies between 0 and 1"),
        ({"search": {"weight": "atuo"}}, "search.weight: "),
    ],
)
def test_a_wrong_option_is_named_with_the_nearest_valid_one(content: dict, sentence: str) -> None:
    with pytest.raises(RecipeError) as raised:
        parse_recipe(content, "a.toml")
    assert str(raised.value).startswith("a.toml: ")
    assert sentence in str(raised.value)
    assert "\n" not in str(raised.value)


def test_an_unknown_preset_names_those_there_are() -> None:
    with pytest.raises(RecipeError, match=r"did you mean 'default'.*search-only"):
        preset("defautl")


def test_overrides_replace_one_option_and_a_budget_replaces_the_budget() -> None:
    recipe = preset("default").with_overrides({"corpus.passage_words": 120, "budget.tokens": 5000})
    assert recipe.corpus.passage_words == 120
    assert (recipe.budget.tokens, recipe.budget.minutes) == (5000, None)
    assert recipe.stages == preset("default").stages


def test_a_stage_has_a_share_or_a_budget_of_its_own() -> None:
    stage = {"objective": {"kind": "retromae"}}
    recipe = parse_recipe({"stages": [stage | {"budget": {"flops": 1e12}}, stage, stage | {"share": 3}]}, "test")
    assert [recipe.part_of_budget(number) for number in (1, 2, 3)] == [0, 0.25, 0.75]
    assert parse_recipe(tomllib.loads(to_toml(recipe)), "test") == recipe
    with pytest.raises(RecipeError, match="not both"):
        parse_recipe({"stages": [stage | {"budget": {"flops": 1e12}, "share": 0.5}]}, "test")


@pytest.mark.parametrize("name", ["corpus.nope", "nope", "seed.deep", "stages.0.share"])
def test_an_override_of_nothing_is_refused(name: str) -> None:
    with pytest.raises(RecipeError):
        preset("default").with_overrides({name: 1})


def test_a_missing_file_points_to_the_presets(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="corpusmith presets"):
        read_recipe(tmp_path / "none.toml")


@given(content=st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_any_bytes_are_a_recipe_or_one_sentence(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed.toml"
    path.write_bytes(content)
    with contextlib.suppress(RecipeError):
        assert isinstance(read_recipe(path), Recipe)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=8), children, max_size=3),
    max_leaves=8,
)


@given(key=st.sampled_from(sorted(Recipe.model_fields)), value=json_values)
def test_any_value_for_an_option_is_accepted_or_refused_in_one_sentence(key: str, value: object) -> None:
    with contextlib.suppress(RecipeError):
        assert isinstance(parse_recipe({key: value}, "a.toml"), Recipe)


def stages_after(source: str, *kinds: str, **options: object) -> dict[str, object]:
    return {"pairs": {"source": source}, "stages": [{"objective": {"kind": kind}} for kind in kinds]} | options


def test_rebuilding_texts_after_labels_is_refused_with_the_reason() -> None:
    with pytest.raises(
        RecipeError, match=r"stage 2 \(retromae\) rebuilds texts after a stage that was trained on labels"
    ):
        parse_recipe(stages_after("labels", "contrastive", "retromae"), "test")


@pytest.mark.parametrize(
    "content",
    [
        stages_after("labels", "contrastive", "retromae", any_order=True),
        stages_after("labels", "retromae", "contrastive"),
        stages_after("corpus", "contrastive", "retromae"),
    ],
)
def test_other_orders_are_allowed(content: dict[str, object]) -> None:
    assert len(parse_recipe(content, "test").stages) == 2


@pytest.mark.parametrize("text", ["a\x7fb", "\x01\x1f", 'quo"te\\', "\u2028 ü 字 \U0001f980", "\x80"])
def test_any_text_survives_toml(text: str) -> None:
    recipe = parse_recipe({"name": text, "description": text}, "test")
    assert parse_recipe(tomllib.loads(to_toml(recipe)), "test") == recipe


@pytest.mark.parametrize(
    "content", [{"name": "\ud800"}, {"model": {"base": "m\udcff"}}, {"corpus": {"exclude": ["\udcff"]}}]
)
def test_what_cannot_be_written_as_utf8_is_refused(content: dict) -> None:
    with pytest.raises(RecipeError, match="cannot be written as UTF-8"):
        parse_recipe(content, "test")


@pytest.mark.parametrize("option", ["negatives", "recompute_above"])
def test_integers_that_nothing_could_compute_with_are_refused(option: str) -> None:
    content = {"stages": [{"objective": {"kind": "contrastive", option: 10**25}}]}
    with pytest.raises(RecipeError, match="beyond 2"):
        parse_recipe(content, "test")


def test_a_byte_order_mark_before_a_recipe_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text('name = "mark"', encoding="utf-8-sig")
    assert read_recipe(tmp_path / "recipe.toml").name == "mark"


@pytest.mark.parametrize("share", [1e-320, 1e308])
def test_a_share_that_arithmetic_would_lose_is_refused(share: float) -> None:
    stages = [{"objective": {"kind": "masked_language"}, "share": share}] * 2
    with pytest.raises(RecipeError, match=r"stages\[0\]\.share|stages.*share"):
        parse_recipe({"stages": stages}, "test")
