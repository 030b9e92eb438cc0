"""What several rooms' tests need alike: a small collection with judged queries, and the repository's own scripts."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType

import numpy as np

ROOT = Path(__file__).parent.parent


def load_script(name: str) -> ModuleType:
    """scripts/NAME.py as a module."""
    spec = importlib.util.spec_from_file_location(f"{name}_script", ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_documents(
    path: Path, sentences: Sequence[str], number: int, title: Callable[[int], str], drawn: int = 5, key: str = "_id"
) -> None:
    """A line a document: of `drawn` sentences and one that tells its number, `d0` onward by `key`."""
    rng = np.random.default_rng(0)
    with path.open("w") as file:
        for i in range(number):
            text = " ".join(sentences[j] for j in rng.permutation(len(sentences))[:drawn])
            file.write(json.dumps({key: f"d{i}", "title": title(i), "text": f"{text} Number {i} ends here."}) + "\n")


def write_queries(folder: Path, splits: Mapping[str, int], query: Callable[[int], str]) -> None:
    """Queries and qrels of a BEIR folder: in each split so many, document `d<i>` the answer of `q<i>`."""
    (folder / "qrels").mkdir()
    start = 0
    with (folder / "queries.jsonl").open("w") as file:
        for split, number in splits.items():
            numbers = range(start, start + number)
            file.writelines(json.dumps({"_id": f"q{i}", "text": query(i)}) + "\n" for i in numbers)
            lines = ["query-id\tcorpus-id\tscore", *(f"q{i}\td{i}\t1" for i in numbers)]
            (folder / "qrels" / f"{split}.tsv").write_text("\n".join(lines) + "\n")
            start += number
