from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import transformers
from tests.vocabulary.kinds import falling_back_on_bytes

from corpusmith.errors import CorpusError, ModelError
from corpusmith.vocabulary.config import ExtendConfig
from corpusmith.vocabulary.extend import extend_tokenizer
from corpusmith.vocabulary.tokenizer import Tokenizer

KINDS = ["wordpiece", "unigram", "bpe"]


def options(**choices: Any) -> ExtendConfig:
    return ExtendConfig.model_validate({"pieces": 10} | choices)


def new_pieces(extended: Tokenizer, base: Tokenizer) -> list[str]:
    return [extended.backend.id_to_token(number) or "" for number in range(base.size, extended.size)]


def length(tokenizer: Tokenizer, text: str) -> int:
    return len(tokenizer.encode([text])[0])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("choose", ["saved", "balanced"])
def test_old_ids_stay_and_new_ones_follow_them(
    choose: str, kind: str, source: Callable[[str], Tokenizer], domain: list[str], sentences: list[str]
) -> None:
    base = source(kind)
    general = {"general": "x", "balanced_size": 600} if choose == "balanced" else {}
    extended = extend_tokenizer(options(choose=choose, pieces=5, **general), base, domain, sentences if general else ())
    old, new = base.backend.get_vocab(), extended.backend.get_vocab()
    assert {piece: new[piece] for piece in old} == old
    assert sorted(number for piece, number in new.items() if piece not in old) == list(range(base.size, base.size + 5))
    assert extended.special_tokens == base.special_tokens
    assert extended.special_ids.tolist() == base.special_ids.tolist()
    assert sum(map(len, extended.stream(domain))) < sum(map(len, base.stream(domain)))


@pytest.mark.parametrize("kind", KINDS)
def test_new_pieces_are_the_models_own_and_used(
    kind: str, source: Callable[[str], Tokenizer], domain: list[str]
) -> None:
    base = source(kind)
    extended = extend_tokenizer(options(), base, domain)
    assert set(extended.backend.get_added_tokens_decoder()) == set(base.backend.get_added_tokens_decoder())
    assert extended.backend.get_vocab(with_added_tokens=False).keys() >= set(new_pieces(extended, base))
    new = new_pieces(extended, base)
    used = {extended.backend.id_to_token(int(number)) for ids in extended.stream(domain) for number in ids}
    merged = {piece for piece in new if any(piece in other for other in new if other != piece)}
    assert len(new) >= 5
    assert set(new) <= (used | merged if kind == "bpe" else used)
    assert length(extended, " immunoglobulin assay") < length(base, " immunoglobulin assay")


def test_the_word_that_saves_the_most_comes_first(minilm: Tokenizer) -> None:
    texts = ["electroencephalography"] * 7 + ["myocarditis"] * 9 + ["dog cat"] * 100
    pieces = {word: length(minilm, word) for word in ("electroencephalography", "myocarditis")}
    assert 7 * (pieces["electroencephalography"] - 1) > 9 * (pieces["myocarditis"] - 1)
    extended = extend_tokenizer(options(pieces=2), minilm, texts)
    assert new_pieces(extended, minilm) == ["electroencephalography", "myocarditis"]


def test_ends_of_words_are_pieces_too(minilm: Tokenizer) -> None:
    stems = ["cardio", "neuro", "pneumo", "hemo", "gastro", "onco"]
    texts = [f"{stem}zyxwvutoxin" for stem in stems]
    extended = extend_tokenizer(options(pieces=1), minilm, texts)
    (piece,) = new_pieces(extended, minilm)
    assert piece.startswith("##")
    assert piece.endswith("oxin")


def test_signs_behind_a_word_are_no_part_of_new_pieces(source: Callable[[str], Tokenizer]) -> None:
    base = source("unigram")
    extended = extend_tokenizer(options(), base, ["myocarditis, (myocarditis), myocarditis."] * 5)
    assert {"(", ")"}.isdisjoint(base.backend.get_vocab())
    assert set(new_pieces(extended, base)) == {"(", ")", "myocarditis", "▁myocarditis"}


def test_what_is_seldom_is_left_out(minilm: Tokenizer, sentences: list[str]) -> None:
    texts = [*sentences, "electroencephalography", *["myocarditis"] * 5]
    extended = extend_tokenizer(options(pieces=100, minimum_count=5), minilm, texts)
    assert new_pieces(extended, minilm) == ["myocarditis"]


@pytest.mark.parametrize("kind", ["wordpiece", "unigram"])
def test_letters_that_are_lacking_make_words_known(kind: str, source: Callable[[str], Tokenizer]) -> None:
    base = source(kind)
    text = "ᏣᎳᎩ ᎦᏬᏂᎯᏍᏗ"
    assert base.unk in base.encode([text])[0]
    extended = extend_tokenizer(options(pieces=40), base, [text] * 20)
    assert extended.unk not in extended.encode([text])[0]


def test_pieces_of_a_tokenizer_that_is_shown_whole_texts_stay_within_words_and_are_no_bytes(tmp_path: Path) -> None:
    base = Tokenizer(falling_back_on_bytes("abcdefghijklmnopqrstuvwxyz.,"), {}, {})
    texts = ["die prüfung für die gebühr, nach der prüfung."] * 9
    extended = extend_tokenizer(options(pieces=30), base, texts)
    new = new_pieces(extended, base)
    assert {"ü", "▁prüfung", "▁für", "▁gebühr"} <= set(new)
    assert not [piece for piece in new if "<0x" in piece or "▁" in piece[1:] or set(piece) & set(".,")]
    assert extended.decode(extended.encode(texts)[0]) == texts[0]
    extended.save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert theirs(texts[0], add_special_tokens=False)["input_ids"] == extended.encode(texts)[0].tolist()


def test_letters_take_at_most_half_of_the_pieces(minilm: Tokenizer) -> None:
    extended = extend_tokenizer(options(pieces=4), minilm, ["ᏣᎳᎩ"] * 5 + ["myocarditis"] * 5)
    assert "myocarditis" in new_pieces(extended, minilm)
    assert len([piece for piece in new_pieces(extended, minilm) if piece != "myocarditis"]) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_transformers_and_saved_files_agree(
    kind: str, source: Callable[[str], Tokenizer], domain: list[str], tmp_path: Path
) -> None:
    extended = extend_tokenizer(options(), source(kind), domain)
    extended.save(tmp_path)
    assert Tokenizer.load(tmp_path).fingerprint == extended.fingerprint
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for text, ids in zip(domain, extended.encode(domain), strict=True):
        assert theirs(text, add_special_tokens=False)["input_ids"] == ids.tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_what_stands_beside_the_model_keeps_its_id(
    kind: str, source: Callable[[str], Tokenizer], domain: list[str]
) -> None:
    base = source(kind)
    backend = tokenizers.Tokenizer.from_str(base.backend.to_str())
    backend.add_tokens(["DRUGNAME"])
    backend.add_special_tokens(["[E1]"])
    with_more = Tokenizer(backend, {}, {})
    extended = extend_tokenizer(options(pieces=5), with_more, domain)
    assert extended.backend.token_to_id("DRUGNAME") == base.size
    assert extended.backend.token_to_id("[E1]") == base.size + 1
    assert extended.size == base.size + 7
    assert base.size in extended.encode(["take DRUGNAME daily"])[0]


def test_pieces_for_a_script_without_spaces_are_no_whole_sentences(source: Callable[[str], Tokenizer]) -> None:
    base = source("unigram")
    words = ["ศาล", "ยกฟ้อง", "เพราะ", "ยื่น", "ช้า"]
    texts = ["".join(words[(i + j * k) % 5] for k in range(7)) for i in range(5) for j in range(5)]
    extended = extend_tokenizer(options(pieces=60), base, texts)
    assert sum(map(len, extended.stream(texts))) < 25 * 7 * 3
    assert max(map(len, new_pieces(extended, base))) <= 32


def test_a_balanced_mixture_hears_a_small_domain(minilm: Tokenizer, sentences: list[str]) -> None:
    texts = ["immunoglobulin assay", "myocarditis assay"] * 5
    extended = extend_tokenizer(
        options(choose="balanced", general="x", balanced_size=500), minilm, texts, [s.lower() for s in sentences] * 50
    )
    assert {"immunoglobulin", "myocarditis"} <= set(new_pieces(extended, minilm))


def test_nothing_to_add_leaves_the_tokenizer_as_it_is(minilm: Tokenizer) -> None:
    assert extend_tokenizer(options(), minilm, ["the dog and the cat"] * 9).fingerprint == minilm.fingerprint


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("texts", [[], [""]])
def test_texts_without_a_word_are_named(texts: list[str], kind: str, source: Callable[[str], Tokenizer]) -> None:
    with pytest.raises(CorpusError, match="no word to find pieces for"):
        extend_tokenizer(options(), source(kind), texts)


def test_a_kind_that_cannot_be_extended_is_named() -> None:
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel({"[CLS]": 0, "[SEP]": 1, "[UNK]": 2}, unk_token="[UNK]"))
    with pytest.raises(ModelError, match="WordLevel tokenizer cannot be extended"):
        extend_tokenizer(options(), Tokenizer(backend, {}, {}), ["a"])


def test_a_tokenizer_that_cannot_cut_the_texts_is_named() -> None:
    pieces = [("<s>", 0.0), ("</s>", 0.0), ("▁", -1.0), ("a", -1.0)]
    backend = tokenizers.Tokenizer(tokenizers.models.Unigram(pieces, unk_id=None))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    with pytest.raises(ModelError, match="the tokenizer contradicts itself"):
        extend_tokenizer(options(minimum_count=1), Tokenizer(backend, {}, {}), ["a b"])
