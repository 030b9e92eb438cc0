import pytest

from corpusmith.index import analysis
from corpusmith.index.analysis import Analyser, languages


def terms(text: str, language: str = "english") -> list[str]:
    return list(Analyser(language).terms(text))


def test_words_are_folded_stemmed_and_stop_words_dropped() -> None:
    assert terms("The Running of the engines") == ["run", "engin"]


def test_without_a_language_words_stay_whole() -> None:
    assert terms("The Running of the engines", "none") == ["the", "running", "of", "the", "engines"]


def test_german_is_stemmed_as_german() -> None:
    assert terms("Die Verordnungen über die Straßen", "german") == terms("Verordnung STRASSE", "german")


def test_unsegmented_scripts_become_character_pairs() -> None:
    assert terms("信息检索") == ["信息", "息检", "检索"]
    assert terms("ค้นหา")[:2] == ["ค้", "้น"]
    assert terms("水") == ["水"]


def test_scripts_mix_in_one_text() -> None:
    assert set(terms("BERT模型 trains")) == {"bert", "模型", "train"}


def test_vowel_signs_do_not_cut_words() -> None:
    assert terms("हिन्दी भाषा", "none") == ["हिन्दी", "भाषा"]


def test_compatibility_forms_are_the_same_word() -> None:
    assert terms("ﬁnite ＡＢＣ", "none") == ["finite", "abc"]


@pytest.mark.parametrize("text", ["", "   ", "...!?", "\ud800\udfff", "a b c", "\x00"])
def test_text_without_words_has_no_terms(text: str) -> None:
    assert terms(text) == []


@pytest.mark.parametrize("language", languages())
def test_every_language_offered_can_be_analysed(language: str) -> None:
    assert len(terms("corpusmith", language)) == 1


def test_words_are_forgotten_before_they_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "courts dismissed appeals because courts of appeal dismiss them"
    whole = list(Analyser("english").terms(text))
    monkeypatch.setattr(analysis, "MEMORY_WORDS", 3)
    analyser = Analyser("english")
    assert list(analyser.terms(text)) == whole
    assert len(analyser._remembered) <= 3
