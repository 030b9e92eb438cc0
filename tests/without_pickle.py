"""Runs corpusmith's command line where nothing can be unpickled: whoever tries ends the process with exit code 99.

`pickle` and `torch.load` are replaced before anything is imported, and Python's own audit of unpickled classes is
listened to. The first argument "try" proves the trap: it unpickles something instead.
"""

from __future__ import annotations

import io
import os
import pickle
import sys
import traceback

import torch

CAUGHT = 99


def refuse(*_: object, **__: object) -> None:
    traceback.print_stack()
    sys.stderr.flush()
    os._exit(CAUGHT)


def main() -> None:
    payload = pickle.dumps(refuse)
    load = pickle.loads
    for name in ("load", "loads", "_load", "_loads"):
        setattr(pickle, name, refuse)
    pickle._Unpickler.load = refuse  # type: ignore[attr-defined]
    pickle.Unpickler = pickle._Unpickler  # type: ignore[misc, attr-defined]
    torch.load = refuse  # type: ignore[assignment]
    sys.addaudithook(lambda event, _: refuse() if event == "pickle.find_class" else None)
    if sys.argv[1] == "try":
        tries = {
            "load": torch.load,
            "loads": pickle.loads,
            "class": load,
            "unpickler": lambda data: pickle.Unpickler(io.BytesIO(data)).load(),
        }
        tries[sys.argv[2]](payload)
        return
    from corpusmith.cli import main as command

    command()


if __name__ == "__main__":
    main()
