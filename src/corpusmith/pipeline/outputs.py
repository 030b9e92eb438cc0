"""What a build writes into its folder, and what must not stand there: a person's own files are never written over.

The folder may hold anything else, and documents or a model may lie beside what is written. Nothing is begun where an
output would replace what corpusmith did not make, or what this very build reads. A folder in which a build has run
before (it holds the lock) is corpusmith's: what is damaged there is made again, and `artefact.writing` sets aside what
it does not know.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from corpusmith.artefact import FILES, FOR_USERS, STEPS, has_manifest, is_kept_aside, is_nothing
from corpusmith.disk import naming_machine_errors
from corpusmith.errors import RecipeError
from corpusmith.locks import LOCK
from corpusmith.recipe import Recipe


def refuse_to_overwrite(
    folder: Path, paths: Sequence[Path], recipes: Iterable[Recipe], recipe_files: Iterable[Path] = ()
) -> None:
    """Stop before a build into `folder` that would replace a person's files.

    Raises:
        MachineError: the folder cannot be looked into.
        RecipeError: the folder's name is no UTF-8, something stands where an output belongs that corpusmith did not
            make, or an output is, or holds, the documents, a recipe or a model of this build.
    """
    try:
        str(folder).encode()
    except UnicodeEncodeError:  # neither Arrow nor tokenizers open such a path
        raise RecipeError(f"--out {folder} is no name in UTF-8; choose another --out.") from None
    _refuse_inputs(folder, [*paths, *recipe_files, *(path for recipe in recipes for path in read_by(recipe))])
    with naming_machine_errors(folder):
        strange = _strangers(folder)
    if strange:
        raise RecipeError(
            f"{strange[0]} stands where the build would write and is not known as corpusmith's; move it away, or "
            "choose another --out."
        )


def _strangers(folder: Path) -> list[Path]:
    """What stands in the outputs' places and is not known as corpusmith's."""
    if (folder / LOCK).is_file():
        return []
    steps = folder / STEPS
    artefacts = [folder / name for name in FOR_USERS]
    artefacts += sorted(path for path in steps.iterdir() if not is_kept_aside(path)) if steps.is_dir() else []
    strange = [path for path in artefacts if not has_manifest(path) and not is_nothing(path)]
    if not any(map(has_manifest, artefacts)):
        strange += [folder / name for name in FILES if os.path.lexists(folder / name)]
    return strange


def read_by(recipe: Recipe) -> list[Path]:
    """Files and folders that a recipe names, of those that are there."""
    named = [
        recipe.model.base,
        *(getattr(part, "general", None) for part in (recipe.start.vocabulary, recipe.start.transfer)),
    ]
    named += [name for stage in recipe.stages for member in stage.objective.members() for name in member.models()]
    return [Path(name) for name in named if name and os.path.exists(name)]


def _refuse_inputs(folder: Path, inputs: Iterable[Path]) -> None:
    outputs = {name: Path(os.path.realpath(folder / name)) for name in (*FOR_USERS, STEPS, *FILES, LOCK)}
    for path in inputs:
        place = Path(os.path.realpath(path))
        if place == Path(os.path.realpath(folder)) and place.is_dir():
            raise RecipeError(
                f"--out {folder} is a folder that the build reads; choose another, a new folder within it if you like."
            )
        for name, output in outputs.items():
            if place.is_relative_to(output):
                raise RecipeError(
                    f"{path} is read by this build, which would replace {folder / name}; choose another --out."
                )


def refuse_to_replace(file: Path, folder: Path, texts: Path) -> None:
    """Stop before vectors of `texts`, by the model in `folder`, are written over anything but such vectors.

    Raises:
        RecipeError: `file` is no regular file in a folder that is there, holds something else than a NumPy array, or
            belongs to the build or the texts.
    """
    place = Path(os.path.realpath(file))
    if file.is_dir() or not file.parent.is_dir():
        reason = "it must be a file in a folder that is there"
    elif texts.exists() and place == Path(os.path.realpath(texts)):
        reason = "the texts are read from it"
    elif any(place.is_relative_to(os.path.realpath(folder / part)) for part in (*FOR_USERS, STEPS)):
        reason = "it belongs to the build"
    elif file.exists() and not file.is_file():
        reason = "it is no regular file"
    elif file.exists() and not _holds_array(file):
        reason = "what is there is no NumPy file"
    else:
        return
    raise RecipeError(f"cannot write {file}: {reason}; choose another --out.")


def _holds_array(path: Path) -> bool:
    """Whether it begins as .npy files do, or is empty."""
    with path.open("rb") as file:
        return file.read(6) in (b"", b"\x93NUMPY")
