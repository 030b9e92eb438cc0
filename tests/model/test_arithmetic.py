import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from corpusmith import environment
from corpusmith.model import arithmetic

CPU = torch.device("cpu")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[SimpleNamespace]:
    """A machine whose rates a test may set, with a cache folder of its own."""
    found = SimpleNamespace(rates={"bf16": 4e11, "float32": 2e11}, measured=0, cache=tmp_path / "cache")

    def rate(device: torch.device, precision: str) -> float:
        found.measured += 1
        return found.rates[precision]

    monkeypatch.setattr(arithmetic, "product_rate", rate)
    monkeypatch.setenv("XDG_CACHE_HOME", str(found.cache))
    arithmetic._fastest_on_processor.cache_clear()
    yield found
    arithmetic._fastest_on_processor.cache_clear()


def chosen_by_a_new_process() -> str:
    arithmetic._fastest_on_processor.cache_clear()
    return arithmetic.fastest_precision(CPU)


def test_bf16_is_chosen_where_it_is_clearly_faster(machine: SimpleNamespace) -> None:
    assert chosen_by_a_new_process() == "bf16"


@pytest.mark.parametrize("bf16", [0.4e11, 2.2e11])
def test_float32_is_chosen_where_bf16_is_emulated_or_hardly_faster(machine: SimpleNamespace, bf16: float) -> None:
    machine.rates["bf16"] = bf16
    assert chosen_by_a_new_process() == "float32"


def test_the_choice_is_measured_once_for_a_machine(machine: SimpleNamespace) -> None:
    chosen_by_a_new_process()
    machine.rates["bf16"] = 1e11
    assert chosen_by_a_new_process() == "bf16"
    assert machine.measured == 2


def test_another_processor_is_measured_anew(machine: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen_by_a_new_process()
    monkeypatch.setattr(environment, "processor", lambda: "another")
    machine.rates["bf16"] = 1e11
    assert chosen_by_a_new_process() == "float32"
    assert sorted(json.loads((machine.cache / "corpusmith" / "arithmetic.json").read_text()).values()) == [
        "bf16",
        "float32",
    ]


@pytest.mark.parametrize("content", ["{", "[]", '{"x": 1}'])
def test_a_damaged_cache_is_measured_again(machine: SimpleNamespace, content: str) -> None:
    path = machine.cache / "corpusmith" / "arithmetic.json"
    path.parent.mkdir(parents=True)
    path.write_text(content)
    assert chosen_by_a_new_process() == "bf16"
    assert "bf16" in json.loads(path.read_text()).values()


def test_a_cache_folder_that_cannot_be_made_is_no_error(machine: SimpleNamespace) -> None:
    machine.cache.write_text("a file is in the way")
    assert chosen_by_a_new_process() == "bf16"


def test_the_rate_of_a_product_is_a_rate() -> None:
    assert 1e8 < arithmetic.product_rate(CPU, "float32") < 1e15


def test_threads_are_cut_to_the_cores_there_are_and_never_added(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        monkeypatch.setattr(environment, "cores", lambda: 1)
        arithmetic.match_cores()
        assert torch.get_num_threads() == 1
        monkeypatch.setattr(environment, "cores", lambda: 8)
        arithmetic.match_cores()
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
