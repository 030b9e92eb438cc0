"""A folder that is whole or absent.

Every step of the chain leaves one artefact: files plus a `manifest.json` that says what made them (kind, options,
parents' digests, seed, versions) and what they are (a SHA-256 of each file). It is written in a `.partial` sibling,
synced to disk and renamed, so that a power cut leaves either the whole artefact or none. The manifest's `key` is the
digest of everything that determines the content: a step whose key is already there is not run again. Digests are
checked on every opening; SHA-256 runs at over 1 GB/s on current processors, and a damaged index is never searched.
The manifest, like every small file that later work relies on, bears a digest of itself (`seal`).
"""

from __future__ import annotations

import glob
import itertools
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from corpusmith import environment
from corpusmith.digests import digest_file, digest_json, read_object, seal, unsealed
from corpusmith.disk import link_file, naming_machine_errors, sync, write_whole
from corpusmith.errors import ArtefactError, EarlierArtefactError, NewerArtefactError

FORMAT = 3
MANIFEST = "manifest.json"
STEPS = "steps"
FOR_USERS = ("model", "index")
"""Steps whose folders stand at the top of a build; the others stand under `steps/`."""
FILES = ("report.html", "summary.json", "recipe.toml", "compare.json", "compare.md")
"""What builds and comparisons write at the top of their folder, beside artefacts."""
UNFINISHED = ".unfinished"
"""Follows a step's name where an interrupted attempt is kept while the step runs with other options."""
ASIDE = ".set-aside"
"""Follows the name of what stood where an artefact belongs and was not, or not only, one."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What `manifest.json` says. `digest` identifies the content, `key` what determined it."""

    kind: str
    key: str
    digest: str
    config: dict[str, Any]
    parents: dict[str, str]
    seed: int
    files: dict[str, dict[str, Any]]
    versions: dict[str, str]
    created: str
    seconds: float
    peak_memory_bytes: int
    cost: dict[str, float] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """Size of the artefact's files on disk."""
        return sum(entry["bytes"] for entry in self.files.values())


@dataclass(slots=True)
class Draft:
    """An artefact being written: files go into `folder`; `cost` (tokens, flops) and `facts` go into the manifest.

    Files named in `volatile` (paths within the folder) tell what the machine did, such as timings: they are kept and
    checked, but are no part of what identifies the content. The folder `scratch`, empty at first, is for what a
    resumable step wants to find again after an interruption; it is removed when the artefact stands.
    """

    folder: Path
    scratch: Path
    volatile: set[str] = field(default_factory=set)
    cost: dict[str, float] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)


def step_key(kind: str, config: Mapping[str, Any], parents: Mapping[str, str], seed: int) -> str:
    """The digest of all that determines an artefact: its kind, options, parents' digests and seed."""
    return digest_json({"format": FORMAT, "kind": kind, "config": config, "parents": parents, "seed": seed})


@contextmanager
def writing(
    folder: Path,
    kind: str,
    config: Mapping[str, Any],
    parents: Mapping[str, str],
    seed: int,
    *,
    resumable: bool = False,
    say: Callable[[str], object] = lambda text: None,
) -> Iterator[Draft]:
    """Write the artefact `folder`: fill `draft.folder` in the block; it appears under its name when the block ends.

    With `resumable`, what an interrupted attempt with the same key left behind is still in `draft.folder`, for the
    step to go on from, and an attempt with another key is kept beside it; otherwise the block starts with an empty
    folder. An earlier artefact of the same name is replaced in the end, and stays usable until then; whatever else
    stands there, or was put into it, is set aside. `say` is told where things are kept.

    Raises:
        MachineError: the disk is full or not writable; what was finished before is kept.
    """
    key = step_key(kind, config, parents, seed)
    with naming_machine_errors(folder):
        draft = _prepare(folder, key, resumable, say)
        partial = draft.folder
        environment.make_room()
        environment.forget_peak_memory()
        started = environment.seconds()
        yield draft
        files = {
            path.relative_to(partial).as_posix(): {"sha256": digest_file(path), "bytes": path.stat().st_size}
            for path in sorted(partial.rglob("*"))
            if path.is_file()
        }
        manifest = {
            "format": FORMAT,
            "kind": kind,
            "key": key,
            "digest": digest_json([key, {name: files[name]["sha256"] for name in files if name not in draft.volatile}]),
            "config": dict(config),
            "parents": dict(parents),
            "seed": seed,
            "files": files,
            "versions": environment.versions(),
            "created": environment.now(),
            "seconds": round(environment.seconds() - started, 3),
            "peak_memory_bytes": environment.peak_memory_bytes(),
            "cost": draft.cost,
            "facts": draft.facts,
        }
        (partial / MANIFEST).write_text(seal(manifest), encoding="utf-8")
        if aside := _publish(partial, folder):
            say(f"What stood in {folder} is not all known as corpusmith's; it is in {aside} now.")
        tidy(folder, key)


def _beside(folder: Path, suffix: str) -> Path:
    """A hidden sibling of an artefact that is being written: "partial", "scratch", "key", "replaced"."""
    return folder.with_name(f".{folder.name}.{suffix}")


def _prepare(folder: Path, key: str, resumable: bool, say: Callable[[str], object]) -> Draft:
    """Make the folders to write in; keep what is there only if it was meant for this very key."""
    draft, marker = Draft(_beside(folder, "partial"), _beside(folder, "scratch")), _beside(folder, "key")
    if not (resumable and _is_marked(marker, key)):
        if resumable and (aside := _set_attempt_aside(folder, marker, keep=key)):
            say(
                f"{folder.name} was interrupted with other options or inputs; what it had done is kept in {aside}, for "
                "when they are the same again. Delete it if you need the space."
            )
        marker.unlink(missing_ok=True)
        for left in (draft.folder, draft.scratch):
            if left.exists():
                shutil.rmtree(left)
    folder.parent.mkdir(parents=True, exist_ok=True)
    if not _is_marked(marker, key):  # what is right is not written anew: torn, it would disown what was done
        write_whole(marker, key)
    if resumable:
        _take_attempt_back(folder, key)
    (draft.folder / MANIFEST).unlink(missing_ok=True)
    for wanted in (draft.folder, draft.scratch):
        wanted.mkdir(parents=True, exist_ok=True)
    return draft


def _attempt(folder: Path, key: str) -> Path:
    """Where an interrupted attempt with this key is kept while the step runs with another."""
    return folder.with_name(f"{folder.name}{UNFINISHED}-{key[:16]}")


def _set_attempt_aside(folder: Path, marker: Path, keep: str) -> Path | None:
    """Move an interrupted attempt, if it has done anything, to where it is kept; where that is. One is kept, and the
    one with the key `keep`. Cut off, it is done to the end by the next call, for the marker stays until then."""
    done = [part for part in (_beside(folder, "partial"), _beside(folder, "scratch")) if not is_nothing(part)]
    key = marker.read_text(errors="replace") if marker.is_file() else ""
    if not done or not re.fullmatch("[0-9a-f]{64}", key):
        return None
    aside = _attempt(folder, key)
    for other in folder.parent.glob(f"{glob.escape(folder.name)}{UNFINISHED}-*"):
        if other not in (aside, _attempt(folder, keep)):
            shutil.rmtree(other)
    aside.mkdir(exist_ok=True)
    for part in done:
        part.rename(aside / part.suffix[1:])
    return aside


def _take_attempt_back(folder: Path, key: str) -> None:
    """Move what an interrupted attempt with this key has done back to where it goes on."""
    aside = _attempt(folder, key)
    if aside.is_dir():
        for part in sorted(aside.iterdir()):
            part.rename(_beside(folder, part.name))
        aside.rmdir()


def _is_marked(marker: Path, key: str) -> bool:
    return marker.is_file() and marker.read_bytes() == key.encode()


def _publish(partial: Path, folder: Path) -> Path | None:
    """Sync everything in `partial` and rename it to `folder`, moving an older one out of the way until the new one
    stands; where it goes for good, if it is more than an artefact."""
    for path in sorted(partial.rglob("*")):
        sync(path)
    sync(partial)
    replaced = _beside(folder, "replaced")
    if replaced.exists():
        shutil.rmtree(replaced)
    aside = _free_name(folder) if _holds_more(folder, partial) else None
    if os.path.lexists(folder):
        folder.rename(aside or replaced)
    partial.rename(folder)
    sync(folder.parent)
    return aside


def _holds_more(folder: Path, successor: Path) -> bool:
    """Whether anything stands in the place of an artefact that is neither its own nor its successor's by name; without
    a manifest nothing is known to be."""
    if is_nothing(folder):
        return False
    if folder.is_symlink() or not (folder / MANIFEST).is_file():
        return True
    try:
        own = set(read_manifest(folder).files)
    except ArtefactError:
        own = set()
    files = (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    return any(
        path.relative_to(folder).as_posix() not in own and not (successor / path.relative_to(folder)).exists()
        for path in files
    )


def _free_name(folder: Path) -> Path:
    names = itertools.chain([f"{folder.name}{ASIDE}"], (f"{folder.name}{ASIDE}-{n}" for n in itertools.count(2)))
    return next(place for place in map(folder.with_name, names) if not os.path.lexists(place))


def is_kept_aside(path: Path) -> bool:
    """Whether this stands beside an artefact and is none: it is being written, or was set aside."""
    return path.name.startswith(".") or ASIDE in path.name or UNFINISHED in path.name


def is_nothing(path: Path) -> bool:
    """Whether nothing can be lost here: there is nothing, or an empty folder."""
    return not os.path.lexists(path) or (path.is_dir() and not any(path.iterdir()))


def has_manifest(folder: Path) -> bool:
    """Whether a manifest of corpusmith stands in a folder, whole or damaged, of whatever version."""
    path = folder / MANIFEST
    try:
        content = path.read_bytes() if path.is_file() else b""
    except OSError:
        return False
    fields = (b'"format"', b'"kind"', b'"key"', b'"digest"', b'"config"', b'"parents"')
    return sum(field in content for field in fields) >= len(fields) // 2


def tidy(folder: Path, key: str) -> None:
    """Remove what writing the finished artefact with this key may have left beside it, were it cut off in its last
    moments. What an unfinished attempt with another key has done stays, for it to go on with."""
    shutil.rmtree(_beside(folder, "replaced"), ignore_errors=True)
    if _is_marked(_beside(folder, "key"), key):
        for suffix in ("partial", "scratch"):
            shutil.rmtree(_beside(folder, suffix), ignore_errors=True)
        _beside(folder, "key").unlink()


def link_folder(source: Path, target: Path) -> None:
    """The files of an artefact under another name, without copying their bytes where the file system can link."""
    for path in sorted(source.rglob("*")):
        if path.is_file() and path.name != MANIFEST:
            link_file(path, target / path.relative_to(source))


def read_manifest(folder: Path) -> Manifest:
    """The manifest of the artefact `folder`, its files unchecked.

    Raises:
        ArtefactError: there is none, it is damaged, or another version of corpusmith wrote it.
        OSError: it cannot be read now; that is no reason to make the artefact again.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise ArtefactError(f"{folder} holds no finished artefact (no {MANIFEST}); run `corpusmith build`.")
    try:
        content = read_object(path.read_bytes())
        written = content.get("format")
        if not isinstance(written, int):
            raise ValueError(f"its format is {written!r}")
        if written != FORMAT:
            raise _other_format(path, written)
        del unsealed(content)["format"]
        manifest = Manifest(**content)
        if all(isinstance(entry["sha256"], str) for entry in manifest.files.values()) and manifest.bytes >= 0:
            return manifest
        raise ValueError("its list of files is not one")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtefactError(f"{path} is damaged ({error}); delete {folder} and run the build again.") from error


def _other_format(path: Path, written: int) -> ArtefactError:
    if written > FORMAT:
        return NewerArtefactError(
            f"{path} has format {written}, this corpusmith reads format {FORMAT}; upgrade corpusmith to use it, or "
            "choose another folder."
        )
    return EarlierArtefactError(
        f"{path} has format {written} of an earlier corpusmith, this one reads format {FORMAT}; run the build again."
    )


def open_artefact(folder: Path, kind: str | None = None) -> Manifest:
    """The manifest of `folder` after checking every file's size and digest.

    Raises:
        ArtefactError: the artefact is absent, of another kind, or a file is missing or changed; the file is named.
    """
    manifest = read_manifest(folder)
    if kind is not None and manifest.kind != kind:
        raise ArtefactError(f"{folder} is a {manifest.kind} artefact, not a {kind}.")
    for name, entry in manifest.files.items():
        path = folder / name
        if not path.is_file():
            raise ArtefactError(f"{path} is missing; delete {folder} and run the build again.")
        if path.stat().st_size != entry["bytes"] or digest_file(path) != entry["sha256"]:
            raise ArtefactError(
                f"{path} is damaged: its content does not match the manifest; delete {folder} and run the build again."
            )
    return manifest


def refuse_mismatch(folder: Path, index: Manifest, model: Manifest) -> None:
    """Stop where an index was made with another model than the one beside it: between the two a build was cut off, or
    they were copied from different ones. Indexes of earlier versions do not say with which model they were made.

    Raises:
        ArtefactError: they do not belong together.
    """
    if index.parents.get("model", model.digest) != model.digest:
        raise ArtefactError(f"in {folder} the index was made with another model than is there; run the build again.")
