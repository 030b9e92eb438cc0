from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpusmith.corpus.shards import BATCH, OFFSETS, TOKENS, TokenShards, write_shards
from corpusmith.errors import ArtefactError, ModelError


class Characters:
    """A tokenizer with a piece for each character: small, real, and easy to check."""

    def __init__(self, size: int = 2**16):
        self.size = size

    def encode(self, texts):
        return [np.array([ord(character) for character in text], dtype=np.int64) for text in texts]


@given(st.lists(st.text(st.characters(max_codepoint=0xFFFF, exclude_categories=["Cs"]), max_size=8), max_size=20))
@settings(deadline=None)
def test_every_text_gives_back_its_ids(tmp_path_factory, texts):
    folder = tmp_path_factory.mktemp("shards")
    write_shards(texts, Characters(), folder)
    shards = TokenShards.open(folder)
    assert ["".join(map(chr, ids)) for ids in shards] == texts
    assert shards.lengths.tolist() == [len(text) for text in texts]
    assert shards.n_tokens == sum(map(len, texts))


def test_many_batches_are_written_from_a_stream(tmp_path):
    count = 2 * BATCH + 3
    shards = write_shards((str(number) for number in range(count)), Characters(), tmp_path)
    assert len(shards) == count
    assert ["".join(map(chr, ids)) for ids in shards[BATCH - 1 : BATCH + 1]] == [str(BATCH - 1), str(BATCH)]
    assert "".join(map(chr, shards[-1])) == str(count - 1)


@pytest.mark.parametrize(("size", "dtype"), [(2**16, np.uint16), (2**16 + 1, np.uint32)])
def test_ids_take_two_bytes_where_the_vocabulary_allows(tmp_path, size, dtype):
    shards = write_shards(["ab"], Characters(size), tmp_path)
    assert shards[0].dtype == dtype
    assert np.load(tmp_path / TOKENS, allow_pickle=False).tolist() == [97, 98]


def test_tokens_are_mapped_and_read_only(tmp_path):
    shards = write_shards(["ab"], Characters(), tmp_path)
    assert isinstance(shards.tokens.base, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        shards[0][0] = 1


def test_the_same_texts_give_the_same_bytes(tmp_path):
    written = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_shards(["ab", "", "c"], Characters(), tmp_path / name)
        written.append([(tmp_path / name / file).read_bytes() for file in (TOKENS, OFFSETS)])
    assert written[0] == written[1]


def test_an_id_outside_the_vocabulary_is_refused(tmp_path):
    with pytest.raises(ModelError, match="gave the id 99 but has 99 entries"):
        write_shards(["abc"], Characters(size=99), tmp_path)


def test_a_row_that_does_not_exist_is_refused(tmp_path):
    shards = write_shards(["a"], Characters(), tmp_path)
    for row in (1, -2):
        with pytest.raises(IndexError, match="of 1 token sequences"):
            shards[row]


@pytest.mark.parametrize("name", [TOKENS, OFFSETS])
@pytest.mark.parametrize(("kept", "problem"), [(None, "missing"), (-2, "damaged"), (3, "damaged"), (0, "damaged")])
def test_missing_and_damaged_files_are_named(tmp_path, name, kept, problem):
    write_shards(["abc", "de"], Characters(), tmp_path)
    if kept is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:kept])
    with pytest.raises(ArtefactError, match=f"{name} is {problem}.*build the artefact again"):
        TokenShards.open(tmp_path)


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        (TOKENS, np.zeros(4, dtype=np.uint16), "holds 4 tokens where offsets.npy tells of 5"),
        (TOKENS, np.zeros(5), "does not hold token ids"),
        (OFFSETS, np.array([0, 6, 5]), "offsets.npy tells of 5"),
        (OFFSETS, np.array([1, 5]), "does not hold offsets"),
    ],
)
def test_files_that_do_not_fit_together_are_refused(tmp_path, name, array, message):
    write_shards(["abc", "de"], Characters(), tmp_path)
    np.save(tmp_path / name, array)
    with pytest.raises(ArtefactError, match=message):
        TokenShards.open(tmp_path)
