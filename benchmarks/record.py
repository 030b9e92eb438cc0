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
    parts = json.loads(path.read_text(encoding="utf-8")).get("parts", {}) if path.exists() else {}
    write_results(path, {"parts": parts | {part: {"date": environment.now(), **content}}})
