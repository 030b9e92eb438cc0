"""Systems in processes of their own, over real pipes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from benchmarks.speed.workers import Worker, interpreters

WORK = """
import os, sys

def double(channel, start):
    print("starting")
    os.system("echo from a child process")
    channel.serve(lambda go: {"value": start + 2 * go})

def loop(channel):
    for step in range(3):
        channel.answer({"asked": channel.request()["go"], "step": step})

def die(channel):
    channel.request()
    raise RuntimeError("no such kernel")
"""


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Worker]:
    (tmp_path / "works.py").write_text(WORK)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return lambda function, **arguments: Worker(f"works:{function}", arguments)


def test_what_a_worker_prints_does_not_reach_its_answers(start: Callable[..., Worker]) -> None:
    with start("double", start=1) as worker:
        assert [worker.ask(go=go) for go in (3, 4)] == [{"value": 7}, {"value": 9}]
        assert worker.failure is None


def test_a_loop_may_keep_control_and_answer_from_within(start: Callable[..., Worker]) -> None:
    with start("loop") as worker:
        assert [worker.ask(go=go)["step"] for go in (5, 6)] == [0, 1]


def test_a_dead_worker_says_why_and_answers_nothing_more(start: Callable[..., Worker]) -> None:
    with start("die") as worker:
        assert worker.ask(go=1) is None
        assert "RuntimeError: no such kernel" in worker.failure
        assert worker.ask(go=2) is None


def test_interpreters_are_named_by_system() -> None:
    assert interpreters(["st, onnx=/envs/onnx/bin/python"]) == {"st, onnx": "/envs/onnx/bin/python"}
    with pytest.raises(SystemExit, match="NAME=PATH"):
        interpreters(["/envs/onnx/bin/python"])
