from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from corpusmith.errors import ModelError
from corpusmith.model.config import EncoderConfig

KINDS = ["bert", "minilm", "roberta", "xlm-roberta", "modernbert"]


@pytest.mark.parametrize("kind", KINDS)
def test_writing_and_reading_gives_the_same_config(kind: str, reference: Any) -> None:
    config = EncoderConfig.from_hugging_face(reference.configs[kind].to_dict())
    assert EncoderConfig.from_hugging_face(config.to_hugging_face()) == config


def test_older_modernbert_files_are_read_like_todays(reference: Any) -> None:
    content = reference.configs["modernbert"].to_dict()
    older = {key: value for key, value in content.items() if key not in ("layer_types", "rope_parameters")}
    older |= {"global_attn_every_n_layers": 3, "global_rope_theta": 160000.0, "local_rope_theta": 10000.0}
    assert EncoderConfig.from_hugging_face(older) == EncoderConfig.from_hugging_face(content)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "gpt2"}, "model_type 'gpt2'; supported are bert, modernbert, roberta, xlm-roberta"),
        ({"model_type": ["bert"]}, "supported are"),
        ({"vocab_size": 10**12}, "vocab_size = 1000000000000; it must be a whole number, 1 to 10,000,000"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers = 1000000000"),
        ({"hidden_size": -4}, "hidden_size = -4"),
        ({"hidden_size": "32"}, "hidden_size = '32'"),
        ({"num_attention_heads": 5}, "5 attention heads in a hidden size of 32"),
        ({"hidden_act": "swiglu"}, "activation 'swiglu'; supported are gelu"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type 'relative_key'"),
        ({"layer_norm_eps": "tiny"}, "value of the wrong kind"),
        ({"is_decoder": True}, "describes a decoder"),
    ],
)
def test_what_cannot_be_reproduced_is_named(change: dict[str, Any], message: str, reference: Any) -> None:
    with pytest.raises(ModelError, match=message):
        EncoderConfig.from_hugging_face(reference.configs["bert"].to_dict() | change)


def test_a_missing_size_is_named(reference: Any) -> None:
    content = reference.configs["bert"].to_dict()
    del content["hidden_size"]
    with pytest.raises(ModelError, match="lacks 'hidden_size'"):
        EncoderConfig.from_hugging_face(content)


@pytest.mark.parametrize(
    "change",
    [
        {"layer_types": ["full_attention"]},
        {"layer_types": ["full_attention", "linear_attention", "full_attention"]},
        {"num_hidden_layers": "3"},
        {"layer_types": None, "global_attn_every_n_layers": 0},
        {"rope_parameters": ["default"]},
        {"rope_parameters": {"full_attention": {"rope_type": "yarn", "rope_theta": 1.0}}},
    ],
)
def test_modernbert_layers_of_other_kinds_are_refused(change: dict[str, Any], reference: Any) -> None:
    with pytest.raises(ModelError):
        EncoderConfig.from_hugging_face(reference.configs["modernbert"].to_dict() | change)


def test_importing_the_config_imports_no_torch() -> None:
    code = "import sys, corpusmith.model.config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
