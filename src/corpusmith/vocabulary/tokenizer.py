"""Text to token ids, fast and without side decisions.

A checkpoint's own tokenizer is used as it is (the `tokenizers` library, Rust, one thread a core), but two things that
its file may ask for are turned off: truncation and padding. Corpora are tokenised once into shards of pure content;
where to cut, and where the special tokens go, is decided later by whoever builds a sequence (`with_specials`).
Special tokens are found in the folder's own files first and by their usual names second, because a wrong mask token
trains a model on nonsense without any error.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers

from corpusmith import environment
from corpusmith.corpus.batches import text_batches
from corpusmith.errors import ModelError

BATCH, BATCH_CHARACTERS = 256, 2**18
"""Most texts tokenised at a time, and most characters of several: enough to keep every core busy, few enough to hold
little memory, of which a token takes over a hundred bytes until it is a number."""

SPECIAL_TOKENS = 2
"""Those that open and close every sequence."""

USUAL_NAMES = {
    "cls": ("[CLS]", "<s>"),
    "sep": ("[SEP]", "</s>"),
    "pad": ("[PAD]", "<pad>"),
    "mask": ("[MASK]", "<mask>"),
    "unk": ("[UNK]", "<unk>"),
}

CONTRADICTION = "the tokenizer contradicts itself"


class Tokenizer:
    """A checkpoint's tokenizer: texts to ids without special tokens, ids to sequences with them.

    Attributes:
        cls, sep: ids of the tokens that open and close every sequence.
        pad, mask, unk: ids of the other special tokens, None where the vocabulary has none.
        size: number of entries of the vocabulary, added tokens included; ids are below it.
        special_ids: `int64[n]`, sorted ids of all special tokens.
        settings: what tokenizer_config.json says, carried through to exports.
    """

    def __init__(self, backend: tokenizers.Tokenizer, settings: dict[str, Any], specials: dict[str, str]) -> None:
        """Wrap a tokenizer of the `tokenizers` library.

        Args:
            backend: the tokenizer; its truncation and padding are turned off.
            settings: the content of tokenizer_config.json, or nothing.
            specials: text of the special tokens by kind ("cls", "sep", "pad", "mask", "unk"), those that are known.

        Raises:
            ModelError: the vocabulary has no token that opens or closes a sequence.
        """
        environment.allow_tokenizer_threads()
        backend.no_truncation()
        backend.no_padding()
        self.settings = settings
        self._backend = backend
        self._specials = {kind: specials.get(kind) or self._usual(kind) for kind in USUAL_NAMES}
        ids = {kind: None if text is None else backend.token_to_id(text) for kind, text in self._specials.items()}
        if ids["cls"] is None or ids["sep"] is None:
            raise ModelError(
                "the tokenizer has no token that opens or closes a sequence (looked for "
                f"{' / '.join(USUAL_NAMES['cls'])} and {' / '.join(USUAL_NAMES['sep'])}); "
                "name them as cls_token and sep_token in its special_tokens_map.json"
            )
        self.cls: int = ids["cls"]
        self.sep: int = ids["sep"]
        self.pad: int | None = ids["pad"]
        self.mask: int | None = ids["mask"]
        self.unk: int | None = ids["unk"]
        added = {i for i, token in backend.get_added_tokens_decoder().items() if token.special}
        self.special_ids = np.array(sorted(added | {i for i in ids.values() if i is not None}), dtype=np.int64)
        self.size = 1 + max(backend.get_vocab(with_added_tokens=True).values())

    @property
    def backend(self) -> tokenizers.Tokenizer:
        """The tokenizer of the `tokenizers` library, to look into; it is not to be changed."""
        return self._backend

    @property
    def kind(self) -> str:
        """What finds its pieces, as tokenizer.json calls it: WordPiece, Unigram, BPE or WordLevel."""
        return type(self._backend.model).__name__

    def _usual(self, kind: str) -> str | None:
        return next((name for name in USUAL_NAMES[kind] if self._backend.token_to_id(name) is not None), None)

    @classmethod
    def load(cls, folder: Path) -> Tokenizer:
        """Read tokenizer.json, or a BERT vocab.txt where there is none, and the special tokens' names beside it.

        Raises:
            ModelError: neither file is there, or one is damaged.
        """
        folder = Path(folder)
        settings = _read_json(folder / "tokenizer_config.json")
        specials = _named_specials(settings) | _named_specials(_read_json(folder / "special_tokens_map.json"))
        if (folder / "tokenizer.json").is_file():
            backend = _read_tokenizer(folder / "tokenizer.json")
        elif (folder / "vocab.txt").is_file():
            lowercase = settings.get("do_lower_case", True)
            if not isinstance(lowercase, bool):
                raise ModelError(
                    f"{folder / 'tokenizer_config.json'} says do_lower_case = {json.dumps(lowercase)[:40]}; "
                    "it must be true or false"
                )
            backend = _read_wordpieces(folder / "vocab.txt", lowercase)
        else:
            raise ModelError(
                f"{folder} holds no tokenizer.json and no vocab.txt; save the tokenizer there with "
                "transformers' AutoTokenizer.from_pretrained(...).save_pretrained(...)"
            )
        return cls(backend, settings, specials)

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Token ids of each text, `uint32[n]`: no special tokens, no truncation."""
        return list(self.stream(texts))

    def stream(self, texts: Sequence[str]) -> Iterator[np.ndarray]:
        """As `encode`, one text after the other, holding only a small batch at a time."""
        for batch in text_batches(texts, BATCH, BATCH_CHARACTERS):
            with _naming_library_errors(CONTRADICTION):
                encodings = self._backend.encode_batch_fast(batch, add_special_tokens=False)
            for encoding in encodings:
                yield np.array(encoding.ids, dtype=np.uint32)

    def cut(self, word: str) -> list[tokenizers.Token]:
        """The pieces that the model alone, after normalizer and splitter, cuts a word into.

        Raises:
            ModelError: it cannot, having no token for what is unknown.
        """
        with _naming_library_errors(CONTRADICTION):
            return self._backend.model.tokenize(word)

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        """Text of these ids, special tokens left out; for people to read, not always the text they came from."""
        return self._backend.decode([int(i) for i in ids])

    def with_specials(self, ids: np.ndarray, max_tokens: int) -> np.ndarray:
        """`int64[min(n + 2, max_tokens)]`: the opening token, as many of the n ids as fit, the closing token."""
        kept = ids[: max_tokens - 2]
        sequence = np.empty(len(kept) + 2, dtype=np.int64)
        sequence[0], sequence[1:-1], sequence[-1] = self.cls, kept, self.sep
        return sequence

    @cached_property
    def special_tokens(self) -> dict[str, str]:
        """Text of the special tokens by kind ("cls", "sep", "pad", "mask", "unk"), those that there are."""
        named = self._specials.items()
        return {kind: text for kind, text in named if text is not None and self._backend.token_to_id(text) is not None}

    @cached_property
    def is_word_start(self) -> np.ndarray:
        """`bool[size]`: whether the piece begins a word. Special tokens count as words of their own.

        WordPiece marks the pieces that go on ('##'); byte-level BPE ('Ġ') and Unigram ('▁') mark those that begin.
        """
        pieces = self._backend.get_vocab(with_added_tokens=True)
        starts = np.ones(self.size, dtype=bool)
        if self.kind == "WordPiece":
            continues = self._backend.model.continuing_subword_prefix
            starts[[i for piece, i in pieces.items() if piece.startswith(continues)]] = False
        elif self.kind in ("BPE", "Unigram"):
            starts[[i for piece, i in pieces.items() if not piece.startswith(("Ġ", "▁"))]] = False
            starts[self.special_ids] = True
        return starts

    @cached_property
    def fingerprint(self) -> str:
        """Digest of everything that decides which ids a text becomes; the same after saving and loading."""
        # The tokenizers library may change the last bit of a Unigram score when it reads one back.
        backend = json.loads(self._backend.to_str(), parse_float=lambda digits: f"{float(digits):.9g}")
        content = json.dumps([backend, self._specials], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()

    def save(self, folder: Path) -> None:
        """Write tokenizer.json, tokenizer_config.json, special_tokens_map.json, and vocab.txt for WordPiece.

        `transformers.AutoTokenizer` loads the folder; `load` gives this tokenizer back.
        """
        named = {f"{kind}_token": text for kind, text in self._specials.items() if text is not None}
        class_name = "BertTokenizer" if self.kind == "WordPiece" else "PreTrainedTokenizerFast"
        settings = {"tokenizer_class": class_name, **self.settings, **self._normalisation(), **named}
        settings.pop("name_or_path", None)
        self._backend.save(str(folder / "tokenizer.json"), pretty=False)
        _write_json(folder / "tokenizer_config.json", settings)
        _write_json(folder / "special_tokens_map.json", named)
        if self.kind == "WordPiece":
            pieces = self._backend.get_vocab(with_added_tokens=True)
            lines = "".join(f"{piece}\n" for piece in sorted(pieces, key=pieces.__getitem__))
            (folder / "vocab.txt").write_text(lines, encoding="utf-8")

    def _normalisation(self) -> dict[str, Any]:
        """How tokenizer.json normalises, as BERT's settings: `transformers` builds BERT's tokenizer from these, and
        where they are missing it drops case and accents."""
        normalizer = self._backend.normalizer
        if not isinstance(normalizer, tokenizers.normalizers.BertNormalizer):
            return {}
        return {
            "do_lower_case": normalizer.lowercase,
            "strip_accents": normalizer.strip_accents,
            "tokenize_chinese_chars": normalizer.handle_chinese_chars,
        }


def _read_json(path: Path) -> dict[str, Any]:
    """The object in this file; nothing where the file is missing."""
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} is damaged ({error}); copy the model's files again") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path} is damaged (not a JSON object); copy the model's files again")
    return content


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _named_specials(content: dict[str, Any]) -> dict[str, str]:
    """Text of the special tokens that a configuration names; each is a string or an object with a `content`."""
    found = {}
    for kind in USUAL_NAMES:
        token = content.get(f"{kind}_token")
        if isinstance(token, dict):
            token = token.get("content")
        if isinstance(token, str):
            found[kind] = token
    return found


def _read_tokenizer(path: Path) -> tokenizers.Tokenizer:
    with _naming_library_errors(f"{path} is damaged or of an unknown kind"):
        return tokenizers.Tokenizer.from_file(str(path))


@contextmanager
def _naming_library_errors(problem: str) -> Iterator[None]:
    """Turn what the tokenizers library raises about a bad file into a sentence: bare Exception, and for what it did
    not foresee the PanicException of Rust, which is no Exception at all."""
    try:
        yield
    except BaseException as error:
        if type(error) is not Exception and type(error).__name__ != "PanicException":
            raise
        raise ModelError(f"{problem} ({' '.join(str(error).split())}); copy the model's files again") from error


def _read_wordpieces(path: Path, lowercase: bool) -> tokenizers.Tokenizer:
    """BERT's tokenizer from its list of word pieces, one a line."""
    try:
        # Not splitlines, which ends lines at signs that pieces may hold (U+2028): all behind would get other numbers.
        pieces = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise ModelError(f"{path} is not UTF-8 text ({error}); copy the model's files again") from error
    if "[UNK]" not in pieces:
        raise ModelError(f"{path} has no [UNK] piece, so it is no BERT vocabulary; copy the model's files again")
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    backend = tokenizers.Tokenizer(tokenizers.models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=lowercase)
    backend.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    backend.decoder = tokenizers.decoders.WordPiece()
    present = [name for names in USUAL_NAMES.values() for name in names if name in vocabulary]
    backend.add_special_tokens(present)
    if "[CLS]" in vocabulary and "[SEP]" in vocabulary:
        backend.post_processor = tokenizers.processors.BertProcessing(
            ("[SEP]", vocabulary["[SEP]"]), ("[CLS]", vocabulary["[CLS]"])
        )
    return backend
