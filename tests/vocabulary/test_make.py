from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from corpusmith.errors import CorpusError
from corpusmith.vocabulary.config import VocabularyConfig
from corpusmith.vocabulary.make import make_tokenizer
from corpusmith.vocabulary.tokenizer import Tokenizer

CONFIGS: TypeAdapter[Any] = TypeAdapter(VocabularyConfig)


def test_each_kind_makes_its_tokenizer(
    minilm: Tokenizer, domain: list[str], tmp_path: Path, sentences: list[str]
) -> None:
    (tmp_path / "general.txt").write_text("\n\n".join(sentences))
    balanced = {"choose": "balanced", "general": str(tmp_path / "general.txt"), "balanced_size": 400}
    sizes = [
        make_tokenizer(CONFIGS.validate_python(options), minilm, domain * 2, seed=0).size
        for options in (
            {"kind": "keep"},
            {"kind": "extend", "pieces": 5},
            {"kind": "extend", "pieces": 3} | balanced,
            {"kind": "replace", "size": 300},
        )
    ]
    assert sizes == [minilm.size, minilm.size + 5, minilm.size + 3, 300]


def test_a_general_text_that_is_not_there_is_named(minilm: Tokenizer, domain: list[str], tmp_path: Path) -> None:
    options = {"kind": "extend", "choose": "balanced", "general": str(tmp_path / "nosuch")}
    with pytest.raises(CorpusError, match="no such file"):
        make_tokenizer(CONFIGS.validate_python(options), minilm, domain, seed=0)


@pytest.mark.parametrize("options", [{"choose": "balanced"}, {"choose": "saved", "general": "a.txt"}])
def test_a_general_text_belongs_to_a_balanced_choice(options: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="needs a general text"):
        CONFIGS.validate_python({"kind": "extend"} | options)
