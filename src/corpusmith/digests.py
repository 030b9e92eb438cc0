"""What identifies content: SHA-256 of files and of JSON values, and small files that bear a digest of themselves."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def digest_json(value: Any) -> str:
    """SHA-256 of a JSON value in canonical form."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def digest_file(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def seal(content: Mapping[str, Any]) -> str:
    """An object as JSON text with a digest of itself, for `unseal`; all its keys are strings."""
    return json.dumps({**content, "seal": digest_json(content)}, indent=2, ensure_ascii=False) + "\n"


def unseal(text: str | bytes) -> dict[str, Any]:
    """The object that `seal` made this text of.

    Raises:
        ValueError: the text is no such object, or was changed.
    """
    return unsealed(read_object(text))


def read_object(text: str | bytes) -> dict[str, Any]:
    """The object that a JSON text holds.

    Raises:
        ValueError: it holds none.
    """
    try:
        content = json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(content, dict):
        raise ValueError("not a JSON object")
    return content


def unsealed(content: dict[str, Any]) -> dict[str, Any]:
    """A sealed object without its digest of itself.

    Raises:
        ValueError: it was changed, or never sealed.
    """
    if content.pop("seal", None) != digest_json(content):
        raise ValueError("its content does not match its digest")
    return content
