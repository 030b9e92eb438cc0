from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tokenizers
import transformers
from tests.vocabulary.kinds import byte_level, unigram

from corpusmith.errors import ModelError
from corpusmith.vocabulary.tokenizer import BATCH, Tokenizer

TEXTS = ["Immunoglobulins bind antigens.", "", "Naïve Bayes, 漢字 and §12(b)!", "a [MASK] inside", "x" * 300]


def test_ids_are_those_of_transformers_without_specials_and_never_cut(minilm: Tokenizer, minilm_folder: Path) -> None:
    theirs = transformers.AutoTokenizer.from_pretrained(minilm_folder)
    texts = [*TEXTS, "a long text of many words " * 300]
    for text, ids in zip(texts, minilm.encode(texts), strict=True):
        assert ids.tolist() == theirs(text, add_special_tokens=False, truncation=False)["input_ids"]


def test_many_texts_come_back_in_order(minilm: Tokenizer) -> None:
    texts = [f"number {i}" for i in range(2 * BATCH + 3)]
    encoded = minilm.encode(texts)
    assert [minilm.decode(ids) for ids in encoded] == texts


def test_special_tokens_are_found(minilm: Tokenizer) -> None:
    assert (minilm.cls, minilm.sep, minilm.pad, minilm.mask, minilm.unk) == (101, 102, 0, 103, 100)
    assert minilm.special_ids.tolist() == [0, 100, 101, 102, 103]
    assert minilm.size == 30522


@pytest.mark.parametrize("max_tokens", [2, 3, 5, 6, 100])
def test_sequences_open_and_close_and_fit(max_tokens: int, minilm: Tokenizer) -> None:
    ids = np.arange(200, 204, dtype=np.uint32)
    sequence = minilm.with_specials(ids, max_tokens)
    kept = min(4, max_tokens - 2)
    assert sequence.tolist() == [101, *range(200, 200 + kept), 102]
    assert sequence.dtype == np.int64


def test_word_pieces_that_go_on_do_not_begin_a_word(minilm: Tokenizer) -> None:
    (ids,) = minilm.encode(["immunoglobulin binds"])
    starts = minilm.is_word_start[ids]
    assert starts.sum() == 2
    assert starts[0]
    assert minilm.is_word_start[minilm.special_ids].all()


@pytest.mark.parametrize("make", [byte_level, unigram])
def test_words_of_other_kinds_of_tokenizer_are_told_apart(make: object, sentences: list[str]) -> None:
    tokenizer = Tokenizer(make(sentences), {}, {})  # type: ignore[operator]
    (ids,) = tokenizer.encode([" the heart pumps blood"])
    assert tokenizer.is_word_start[ids].sum() == 4
    assert (tokenizer.cls, tokenizer.pad, tokenizer.sep, tokenizer.unk, tokenizer.mask) == (0, 1, 2, 3, 4)
    assert tokenizer.is_word_start[:5].all()


@pytest.mark.parametrize("make", [byte_level, unigram])
def test_saving_and_loading_gives_the_same_tokenizer(make: object, sentences: list[str], tmp_path: Path) -> None:
    tokenizer = Tokenizer(make(sentences), {}, {})  # type: ignore[operator]
    tokenizer.save(tmp_path)
    again = Tokenizer.load(tmp_path)
    assert again.fingerprint == tokenizer.fingerprint
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert theirs.mask_token_id == tokenizer.mask
    assert theirs("the heart", add_special_tokens=False)["input_ids"] == tokenizer.encode(["the heart"])[0].tolist()


def test_a_folder_with_vocab_txt_alone_tokenises_the_same(
    minilm: Tokenizer, minilm_folder: Path, tmp_path: Path
) -> None:
    shutil.copy(minilm_folder / "vocab.txt", tmp_path)
    tokenizer = Tokenizer.load(tmp_path)
    for ours, expected in zip(tokenizer.encode(TEXTS), minilm.encode(TEXTS), strict=True):
        assert ours.tolist() == expected.tolist()
    assert (tokenizer.cls, tokenizer.mask, tokenizer.size) == (101, 103, 30522)


def test_long_texts_are_tokenised_one_by_one_to_the_same(minilm: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["the heart", "pumps blood " * 20, "through", "", "the arteries"]
    together = [ids.tolist() for ids in minilm.encode(texts)]
    monkeypatch.setattr("corpusmith.vocabulary.tokenizer.BATCH_CHARACTERS", 10)
    assert [ids.tolist() for ids in minilm.encode(texts)] == together


def test_a_cased_vocab_txt_keeps_case(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\nBayes\nbayes\n")
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    assert Tokenizer.load(tmp_path).encode(["Bayes bayes"])[0].tolist() == [4, 5]


def test_a_piece_of_vocab_txt_may_hold_what_else_ends_a_line(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\na\u2028b\n\x85\nheart\n", encoding="utf-8")
    tokenizer = Tokenizer.load(tmp_path)
    theirs = transformers.BertTokenizer.from_pretrained(tmp_path)
    assert tokenizer.encode(["heart"])[0].tolist() == [6] == theirs("heart", add_special_tokens=False)["input_ids"]
    assert tokenizer.size == len(theirs) - 1  # they add the mask token that is missing


@pytest.mark.parametrize("lowercase", [False, True])
def test_a_tokenizer_without_settings_keeps_case_and_accents_in_transformers_as_here(
    lowercase: bool, tmp_path: Path
) -> None:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "Café", "Cafe", "café", "cafe"]
    backend = tokenizers.Tokenizer(
        tokenizers.models.WordPiece({word: number for number, word in enumerate(words)}, unk_token="[UNK]")
    )
    backend.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=lowercase, strip_accents=False)
    backend.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    tokenizer = Tokenizer(backend, {}, {})
    tokenizer.save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    ids = tokenizer.encode(["Café"])[0].tolist()
    assert ids == [words.index("café" if lowercase else "Café")]
    assert theirs("Café", add_special_tokens=False)["input_ids"] == ids


def test_special_tokens_named_by_the_folder_come_before_the_usual_ones(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n<open>\n<close>\n")
    named = {"cls_token": "<open>", "sep_token": {"content": "<close>", "lstrip": False}}
    (tmp_path / "special_tokens_map.json").write_text(json.dumps(named))
    tokenizer = Tokenizer.load(tmp_path)
    assert (tokenizer.cls, tokenizer.sep, tokenizer.mask) == (4, 5, None)


def test_the_fingerprint_changes_with_the_vocabulary_and_with_the_special_tokens(tmp_path: Path) -> None:
    fingerprints = set()
    for number, pieces in enumerate(
        ["[UNK]\n[CLS]\n[SEP]\na\n", "[UNK]\n[CLS]\n[SEP]\nb\n", "[UNK]\n[CLS]\n[SEP]\na\n"]
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "vocab.txt").write_text(pieces)
        if number == 2:
            (folder / "special_tokens_map.json").write_text('{"cls_token": "a"}')
        fingerprints.add(Tokenizer.load(folder).fingerprint)
    assert len(fingerprints) == 3


def test_a_tokenizer_without_opening_token_is_named(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\nword\n")
    with pytest.raises(ModelError, match=r"no token that opens or closes.*special_tokens_map.json"):
        Tokenizer.load(tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b'{"model": ', b"[]", b"\xff\xfe", b'{"version": "1.0", "model": {"type": "X"}}']
)
def test_a_damaged_tokenizer_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(ModelError, match=r"tokenizer.json is damaged"):
        Tokenizer.load(tmp_path)


def test_a_vocab_txt_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("just\nwords\n")
    with pytest.raises(ModelError, match=r"no \[UNK\] piece"):
        Tokenizer.load(tmp_path)
    (tmp_path / "vocab.txt").write_bytes(b"[UNK]\n\xff\xfe\n")
    with pytest.raises(ModelError, match="not UTF-8"):
        Tokenizer.load(tmp_path)


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"holds no tokenizer.json and no vocab.txt"):
        Tokenizer.load(tmp_path)


def test_forking_after_tokenising_prints_no_warning(minilm_folder: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from corpusmith.vocabulary.tokenizer import Tokenizer\n"
        f"t = Tokenizer.load(Path({str(minilm_folder)!r})); t.encode(['one', 'two'])\n"
        "child = os.fork()\n"
        "os._exit(0) if child == 0 else os.waitpid(child, 0)"
    )
    environment = {key: value for key, value in os.environ.items() if key != "TOKENIZERS_PARALLELISM"}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert result.stderr == ""


@pytest.mark.parametrize("value", ["null", '"yes"', "1"])
def test_a_lower_case_that_is_neither_true_nor_false_is_named(value: str, tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\nword\n")
    (tmp_path / "tokenizer_config.json").write_text(f'{{"do_lower_case": {value}}}')
    with pytest.raises(ModelError, match=r"tokenizer_config.json says do_lower_case = .*; it must be true or false"):
        Tokenizer.load(tmp_path)
