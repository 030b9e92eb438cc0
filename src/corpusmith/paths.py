"""Paths as people give them; apart, since the command line needs it before anything heavy is imported."""

from __future__ import annotations

from pathlib import Path

from corpusmith.errors import RecipeError


def given_path(path: str | Path) -> Path:
    """A path as a person gives it.

    Raises:
        RecipeError: it is empty, as an unset variable of a shell is; that would be the current folder.
    """
    if path == "":
        raise RecipeError("a path is empty; name a file or a folder ('.' is the current one).")
    return Path(path)
