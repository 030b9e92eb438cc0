from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from corpusmith.retrieval import vectors as module
from corpusmith.retrieval.base import Progress
from corpusmith.retrieval.vectors import encode_to_file


@pytest.fixture(autouse=True)
def windows_of_four(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WINDOW", 4)


class Encoder:
    """Row n gets n; dies in the window that holds row `deadly`."""

    def __init__(self, deadly: int = -1) -> None:
        self.deadly = deadly
        self.asked: list[tuple[int, int]] = []

    def __call__(self, start: int, stop: int, out: np.ndarray, progress: Progress) -> None:
        self.asked.append((start, stop))
        if start <= self.deadly < stop:
            out[: self.deadly - start] = -1.0
            raise KeyboardInterrupt
        out[:] = np.arange(start, stop)[:, None]
        progress(stop - start, stop - start)


@pytest.fixture
def interrupted(tmp_path: Path) -> Path:
    with pytest.raises(KeyboardInterrupt):
        encode_to_file(tmp_path / "v.npy", 10, 3, Encoder(deadly=5), key="a")
    return tmp_path / "v.npy"


def expected() -> np.ndarray:
    return np.repeat(np.arange(10, dtype=np.float32)[:, None], 3, axis=1)


def test_an_interrupted_call_goes_on_where_it_stopped(interrupted: Path) -> None:
    assert not interrupted.exists()
    second = Encoder()
    encode_to_file(interrupted, 10, 3, second, key="a")
    assert second.asked == [(4, 8), (8, 10)]
    assert np.array_equal(np.load(interrupted), expected())
    assert [path.name for path in interrupted.parent.iterdir()] == ["v.npy"]


def damage_marker(path: Path) -> None:
    path.with_name(".v.npy.rows").write_text("{")


def lose_vectors(path: Path) -> None:
    path.with_name(".v.npy.partial").unlink()


def flip_a_bit_of_a_finished_row(path: Path) -> None:
    vectors = np.load(path.with_name(".v.npy.partial"), mmap_mode="r+")
    vectors[1, 1] += 1
    vectors.flush()


@pytest.mark.parametrize("mishap", [damage_marker, lose_vectors, flip_a_bit_of_a_finished_row])
def test_what_cannot_be_trusted_is_encoded_again(interrupted: Path, mishap: Callable[[Path], None]) -> None:
    mishap(interrupted)
    second = Encoder()
    encode_to_file(interrupted, 10, 3, second, key="a")
    assert second.asked[0] == (0, 4)
    assert np.array_equal(np.load(interrupted), expected())


def test_other_texts_or_another_model_start_anew(interrupted: Path) -> None:
    second = Encoder()
    encode_to_file(interrupted, 8, 2, second, key="b")
    assert second.asked == [(0, 4), (4, 8)]
    assert np.load(interrupted).shape == (8, 2)


def test_progress_is_of_the_whole(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    encode_to_file(tmp_path / "v.npy", 10, 3, Encoder(), lambda done, total: told.append((done, total)))
    assert told == [(4, 10), (8, 10), (10, 10)]


def test_with_a_scratch_folder_a_whole_file_is_not_made_again(tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    for asked in ([(0, 4), (4, 8), (8, 10)], []):
        encoder = Encoder()
        encode_to_file(tmp_path / "v.npy", 10, 3, encoder, key="a", scratch=tmp_path / "scratch")
        assert encoder.asked == asked
    assert np.array_equal(np.load(tmp_path / "v.npy"), expected())


def test_no_texts_make_an_empty_array(tmp_path: Path) -> None:
    encode_to_file(tmp_path / "v.npy", 0, 3, Encoder())
    assert np.load(tmp_path / "v.npy").shape == (0, 3)
