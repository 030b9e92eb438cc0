from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import transformers
from tests.vocabulary.kinds import byte_level

from corpusmith.errors import CorpusError, RecipeError
from corpusmith.vocabulary.config import ReplaceConfig
from corpusmith.vocabulary.tokenizer import Tokenizer
from corpusmith.vocabulary.train import train_tokenizer

ALGORITHMS = ["wordpiece", "unigram", "bpe", "bytes"]
KINDS = ["wordpiece", "unigram", "bpe"]
SCRIPTS = {
    "German": "Die Körperschaft prüft größere Übertragungen.",
    "Thai": "ศาลยกฟ้องเพราะยื่นช้าเกินไป",
    "Chinese": "法院驳回了上诉,因为提交得太晚了。",
    "Arabic": "رفضت المحكمة الاستئناف لأنه قدم متأخرا",
    "Hindi": "न्यायालय ने अपील खारिज कर दी",
    "emoji": "all good 👍🏽 👩‍⚕️",
}


def options(algorithm: str, **choices: Any) -> ReplaceConfig:
    return ReplaceConfig.model_validate({"algorithm": algorithm, "size": 500} | choices)


README = Path(__file__).parents[2] / "README.md"


def unmarked(text: str) -> str:
    return "".join(text.split())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_special_tokens_are_the_bases_and_come_first_in_its_order(
    algorithm: str, kind: str, source: Callable[[str], Tokenizer], domain: list[str]
) -> None:
    base = source(kind)
    tokenizer = train_tokenizer(options(algorithm), base, domain)
    assert tokenizer.special_tokens == base.special_tokens
    assert tokenizer.special_ids.tolist() == list(range(len(base.special_ids)))
    texts = [[owner.backend.id_to_token(i) for i in owner.special_ids.tolist()] for owner in (tokenizer, base)]
    assert texts[0] == texts[1]
    assert tokenizer.pad == base.pad


def test_the_padding_keeps_its_number_though_others_had_larger_ones(sentences: list[str]) -> None:
    backend = byte_level(sentences)
    content = json.loads(backend.to_str())
    vocabulary = content["model"]["vocab"]
    first = next(piece for piece, number in vocabulary.items() if number == 399)
    vocabulary["</s>"], vocabulary[first] = 399, 2
    content["added_tokens"][2]["id"] = 399
    content["added_tokens"].sort(key=lambda token: token["id"])
    base = Tokenizer(tokenizers.Tokenizer.from_str(json.dumps(content)), {}, {})
    assert (base.cls, base.pad, base.sep) == (0, 1, 399)
    tokenizer = train_tokenizer(options("bpe"), base, sentences)
    assert (tokenizer.cls, tokenizer.pad, tokenizer.sep) == (0, 1, 4)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_texts_of_the_sample_come_back(algorithm: str, minilm: Tokenizer, domain: list[str]) -> None:
    tokenizer = train_tokenizer(options(algorithm), minilm, domain)
    for text, ids in zip(domain, tokenizer.encode(domain), strict=True):
        assert tokenizer.unk not in ids
        expected = text if algorithm == "bytes" else text.lower()
        assert unmarked(tokenizer.decode(ids)) == unmarked(expected)


@pytest.mark.parametrize("algorithm", ["wordpiece", "unigram", "bpe"])
def test_common_words_are_one_piece_and_the_size_is_kept(algorithm: str, minilm: Tokenizer, domain: list[str]) -> None:
    tokenizer = train_tokenizer(options(algorithm), minilm, [*README.read_text(encoding="utf-8").splitlines(), *domain])
    assert tokenizer.size == 500
    assert tokenizer.backend.get_vocab_size() == 500
    assert [len(ids) for ids in tokenizer.encode([" antigens", " immunoglobulin"])] == [1, 1]


LEARN = """
import sys
from pathlib import Path
from corpusmith.vocabulary.config import ReplaceConfig
from corpusmith.vocabulary.tokenizer import Tokenizer
from corpusmith.vocabulary.train import train_tokenizer
base = Tokenizer.load(Path(sys.argv[1]))
texts = Path(sys.argv[2]).read_text().splitlines()
for algorithm in ("wordpiece", "unigram", "bpe"):
    print(train_tokenizer(ReplaceConfig(algorithm=algorithm, size=400), base, texts).fingerprint)
"""


def test_the_same_texts_give_the_same_vocabulary_in_every_process(
    minilm_folder: Path, domain: list[str], tmp_path: Path
) -> None:
    (tmp_path / "texts.txt").write_text("\n".join(domain))
    command = [sys.executable, "-c", LEARN, str(minilm_folder), str(tmp_path / "texts.txt")]
    found = [
        subprocess.run(
            command, capture_output=True, text=True, check=True, env=os.environ | {"PYTHONHASHSEED": seed}
        ).stdout.split()
        for seed in ("1", "2")
    ]
    assert found[0] == found[1]
    assert len(set(found[0])) == 3


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_transformers_encodes_alike_with_special_tokens_around(
    algorithm: str, kind: str, source: Callable[[str], Tokenizer], domain: list[str], tmp_path: Path
) -> None:
    base = source(kind)
    tokenizer = train_tokenizer(options(algorithm), base, domain)
    tokenizer.save(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    (ids,) = tokenizer.encode(domain[:1])
    assert theirs(domain[0])["input_ids"] == tokenizer.with_specials(ids, 1000).tolist()
    assert (theirs.mask_token_id, theirs.pad_token_id) == (tokenizer.mask, tokenizer.pad)
    assert theirs.cls_token_id == tokenizer.cls
    assert Tokenizer.load(tmp_path).fingerprint == tokenizer.fingerprint
    pair = tokenizer.backend.encode("a", "b")
    assert pair.ids.count(tokenizer.sep) == max(2, base.backend.encode("a", "b").ids.count(base.sep))


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_other_scripts_survive(algorithm: str, script: str, source: Callable[[str], Tokenizer]) -> None:
    text = SCRIPTS[script]
    tokenizer = train_tokenizer(options(algorithm, lowercase=False), source("bpe"), [text] * 10)
    (ids,) = tokenizer.encode([text])
    assert tokenizer.unk not in ids
    if algorithm in ("bpe", "bytes"):
        assert tokenizer.decode(ids) == text
    elif script != "emoji":
        letters = unmarked(tokenizer.decode(ids))
        assert letters == unmarked(compatible(text) if algorithm == "unigram" else text)


def compatible(text: str) -> str:
    return tokenizers.normalizers.NFKC().normalize_str(text)


def test_a_long_run_without_spaces_is_no_unknown_word(source: Callable[[str], Tokenizer]) -> None:
    text = SCRIPTS["Thai"] * 10
    tokenizer = train_tokenizer(options("wordpiece"), source("bpe"), [text])
    assert tokenizer.unk not in tokenizer.encode([text])[0]


def test_an_uncased_base_drops_case_and_keeps_accents_unless_told_otherwise(minilm: Tokenizer) -> None:
    texts = ["Die Körperschaft prüft größere Übertragungen."] * 3

    def written(algorithm: str, **choices: Any) -> str:
        tokenizer = train_tokenizer(options(algorithm, **choices), minilm, texts)
        return tokenizer.decode(tokenizer.encode(texts[:1])[0])

    for algorithm in ("wordpiece", "unigram", "bpe"):
        assert written(algorithm).startswith("die körperschaft")
        assert written(algorithm, lowercase=False).startswith("Die Körperschaft")
        assert written(algorithm, strip_accents=True).startswith("die korperschaft")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_vowel_signs_survive_an_uncased_base_unless_they_are_to_go(algorithm: str, minilm: Tokenizer) -> None:
    text = SCRIPTS["Hindi"]
    kept = train_tokenizer(options(algorithm), minilm, [text] * 10)
    assert unmarked(kept.decode(kept.encode([text])[0])) == unmarked(text)
    if algorithm != "bytes":
        dropped = train_tokenizer(options(algorithm, strip_accents=True), minilm, [text] * 10)
        assert "\u094d" in text  # the virama, a mark without width
        assert "\u094d" not in dropped.decode(dropped.encode([text])[0])


def test_a_base_of_the_same_kind_gives_its_normaliser_where_it_does_with_accents_what_is_wanted(
    minilm: Tokenizer,
) -> None:
    own = minilm.backend.normalizer
    taken = train_tokenizer(options("wordpiece", strip_accents=True), minilm, ["a word"]).backend.normalizer
    assert taken.__getstate__() == own.__getstate__()


def test_a_cased_base_keeps_case(source: Callable[[str], Tokenizer], domain: list[str]) -> None:
    for algorithm in ("wordpiece", "unigram", "bpe"):
        tokenizer = train_tokenizer(options(algorithm), source("bpe"), domain)
        assert "Immunoglobulins" in tokenizer.decode(tokenizer.encode(["Immunoglobulins bind"])[0])


def test_no_unigram_piece_is_of_letters_and_signs(minilm: Tokenizer, domain: list[str]) -> None:
    tokenizer = train_tokenizer(options("unigram"), minilm, domain)
    pieces = [piece.removeprefix("▁") for piece in tokenizer.backend.get_vocab() if piece not in ("▁", "[UNK]")]
    mixed = [piece for piece in pieces if not piece.isalnum() and any(map(str.isalnum, piece))]
    assert set(mixed) <= set(tokenizer.special_tokens.values())


@pytest.mark.parametrize("algorithm", ["wordpiece", "unigram"])
def test_an_alphabet_larger_than_the_vocabulary_loses_its_rarest_letters(algorithm: str, minilm: Tokenizer) -> None:
    letters = [chr(0x4E00 + number) for number in range(1000)]
    texts = [" ".join(letters), " ".join(letters[:50])]
    tokenizer = train_tokenizer(options(algorithm, size=300), minilm, texts)
    assert tokenizer.size <= 300
    common, rare = tokenizer.encode([letters[10], letters[900]])
    assert tokenizer.unk not in common
    assert tokenizer.unk in rare


def test_bytes_need_no_texts_and_know_all(minilm: Tokenizer) -> None:
    tokenizer = train_tokenizer(options("bytes"), minilm, [])
    assert tokenizer.size == 256 + 5
    text = "Ünï " + SCRIPTS["emoji"]
    (ids,) = tokenizer.encode([text])
    assert len(ids) == len(text.encode())
    assert tokenizer.decode(ids) == text


@pytest.mark.parametrize("algorithm", ["wordpiece", "unigram", "bpe"])
@pytest.mark.parametrize("text", ["word", "a", "12", "word word"])
def test_one_word_is_enough(algorithm: str, text: str, minilm: Tokenizer) -> None:
    tokenizer = train_tokenizer(options(algorithm), minilm, [text])
    (ids,) = tokenizer.encode([text])
    assert tokenizer.unk not in ids
    assert unmarked(tokenizer.decode(ids)) == unmarked(text)


@pytest.mark.parametrize("algorithm", ["wordpiece", "unigram", "bpe"])
@pytest.mark.parametrize("texts", [[], [""]])
def test_texts_without_a_word_are_named(algorithm: str, texts: list[str], minilm: Tokenizer) -> None:
    with pytest.raises(CorpusError, match="no word to learn a vocabulary from"):
        train_tokenizer(options(algorithm), minilm, texts)


def plain_base(folder: Path, pieces: list[str]) -> Tokenizer:
    (folder / "vocab.txt").write_text("\n".join(pieces))
    return Tokenizer.load(folder)


def test_a_base_without_mask_stays_without(tmp_path: Path, domain: list[str]) -> None:
    base = plain_base(tmp_path, ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a"])
    tokenizer = train_tokenizer(options("wordpiece"), base, domain)
    assert tokenizer.mask is None
    assert tokenizer.special_ids.tolist() == [0, 1, 2, 3]


def test_what_is_unknown_gets_a_token_where_the_base_has_none(sentences: list[str]) -> None:
    backend = tokenizers.Tokenizer(tokenizers.models.BPE({"<s>": 0, "</s>": 1, "a": 2}, []))
    backend.add_special_tokens(["<s>", "</s>"])
    base = Tokenizer(backend, {}, {})
    assert base.unk is None
    tokenizer = train_tokenizer(options("wordpiece"), base, sentences)
    assert tokenizer.unk == 2
    assert tokenizer.encode(["漢"])[0].tolist() == [2]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_tokens_that_somebody_added_to_the_base_stay_one_token(
    algorithm: str, kind: str, source: Callable[[str], Tokenizer], domain: list[str]
) -> None:
    backend = tokenizers.Tokenizer.from_str(source(kind).backend.to_str())
    backend.add_tokens(["<gene>", "BRCA1"])
    base = Tokenizer(backend, {}, source(kind).special_tokens)
    tokenizer = train_tokenizer(options(algorithm), base, domain)
    assert len(tokenizer.special_ids) == len(base.special_ids)
    assert tokenizer.size <= max(500, 256 + len(base.special_ids) + 2)
    added = [tokenizer.backend.token_to_id(text) for text in ("<gene>", "BRCA1")]
    assert [number for number in tokenizer.encode(["assay<gene>BRCA1 binds"])[0] if number in added] == added


def test_a_size_without_room_is_named(minilm: Tokenizer, sentences: list[str]) -> None:
    backend = tokenizers.Tokenizer.from_str(minilm.backend.to_str())
    backend.add_special_tokens([f"[X{number}]" for number in range(100)])
    with pytest.raises(RecipeError, match=r"size = 300 leaves no room .* 105 special and added tokens; choose 405"):
        train_tokenizer(options("wordpiece", size=300), Tokenizer(backend, {}, {}), sentences)


def test_a_small_text_weighs_as_much_as_a_large_general_one(minilm: Tokenizer, sentences: list[str]) -> None:
    texts = ["immunoglobulin assay"]
    alone, mixed = (
        train_tokenizer(options("wordpiece", size=300), minilm, first, general)
        for first, general in ((texts + sentences * 20, ()), (texts, sentences * 20))
    )
    lengths = [len(tokenizer.encode(texts)[0]) for tokenizer in (alone, mixed)]
    assert lengths[1] == 2 < lengths[0]
