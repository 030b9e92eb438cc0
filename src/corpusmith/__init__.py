"""corpusmith: from a pile of domain documents to a model that knows the domain and a search engine over it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from corpusmith.errors import CorpusmithError

if TYPE_CHECKING:
    from corpusmith.pipeline import build, compare, merge
    from corpusmith.search import load

__version__ = "0.1.0"
__all__ = ["CorpusmithError", "__version__", "build", "compare", "load", "merge"]

_LAZY = dict.fromkeys(("build", "compare", "merge"), "corpusmith.pipeline") | {"load": "corpusmith.search"}


def __getattr__(name: str) -> Any:
    """Import what is heavy only when it is used: `import corpusmith` stays under 0.3 s."""
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'corpusmith' has no attribute '{name}'")
