"""A tokenizer with a vocabulary learned from texts, that a model can be given in place of its own.

WordPiece (Schuster and Nakajima 2012; Devlin et al. 2019) and byte-level BPE (Sennrich et al. 2016; Radford et al.
2019) are learned by joining the pair of pieces that saves the most tokens, Unigram (Kudo 2018) by fitting and pruning.
`merges` and `unigram` say how, and why the trainers of the `tokenizers` library are not used: the same texts and
options give the same vocabulary here, in every run.

Special tokens are those of the base, by the same texts and in the same order, from id 0 on; only the padding keeps its
number where it can, because RoBERTa's positions begin behind it. After them come the tokens that somebody added to the
base. A WordPiece or Unigram vocabulary that replaces one of the same kind normalises and cuts texts as that did, but
for accents: they stay unless the options drop them, since a vocabulary of the documents is to know what the documents
write. Elsewhere case is dropped where the base drops it.

Letters (of WordPiece: those at the beginning of words, and those inside) take at most half of the entries, the
commonest first; words with rarer ones are unknown. Byte-level vocabularies know all 256 bytes and so all texts.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache

import tokenizers
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors

from corpusmith.corpus.clean import combining_marks
from corpusmith.errors import CorpusError, RecipeError
from corpusmith.vocabulary.config import ReplaceConfig
from corpusmith.vocabulary.merges import best_spans, joiner, pairs
from corpusmith.vocabulary.tokenizer import Tokenizer
from corpusmith.vocabulary.unigram import fit_unigram
from corpusmith.vocabulary.words import balanced, count_words, sequences

PREFIX = "##"
"""Marks pieces of a WordPiece vocabulary that go on with a word."""
LEAST_COUNT = 2
"""Pairs of pieces that occur more seldom are not joined."""
LONGEST_WORD = 400
"""Letters of a word that WordPiece still cuts; a sentence of Thai is one word to it."""
WORD = r" ?[\p{L}\p{M}]+| ?\p{N}+| ?[^\s\p{L}\p{M}\p{N}]+|\s+(?!\S)|\s+"
"""Words for byte-level BPE: letters with their combining marks, numbers, signs, space. GPT-2's pattern parts a letter
from its marks, and so every word of Hindi or Thai."""
SAME = {"wordpiece": "WordPiece", "unigram": "Unigram"}
"""The library's model of the bases whose normalisation and cuts are taken over."""
KEPT_SETTINGS = ("model_max_length", "model_input_names", "clean_up_tokenization_spaces", "padding_side")


def train_tokenizer(
    options: ReplaceConfig, source: Tokenizer, texts: Iterable[str], general: Iterable[str] = ()
) -> Tokenizer:
    """Learn a vocabulary.

    Args:
        options: how, and how large.
        source: the base's tokenizer, whose special tokens and habits it takes over.
        texts: of the domain.
        general: other texts to learn from as well; domain and general texts then weigh the same.

    Returns:
        The tokenizer; it has fewer entries than asked for where the texts do not give so many.

    Raises:
        CorpusError: the texts hold nothing to learn from.
        RecipeError: the size has no room for the special tokens and an alphabet.
    """
    backend = frame(options, source)
    specials = _special_tokens(source, needs_unknown=options.algorithm in ("wordpiece", "unigram"))
    others = _other_added_tokens(source)
    names = [token.content for token in (*specials, *others)]
    unknown = source.special_tokens.get("unk", specials[-1].content)
    room = options.size - len(names)
    if options.algorithm == "bytes":
        backend.model = _bytes({}, names, room=0)
    else:
        counts = balanced(count_words(backend, texts), count_words(backend, general))
        if not counts:
            raise CorpusError("the texts hold no word to learn a vocabulary from; point to documents with text")
        if room < len(pre_tokenizers.ByteLevel.alphabet()):
            raise RecipeError(
                f"vocabulary.size = {options.size} leaves no room for an alphabet beside {len(names)} special and "
                f"added tokens; choose {len(names) + 300} or more"
            )
        if options.algorithm == "bpe":
            backend.model = _bytes(counts, names, room - len(pre_tokenizers.ByteLevel.alphabet()))
        elif options.algorithm == "wordpiece":
            backend.model = _wordpiece(counts, names, room, unknown)
        else:
            backend.model = _unigram(counts, names, room, unknown)
    backend.add_special_tokens(specials)
    backend.add_tokens(others)
    backend.post_processor = _post_processor(source, backend)
    settings = {key: source.settings[key] for key in KEPT_SETTINGS if key in source.settings}
    return Tokenizer(backend, settings | {"tokenizer_class": "PreTrainedTokenizerFast"}, source.special_tokens)


def frame(options: ReplaceConfig, source: Tokenizer) -> tokenizers.Tokenizer:
    """A tokenizer that normalises and cuts texts as the new one will, with a model that knows nothing yet."""
    same = source.kind == SAME.get(options.algorithm)
    backend = tokenizers.Tokenizer(models.BPE())
    if options.algorithm == "wordpiece":
        backend.pre_tokenizer, backend.decoder = pre_tokenizers.BertPreTokenizer(), decoders.WordPiece(prefix=PREFIX)
    elif options.algorithm == "unigram":
        backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
        backend.decoder = decoders.Metaspace()
    else:
        words = pre_tokenizers.Split(tokenizers.Regex(WORD), "isolated")
        on_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        backend.pre_tokenizer, backend.decoder = pre_tokenizers.Sequence([words, on_bytes]), decoders.ByteLevel()
    if same and source.backend.pre_tokenizer is not None:
        backend.pre_tokenizer = source.backend.pre_tokenizer
    if options.algorithm != "bytes":
        backend.normalizer = _normalizer(options, source, same)
    return backend


def marked(word: str) -> list[str]:
    """The letters of a word as WordPiece writes them: "a", "##b", "##c"."""
    return [word[0], *(PREFIX + letter for letter in word[1:])]


def strips_accents(source: Tokenizer) -> bool:
    """Whether a tokenizer drops accents."""
    return _normalised(source.backend.normalizer, "é") == "e"


def _normalizer(options: ReplaceConfig, source: Tokenizer, same: bool) -> normalizers.Normalizer | None:
    own = source.backend.normalizer
    if same and options.lowercase is None and options.strip_accents == strips_accents(source):
        return own
    lowercase = options.lowercase if options.lowercase is not None else _normalised(own, "A") == "a"
    if options.algorithm == "wordpiece":
        return normalizers.BertNormalizer(strip_accents=options.strip_accents, lowercase=lowercase)
    steps: list[normalizers.Normalizer] = [normalizers.NFKC() if options.algorithm == "unigram" else normalizers.NFC()]
    if options.strip_accents:
        steps += [normalizers.NFD(), normalizers.StripAccents()]
    if lowercase:
        steps.append(normalizers.Lowercase())
    return normalizers.Sequence(steps)


def _normalised(normalizer: normalizers.Normalizer | None, text: str) -> str:
    return text if normalizer is None else normalizer.normalize_str(text)


def _special_tokens(source: Tokenizer, needs_unknown: bool) -> list[AddedToken]:
    """The base's special tokens in the order of their ids, the padding at its own number where others come before it;
    and a token for what is unknown where one is needed and the base has none."""
    added = source.backend.get_added_tokens_decoder()
    ids = source.special_ids.tolist()
    if source.pad is not None and source.pad < len(ids):
        ids.remove(source.pad)
        ids.insert(source.pad, source.pad)
    texts = {number: source.backend.id_to_token(number) or "" for number in ids}
    tokens = [added.get(number) or AddedToken(texts[number], special=True, normalized=False) for number in ids]
    if needs_unknown and source.unk is None:
        text = "[UNK]" if source.special_tokens["cls"].startswith("[") else "<unk>"
        tokens.append(AddedToken(text, special=True, normalized=False))
    return tokens


def _other_added_tokens(source: Tokenizer) -> list[AddedToken]:
    """What somebody added to the base that is no special token, in the order of the ids."""
    added = sorted(source.backend.get_added_tokens_decoder().items())
    return [token for number, token in added if number not in source.special_ids]


def _alphabet(
    counts: Mapping[str, int], letters_of: Callable[[str], Iterable[str]], most: int
) -> tuple[list[str], Callable[[str], list[str | None]]]:
    """The commonest letters, at most so many, sorted; and what cuts a word into them, with None for other letters."""
    letters: Counter[str] = Counter()
    for word, count in counts.items():
        for letter in letters_of(word):
            letters[letter] += count
    kept = set(sorted(letters, key=lambda letter: (-letters[letter], letter))[:most])

    def cut(word: str) -> list[str | None]:
        return [letter if letter in kept else None for letter in letters_of(word)]

    return sorted(kept), cut


def _wordpiece(counts: Mapping[str, int], names: Sequence[str], room: int, unknown: str) -> models.WordPiece:
    letters, cut = _alphabet(counts, marked, room // 2)
    pieces = dict.fromkeys([*names, *sorted({*letters, *(letter.removeprefix(PREFIX) for letter in letters)})])
    join = joiner(PREFIX)
    if len(pieces) < len(names) + room:
        for pair, _ in best_spans(sequences(counts, cut), pairs, join, LEAST_COUNT):
            pieces[join(pair)] = None
            if len(pieces) == len(names) + room:
                break
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    return models.WordPiece(
        vocabulary, unk_token=unknown, max_input_chars_per_word=LONGEST_WORD, continuing_subword_prefix=PREFIX
    )


def _bytes(counts: Mapping[str, int], names: Sequence[str], room: int) -> models.BPE:
    """All bytes, and as many pieces of several bytes as there is room for."""
    pieces = dict.fromkeys([*names, *sorted(pre_tokenizers.ByteLevel.alphabet())])
    merges: list[tuple[str, str]] = []
    join = joiner("")
    most = len(pieces) + room
    if room:
        for pair, _ in best_spans(sequences(counts, list), pairs, join, LEAST_COUNT):
            merges.append(pair)
            pieces[join(pair)] = None
            if len(pieces) == most:
                break
    return models.BPE({piece: number for number, piece in enumerate(pieces)}, merges)


def _unigram(counts: Mapping[str, int], names: Sequence[str], room: int, unknown: str) -> models.Unigram:
    _, cut = _alphabet(counts, list, room // 2)
    words: Counter[str] = Counter()
    for sequence, count in sequences(counts, cut).items():
        for part in _parts().findall("".join(sequence)):
            words[part] += count
    scores = {piece: score for piece, score in fit_unigram(words, room).items() if piece not in names}
    return models.Unigram([*((name, 0.0) for name in names), *scores.items()], names.index(unknown))


@cache
def _parts() -> re.Pattern[str]:
    """Letters and digits, or signs, with the mark of a space before them: no piece is made of both, as in SentencePiece
    none is of two scripts."""
    letters = rf"\w{combining_marks()}"
    return re.compile(rf"▁?[{letters}]+|▁?[^{letters}▁]+|▁")


def _post_processor(source: Tokenizer, backend: tokenizers.Tokenizer) -> processors.TemplateProcessing:
    """Special tokens around one text and around two, as the base has them."""
    opens, closes = source.special_tokens["cls"], source.special_tokens["sep"]
    pair = source.backend.encode("a", "b")
    between = [f"{closes}:0"] * max(1, pair.ids.count(source.sep) - 1)
    second = max(pair.type_ids, default=0)
    return processors.TemplateProcessing(
        single=[f"{opens}:0", "$A:0", f"{closes}:0"],
        pair=[f"{opens}:0", "$A:0", *between, f"$B:{second}", f"{closes}:{second}"],
        special_tokens=[(text, backend.token_to_id(text)) for text in dict.fromkeys((opens, closes))],
    )
