"""Results of benchmarks: one JSON file each, with what they were measured on."""

from __future__ import annotations

import json
from pathlib import Path

from corpusmith import environment

RESULTS = Path(__file__).parent / "results"


def write_results(path: Path, content: dict) -> None:
    """Write `content` with the benchmark's name (the file's), the date, the machine and the versions before it."""
    head = {
        "benchmark": path.stem,
        "date": environment.now(),
        "machine": environment.machine(),
        "versions": environment.versions(),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(head | content, indent=1) + "\n", encoding="utf-8")


def update_results(path: Path, part: str, content: dict) -> None:
    """Replace one part of a file of results, whose other parts were measured at other times."""
    write_results(path, {"parts": read_parts(path) | {part: {"date": environment.now(), **content}}})


def read_parts(path: Path) -> dict[str, dict]:
    """What `update_results` wrote, by part; empty where there is no such file."""
    return json.loads(path.read_text(encoding="utf-8")).get("parts", {}) if path.exists() else {}
