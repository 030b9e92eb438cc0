"""The shape of an encoder, apart from its weights.

One description covers the BERT family: what differs between BERT, RoBERTa and ModernBERT is a handful of choices (how
positions enter, where norms stand, which linear maps have a bias, whether the feed-forward part is gated, which layers
see only a window), and each choice is a field. It is read from and written to the config.json of a Hugging Face
checkpoint; whatever that file asks for and this encoder cannot do exactly is an error, never an approximation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from corpusmith.errors import ModelError

Activation = Literal["gelu", "gelu_tanh", "relu", "silu"]

ACTIVATIONS: dict[str, Activation] = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
}
"""Names that config.json uses for the activations offered here."""

LARGEST = {
    "vocabulary_size": ("vocab_size", 10_000_000),
    "hidden_size": ("hidden_size", 65_536),
    "layers": ("num_hidden_layers", 1_000),
    "heads": ("num_attention_heads", 4_096),
    "intermediate_size": ("intermediate_size", 1_000_000),
    "max_positions": ("max_position_embeddings", 10_000_000),
}
"""For each size its name in config.json and a value no encoder comes near: more is a damaged or hostile file."""

MOST_TYPES = 10_000
"""The same for `type_vocab_size`, which may also be 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderConfig:
    """Sizes and choices of a BERT-family encoder; the defaults of the choices are BERT's.

    Attributes:
        model_type: "bert", "roberta", "xlm-roberta" or "modernbert", as config.json has it; it names the tensors.
        vocabulary_size: V, rows of the token embedding.
        hidden_size: D.
        layers: number of Transformer layers.
        heads: attention heads, H; a divisor of D.
        intermediate_size: width of the feed-forward part (of each half, when gated).
        max_positions: rows of the position embedding; with rotary positions the longest sequence trained on.
        type_vocabulary_size: rows of the segment embedding, of which row 0 is used; 0 where there is none.
        position_offset: position 0 uses this row of the position embedding (RoBERTa: its padding id + 1).
        rotary: rotary positions instead of a position embedding.
        global_theta, local_theta: rotary base of layers that see everything, and of those that see a window.
        local_window: tokens that a windowed layer sees on either side.
        windowed: for each layer, whether it sees only its window; empty when none does.
        norm_first: norms before attention and feed-forward part (and one after the last layer) instead of behind;
            the first layer then has none before its attention, since the embeddings' norm is just there.
        norm_epsilon: added to the variance in every norm.
        norm_bias, attention_bias, mlp_bias: whether these have a bias.
        gated: the feed-forward part is act(a) * b with two halves (GeGLU).
        activation: of the feed-forward part.
        head_activation, head_bias, decoder_bias: of the masked-language head.
        initializer_range: standard deviation of fresh weights.
    """

    model_type: str
    vocabulary_size: int
    hidden_size: int
    layers: int
    heads: int
    intermediate_size: int
    max_positions: int
    type_vocabulary_size: int = 2
    position_offset: int = 0
    rotary: bool = False
    global_theta: float = 160_000.0
    local_theta: float = 10_000.0
    local_window: int = 0
    windowed: tuple[bool, ...] = ()
    norm_first: bool = False
    norm_epsilon: float = 1e-12
    norm_bias: bool = True
    attention_bias: bool = True
    mlp_bias: bool = True
    gated: bool = False
    activation: Activation = "gelu"
    head_activation: Activation = "gelu"
    head_bias: bool = True
    decoder_bias: bool = True
    initializer_range: float = 0.02

    def __post_init__(self) -> None:
        for name, (key, largest) in LARGEST.items():
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= largest:
                raise ModelError(
                    f"config.json asks for {key} = {value!r:.40}; it must be a whole number, 1 to {largest:,}"
                )
        if not 0 <= self.type_vocabulary_size <= MOST_TYPES:
            raise ModelError(
                f"config.json asks for type_vocab_size = {self.type_vocabulary_size!r:.40}; it must be a whole "
                f"number, 0 to {MOST_TYPES:,}"
            )
        if self.hidden_size % self.heads:
            raise ModelError(
                f"config.json asks for {self.heads} attention heads in a hidden size of {self.hidden_size}; "
                "the heads must divide it evenly"
            )
        if self.position_offset >= self.max_positions:
            raise ModelError(
                f"config.json leaves no position for a first token (max_position_embeddings {self.max_positions}, "
                f"first position {self.position_offset})"
            )

    @property
    def max_tokens(self) -> int:
        """Longest sequence, special tokens included."""
        return self.max_positions - self.position_offset

    @property
    def head_size(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.heads

    def window(self, layer: int) -> int | None:
        """Tokens that this layer sees on either side; None when it sees all."""
        return self.local_window if self.windowed and self.windowed[layer] else None

    @classmethod
    def from_hugging_face(cls, content: Mapping[str, Any]) -> EncoderConfig:
        """Read the content of a config.json.

        Raises:
            ModelError: another architecture, a missing or impossible value, or an option this encoder does not have.
        """
        model_type = content.get("model_type")
        if not isinstance(model_type, str) or model_type not in READERS:
            raise ModelError(
                f"config.json says model_type {model_type!r}; supported are {', '.join(sorted(READERS))} "
                "(MiniLM, BGE, E5, GTE and most sentence encoders are of type bert)"
            )
        if content.get("is_decoder") or content.get("add_cross_attention"):
            raise ModelError("config.json describes a decoder (is_decoder); corpusmith trains encoders")
        try:
            return READERS[model_type](content)
        except KeyError as error:
            raise ModelError(f"config.json lacks {error.args[0]!r}; copy the model's files again") from None
        except (TypeError, ValueError, ArithmeticError, AttributeError) as error:
            raise ModelError(f"config.json has a value of the wrong kind ({error})") from error

    def to_hugging_face(self) -> dict[str, Any]:
        """The content of a config.json that describes this encoder; `from_hugging_face` reads it back."""
        shared = {
            "model_type": self.model_type,
            "vocab_size": self.vocabulary_size,
            "hidden_size": self.hidden_size,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "intermediate_size": self.intermediate_size,
            "max_position_embeddings": self.max_positions,
            "initializer_range": self.initializer_range,
        }
        return shared | (self._modernbert_fields() if self.model_type == "modernbert" else self._bert_fields())

    def _bert_fields(self) -> dict[str, Any]:
        fields: dict[str, Any] = {
            "type_vocab_size": self.type_vocabulary_size,
            "layer_norm_eps": self.norm_epsilon,
            "hidden_act": _hugging_face_name(self.activation),
        }
        if self.model_type != "bert":
            fields["pad_token_id"] = self.position_offset - 1
        return fields

    def _modernbert_fields(self) -> dict[str, Any]:
        windowed = self.windowed or (False,) * self.layers
        return {
            "hidden_activation": _hugging_face_name(self.activation),
            "classifier_activation": _hugging_face_name(self.head_activation),
            "classifier_bias": self.head_bias,
            "decoder_bias": self.decoder_bias,
            "norm_eps": self.norm_epsilon,
            "norm_bias": self.norm_bias,
            "attention_bias": self.attention_bias,
            "mlp_bias": self.mlp_bias,
            "local_attention": 2 * self.local_window,
            "layer_types": ["sliding_attention" if local else "full_attention" for local in windowed],
            "rope_parameters": {
                "full_attention": {"rope_type": "default", "rope_theta": self.global_theta},
                "sliding_attention": {"rope_type": "default", "rope_theta": self.local_theta},
            },
        }


def _read_sizes(content: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "model_type": content["model_type"],
        "vocabulary_size": content["vocab_size"],
        "hidden_size": content["hidden_size"],
        "layers": content["num_hidden_layers"],
        "heads": content["num_attention_heads"],
        "intermediate_size": content["intermediate_size"],
        "max_positions": content["max_position_embeddings"],
        "initializer_range": float(content.get("initializer_range", 0.02)),
    }


def _read_bert(content: Mapping[str, Any]) -> EncoderConfig:
    position_kind = content.get("position_embedding_type") or "absolute"
    if position_kind != "absolute":
        raise ModelError(
            f"config.json asks for position_embedding_type {position_kind!r}; only 'absolute' is supported"
        )
    activation = _activation(content.get("hidden_act", "gelu"))
    return EncoderConfig(
        **_read_sizes(content),
        type_vocabulary_size=int(content.get("type_vocab_size", 2)),
        norm_epsilon=float(content.get("layer_norm_eps", 1e-12)),
        activation=activation,
        head_activation=activation if content["model_type"] == "bert" else "gelu",
        position_offset=0 if content["model_type"] == "bert" else int(content.get("pad_token_id", 1)) + 1,
    )


def _read_modernbert(content: Mapping[str, Any]) -> EncoderConfig:
    layers = content["num_hidden_layers"]
    every = content.get("global_attn_every_n_layers", 3)
    kinds = content.get("layer_types")
    if kinds is None and isinstance(layers, int) and layers <= LARGEST["layers"][1]:
        kinds = ["sliding_attention" if i % every else "full_attention" for i in range(layers)]
    if not isinstance(kinds, list) or len(kinds) != layers or set(kinds) - {"sliding_attention", "full_attention"}:
        raise ModelError(
            f"config.json must give one of full_attention, sliding_attention for each of {layers!r} layers"
        )
    return EncoderConfig(
        **_read_sizes(content),
        type_vocabulary_size=0,
        rotary=True,
        global_theta=_theta(content, "full_attention", "global_rope_theta", 160_000.0),
        local_theta=_theta(content, "sliding_attention", "local_rope_theta", 10_000.0),
        local_window=int(content.get("local_attention", 128)) // 2,
        windowed=tuple(kind == "sliding_attention" for kind in kinds),
        norm_first=True,
        norm_epsilon=float(content.get("norm_eps", 1e-5)),
        norm_bias=bool(content.get("norm_bias", False)),
        attention_bias=bool(content.get("attention_bias", False)),
        mlp_bias=bool(content.get("mlp_bias", False)),
        gated=True,
        activation=_activation(content.get("hidden_activation", "gelu")),
        head_activation=_activation(content.get("classifier_activation", "gelu")),
        head_bias=bool(content.get("classifier_bias", False)),
        decoder_bias=bool(content.get("decoder_bias", True)),
    )


READERS: dict[str, Callable[[Mapping[str, Any]], EncoderConfig]] = {
    "bert": _read_bert,
    "roberta": _read_bert,
    "xlm-roberta": _read_bert,
    "modernbert": _read_modernbert,
}


def _activation(name: Any) -> Activation:
    if name not in ACTIVATIONS:
        raise ModelError(f"config.json asks for the activation {name!r}; supported are {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]


def _hugging_face_name(activation: Activation) -> str:
    return "gelu_pytorch_tanh" if activation == "gelu_tanh" else activation


def _theta(content: Mapping[str, Any], layer_type: str, older_key: str, default: float) -> float:
    """Rotary base of a kind of layer; `rope_parameters` is transformers 5's form, the flat keys transformers 4's."""
    parameters = (content.get("rope_parameters") or {}).get(layer_type) or {}
    kind = parameters.get("rope_type", "default")
    if kind != "default" or content.get("rope_scaling"):
        raise ModelError(f"config.json asks for scaled rotary positions ({kind}); only the default kind is supported")
    theta = parameters.get("rope_theta", content.get(older_key))
    return default if theta is None else float(theta)
