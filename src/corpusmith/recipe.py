"""What to build: the typed recipe.

A recipe and the digests of its inputs determine every artefact of a build. It is written as TOML or built in Python;
each component's options stand beside the component's code and meet here. Unknown keys are errors that name the
nearest valid one: an option that is misspelt and ignored costs a night.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, Field, ValidationError, model_validator

from corpusmith.config import Config
from corpusmith.corpus.config import CorpusConfig
from corpusmith.errors import RecipeError
from corpusmith.evaluation.heldout import HeldoutConfig
from corpusmith.growth.config import GrowthConfig
from corpusmith.index.lexical import LexicalConfig
from corpusmith.objective.registry import ObjectiveConfig
from corpusmith.retrieval.encoding import EncodingConfig
from corpusmith.retrieval.pairs import PairsConfig
from corpusmith.training.budget import BudgetConfig
from corpusmith.training.config import TrainingConfig
from corpusmith.vocabulary.config import AutoConfig, KeepConfig, VocabularyConfig
from corpusmith.vocabulary.transfer.config import SubwordConfig, TransferConfig

DEFAULT_PRESET = "default"


class ModelConfig(Config):
    """The model to start from."""

    base: str = Field(default="all-MiniLM-L6-v2", min_length=1)
    """A folder with a checkpoint (safetensors), a name known here, or a Hugging Face name."""
    max_tokens: int | None = Field(default=None, ge=8, le=8192)
    """Longest sequence encoded, special tokens included; the base model's own unless given."""
    allow_download: bool = False
    """Whether `base` may be fetched from the Hugging Face hub. Nothing is downloaded otherwise."""


class StartConfig(Config):
    """The model that training begins with, made of the base: its vocabulary, then its shape. Search with the base as it
    was is measured beside the trained model."""

    vocabulary: VocabularyConfig = KeepConfig()
    """What becomes of the base's vocabulary; `kind` selects it."""
    transfer: TransferConfig = SubwordConfig()
    """How the pieces of another vocabulary get their vectors; `kind` selects it."""
    layers: int | None = Field(default=None, ge=1, le=1000)
    """Layers wanted; the base's unless given."""
    hidden_size: int | None = Field(default=None, ge=1, le=65_536)
    """Width of hidden states wanted; the base's unless given."""
    intermediate_size: int | None = Field(default=None, ge=1, le=1_000_000)
    """Width of the feed-forward part wanted; in the base's proportion to the hidden size unless given."""
    heads: int | None = Field(default=None, ge=1, le=4096)
    """Attention heads wanted; as large as the base's unless given."""
    growth: tuple[GrowthConfig, ...] | Literal["auto"] = ()
    """The operators that make the base's shape the one wanted, one after the other; each changes what it can of depth
    and width. `kind` selects them; "auto" takes what preserves the function."""
    seed: int | None = Field(default=None, ge=0, lt=2**31)
    """The seed of what the start draws; the recipe's unless given."""
    reason: str = ""
    """Why this start; written where "auto" has decided."""

    @model_validator(mode="before")
    @classmethod
    def _all_auto(cls, value: Any) -> Any:
        return {"vocabulary": {"kind": "auto"}, "growth": "auto"} if value == "auto" else value

    @model_validator(mode="after")
    def _shape_and_operators(self) -> StartConfig:
        if self.changes_shape and not self.growth:
            raise ValueError("another shape is wanted, and no operator makes it; name one in growth")
        if self.growth and self.growth != "auto" and not self.changes_shape:
            raise ValueError("operators are named and no other shape; give layers or hidden_size, or leave growth out")
        return self

    @property
    def is_open(self) -> bool:
        """Whether anything of it is to be decided yet (`pipeline.settle`)."""
        return isinstance(self.vocabulary, AutoConfig) or self.growth == "auto"

    @property
    def operators(self) -> tuple[GrowthConfig, ...]:
        """The operators of growth; none where they are to be decided yet."""
        return self.growth if isinstance(self.growth, tuple) else ()

    @property
    def changes_vocabulary(self) -> bool:
        """Whether the vocabulary is another one than the base's."""
        return not isinstance(self.vocabulary, KeepConfig)

    @property
    def changes_shape(self) -> bool:
        """Whether another shape than the base's is asked for."""
        return any(size is not None for size in (self.layers, self.hidden_size, self.intermediate_size, self.heads))


class StageConfig(Config):
    """One stage of training: an objective, its share of the training budget, how it is optimised."""

    objective: ObjectiveConfig
    """What is optimised; `kind` selects it."""
    share: float = Field(default=1.0, ge=1e-6, le=1e6)
    """This stage's part of the training budget, relative to the other stages' shares."""
    budget: BudgetConfig | None = None
    """What this stage may spend, in place of a share of the recipe's budget: exactly one of minutes, tokens, flops."""
    seed: int | None = Field(default=None, ge=0, lt=2**31)
    """The seed of this stage's training alone; the recipe's unless given. The corpus and its held-out queries stay as
    they are."""
    training: TrainingConfig = TrainingConfig()
    """Batches, learning rate, schedule, evaluation."""

    @model_validator(mode="after")
    def _share_or_budget(self) -> StageConfig:
        if self.budget is not None and self.share != 1.0:
            raise ValueError("a stage has a share of the recipe's budget or a budget of its own, not both")
        return self


class SearchConfig(Config):
    """Which model searches, and how the lexical and the dense ranking are joined. What is 'auto' is chosen on the
    held-out slice."""

    model: Literal["auto", "trained"] = "auto"
    """'auto': the trained model only if held-out queries say that it is better, and nothing is trained where they are
    too few to say so. 'trained': always the trained model."""
    fusion: Literal["relative", "reciprocal", "product"] = "relative"
    """Relative scores (min-max), reciprocal ranks, or the product of BM25 score and cosine."""
    weight: float | Literal["auto"] = "auto"
    """Weight of the dense side in the fusion, from 0 (lexical only) to 1 (dense only)."""
    whitening: float | Literal["auto"] = "auto"
    """Share by which directions along which all passages differ count less in dense search; 0 leaves them as they are,
    at 1 all have the same variance."""
    sentences: float = Field(default=0.0, ge=0, le=1)
    """Share of a passage's dense score that is its best sentence's; 0 leaves sentences out. Encoding them takes about
    as long as encoding the passages, and five times their space on the disk."""
    feedback: float | Literal["auto"] = "auto"
    """How far the dense query moves toward the top documents of the first fused ranking; 0 switches it off."""
    smoothing: float | Literal["auto"] = "auto"
    """Share of a fused document's score that is its nearest neighbours' among the first 100; 0 switches it off."""
    late: float | Literal["auto"] = "auto"
    """Weight of late interaction, which compares the query's tokens with those of the first fused documents; 0 switches
    it off. A query then costs as much as encoding `late_depth` passages."""
    late_depth: int = Field(default=20, ge=2)
    """How many fused documents late interaction looks at."""
    candidates: int = Field(default=1000, ge=10)
    """Passages taken from each side before fusion."""
    layers: int | None = Field(default=None, ge=1)
    """Layers that the searching model has, from the first on; all, unless given. Fewer encode faster, with vectors as
    good as `matryoshka_2d` or `starbucks` has made them. Training still has the whole model."""
    dimension: int | None = Field(default=None, ge=1)
    """Leading dimensions that vectors are cut to; all, unless given. Fewer make a smaller index, with vectors as good
    as `matryoshka`, `matryoshka_2d` or `starbucks` has made them. Training still has whole vectors."""

    @model_validator(mode="after")
    def _in_range(self) -> SearchConfig:
        for name, highest in (("weight", 1), ("whitening", 1), ("feedback", 10), ("smoothing", 1), ("late", 100)):
            value = getattr(self, name)
            if value != "auto" and not 0 <= value <= highest:
                raise ValueError(f"{name} lies between 0 and {highest}, or is 'auto'")
        return self


class Recipe(Config):
    """Everything a build does. Every part has defaults: an empty recipe is the default preset without its stages."""

    name: str = "custom"
    """Shown in the plan and the report."""
    description: str = ""
    """One line for `corpusmith presets`."""
    seed: int = Field(default=0, ge=0, lt=2**31)
    """The one seed from which all randomness derives."""
    budget: BudgetConfig = BudgetConfig(minutes=20)
    """How much the whole build may cost: exactly one of minutes, tokens, flops. Stages with a budget of their own
    spend that instead."""
    corpus: CorpusConfig = CorpusConfig()
    """Reading, cleaning, deduplication, passages."""
    model: ModelConfig = ModelConfig()
    """Where weights come from."""
    start: StartConfig = StartConfig()
    """What becomes of the base before training. `start = "auto"` decides by a sample of the documents."""
    encoding: EncodingConfig = EncodingConfig()
    """How vectors are computed."""
    lexical: LexicalConfig = LexicalConfig()
    """The BM25 side."""
    heldout: HeldoutConfig = HeldoutConfig()
    """Queries made from the corpus, by which all choices are made."""
    pairs: PairsConfig = PairsConfig()
    """Training pairs made from the corpus, or taken from labels."""
    stages: tuple[StageConfig, ...] = ()
    """Training, in order. Empty: the base model is used as it is."""
    any_order: bool = False
    """Whether a stage that rebuilds texts may follow one that was trained on labels, which it would undo."""
    search: SearchConfig = SearchConfig()
    """Which model searches, and how words and vectors are joined."""

    @model_validator(mode="before")
    @classmethod
    def _can_be_written(cls, content: Any) -> Any:
        """Half of a surrogate pair, or a name that is no UTF-8, has no place in a TOML file."""
        if not isinstance(content, Recipe):
            for text in _strings(content):
                try:
                    text.encode()
                except UnicodeEncodeError:
                    raise ValueError(f"{text!r:.80} cannot be written as UTF-8") from None
        return content

    @model_validator(mode="after")
    def _order_makes_sense(self) -> Recipe:
        if (self.start.changes_vocabulary or self.start.changes_shape) and not self.stages:
            raise ValueError("start changes the base, and no stage trains it; add a stage, or leave start out")
        tuned = False
        for number, stage in enumerate(self.stages, 1):
            if any(member.reconstructs for member in stage.objective.members()) and tuned and not self.any_order:
                raise ValueError(
                    f"stage {number} ({stage.objective.kind}) rebuilds texts after a stage that was trained on labels, "
                    "and would undo it; move it before that stage, or set any_order = true"
                )
            tuned |= self.pairs.source == "labels" and "pairs" in stage.objective.needs()
        return self

    @property
    def start_seed(self) -> int:
        """The seed of what the start draws."""
        return self.seed if self.start.seed is None else self.start.seed

    def part_of_budget(self, number: int) -> float:
        """The part of the recipe's budget that stage `number` (from 1) gets, 0 to 1; 0 with a budget of its own."""
        shares = [stage.share if stage.budget is None else 0.0 for stage in self.stages]
        return shares[number - 1] / (sum(shares) or 1.0)

    def with_overrides(self, overrides: Mapping[str, Any]) -> Recipe:
        """This recipe with dotted options replaced, e.g. `{"corpus.passage_words": 120}`.

        Raises:
            RecipeError: an option does not exist or a value is out of range.
        """
        content = self.model_dump(mode="json")
        for dotted, value in overrides.items():
            *path, last = dotted.split(".")
            part = content
            for name in path:
                part = part.setdefault(name, {}) if isinstance(part, dict) else None
            if not isinstance(part, dict):
                raise RecipeError(f"{dotted}: no such option; lists are set in a recipe file.")
            if last in ("minutes", "tokens", "flops") and path == ["budget"]:
                part.clear()
            part[last] = value
        return parse_recipe(content, "the command line")


def parse_recipe(content: Mapping[str, Any], source: str) -> Recipe:
    """A checked recipe from plain values; `source` is named in errors.

    Raises:
        RecipeError: one sentence for the first wrong option, naming the nearest valid key.
    """
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        raise RecipeError(f"{source}: {_first_problem(error)}") from error


def read_recipe(path: Path) -> Recipe:
    """Read a TOML recipe.

    Raises:
        RecipeError: the file is missing, is no TOML, or holds a wrong option.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise RecipeError(f"no such recipe: {path} (`corpusmith presets` lists the ready-made ones).") from None
    except OSError as error:
        raise RecipeError(f"cannot read the recipe {path}: {error.strerror}.") from error
    except RecursionError:
        raise RecipeError(f"{path} is no recipe: its values are nested too deeply.") from None
    except ValueError as error:
        raise RecipeError(f"{path} is no TOML file: {error}.") from error
    return parse_recipe(content, str(path))


def presets() -> dict[str, Recipe]:
    """The recipes that come with corpusmith, by name."""
    folder = resources.files("corpusmith") / "presets"
    files = sorted((entry for entry in folder.iterdir() if entry.name.endswith(".toml")), key=lambda entry: entry.name)
    return {
        entry.name.removesuffix(".toml"): parse_recipe(tomllib.loads(entry.read_text(encoding="utf-8")), entry.name)
        for entry in files
    }


def preset(name: str) -> Recipe:
    """A recipe that comes with corpusmith.

    Raises:
        RecipeError: there is none of this name.
    """
    found = presets()
    if name not in found:
        raise RecipeError(f"no preset '{name}'{_nearest(name, found)} (there are: {', '.join(found)}).")
    return found[name]


def to_toml(recipe: Recipe) -> str:
    """The recipe as TOML, every option written out, so that a build can be repeated from it."""
    return "\n".join(_toml_table(recipe.model_dump(mode="json"), "")).strip() + "\n"


def _strings(value: Any) -> Iterator[str]:
    """Every string in plain values, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _strings(name)
            yield from _strings(inner)
    elif isinstance(value, BaseModel):
        yield from _strings(value.model_dump())
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _strings(inner)


def _toml_table(table: Mapping[str, Any], prefix: str) -> Iterator[str]:
    nested = {name: value for name, value in table.items() if isinstance(value, dict)}
    lists = {name: value for name, value in table.items() if _is_list_of_tables(value)}
    for name, value in table.items():
        if name not in nested and name not in lists and value is not None:
            yield f"{name} = {_toml_value(value)}"
    for name, value in nested.items():
        yield f"\n[{prefix}{name}]"
        yield from _toml_table(value, f"{prefix}{name}.")
    for name, entries in lists.items():
        for entry in entries:
            yield f"\n[[{prefix}{name}]]"
            yield from _toml_table(entry, f"{prefix}{name}.")


def _is_list_of_tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(entry, dict) for entry in value)


def _toml_value(value: Any) -> str:
    """A scalar or list in TOML; JSON's strings, numbers and booleans are TOML's."""
    import json

    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")  # which JSON allows as it is


def _first_problem(error: ValidationError) -> str:
    problem = error.errors()[0]
    location = tuple(problem["loc"])
    dotted = ".".join(str(part) for part in location if not _is_union_tag(part))
    if problem["type"] == "extra_forbidden":
        valid = list(_model_at(Recipe, location[:-1]))
        return f"{dotted}: no such option{_nearest(str(location[-1]), valid)} (valid: {', '.join(valid)})."
    if problem["type"] == "union_tag_invalid":
        context = problem["ctx"]
        kinds = [kind.strip(" '") for kind in str(context["expected_tags"]).split(",")]
        return (
            f"{dotted}.kind: no kind '{context['tag']}'{_nearest(context['tag'], kinds)}; there are {', '.join(kinds)}."
        )
    message = problem["msg"].removeprefix("Value error, ")
    return f"{dotted or 'recipe'}: {message[:1].lower()}{message[1:]} (given: {problem['input']!r:.80})."


def _is_union_tag(part: Any) -> bool:
    """Whether a part of an error's location names a member of a union and not an option."""
    return isinstance(part, str) and (part in {"float", "int"} | _kinds() or part.startswith("literal["))


def _kinds() -> set[str]:
    """What `kind` can be, anywhere in a recipe."""
    unions = (ObjectiveConfig, VocabularyConfig, TransferConfig, GrowthConfig)
    models = (model for union in unions for model in _models_in(union))
    return {kind for model in models for kind in get_args(model.model_fields["kind"].annotation)}


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The pydantic models that an annotation admits: through Annotated, unions and tuples."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) in (Annotated, Union, UnionType, tuple, list):
        for argument in get_args(annotation):
            yield from _models_in(argument)


def _model_at(model: type[BaseModel], location: tuple[Any, ...]) -> dict[str, Any]:
    """The fields valid at a place in the recipe, found by following the location through the models."""
    current = [model]
    for part in location:
        if isinstance(part, int):
            continue
        if _is_union_tag(part):
            current = [m for m in current if part in get_args(m.model_fields["kind"].annotation)]
            continue
        current = [m for parent in current for m in _models_in(parent.model_fields[part].annotation)]
    return {name: field for found in current for name, field in found.model_fields.items()}


def _nearest(word: str, valid: Any) -> str:
    close = difflib.get_close_matches(word, list(valid), n=1, cutoff=0.5)
    return f"; did you mean '{close[0]}'?" if close else ""
