"""Where a link inside a document points to, as the id of another document of the same folder."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from urllib.parse import unquote, urlsplit


def resolve_links(document_id: str, targets: Iterable[str]) -> tuple[str, ...]:
    """Ids that relative `targets` name, seen from `document_id`; each once, in order.

    Links to other sites, to places outside the corpus root, and to the document itself are left out. Whether such a
    document exists is not known while streaming.
    """
    folder = posixpath.dirname(document_id)
    resolved = (_resolve(folder, target) for target in targets)
    return tuple(dict.fromkeys(id for id in resolved if id and id != document_id))


def _resolve(folder: str, target: str) -> str | None:
    try:
        parts = urlsplit(target.strip())
    except ValueError:
        return None
    if parts.scheme or parts.netloc or not parts.path:
        return None
    path = unquote(parts.path)
    joined = posixpath.normpath(path.lstrip("/") if path.startswith("/") else posixpath.join(folder, path))
    return None if joined.startswith("..") or joined == "." else joined
