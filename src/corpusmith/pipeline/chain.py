"""A chain of steps, each leaving one artefact, run in order; what is already built is not built again.

A step is reused when its key (options, seed, corpusmith's version, its parents' digests) is the one in the manifest
that stands in its folder and every file there is whole. Damage is said aloud and the step is run again; what a newer
corpusmith has made is left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import corpusmith
from corpusmith.artefact import Draft, Manifest, open_artefact, read_manifest, step_key, tidy, writing
from corpusmith.errors import ArtefactError, NewerArtefactError


@dataclass(frozen=True, slots=True)
class Step:
    """One step: `make` fills the draft, `place` names the folder for the artefact with this key.

    `parents` are names of earlier steps; `inputs` are digests from outside; `note` says in the plan what is done.
    """

    name: str
    place: Callable[[str], Path]
    make: Callable[[Draft], None]
    config: dict[str, Any]
    parents: tuple[str, ...] = ()
    inputs: tuple[tuple[str, str], ...] = ()
    resumable: bool = False
    note: str = ""


class Watcher(Protocol):
    """Whoever watches a build: a progress bar, plain lines, nothing."""

    def start(self, step: str, note: str, *, reused: bool) -> None:
        """A step begins, or is passed over because its artefact stands."""

    def advance(self, done: float, total: float | None, note: str = "") -> None:
        """The current step has come this far; `total` is None where the end is unknown."""

    def finish(self, seconds: float) -> None:
        """The current step has ended."""

    def say(self, text: str) -> None:
        """Something a person should know."""


class Silent:
    """A watcher that shows nothing."""

    def start(self, step: str, note: str, *, reused: bool) -> None:
        """Show nothing."""

    def advance(self, done: float, total: float | None, note: str = "") -> None:
        """Show nothing."""

    def finish(self, seconds: float) -> None:
        """Show nothing."""

    def say(self, text: str) -> None:
        """Show nothing."""


def _config(step: Step) -> dict[str, Any]:
    return {"corpusmith": corpusmith.__version__, **step.config}


def _key(step: Step, digests: dict[str, str], seed: int) -> tuple[str, dict[str, str]]:
    parents = {name: digests[name] for name in step.parents} | dict(step.inputs)
    return step_key(step.name, _config(step), parents, seed), parents


def reusable(steps: Sequence[Step], seed: int) -> dict[str, Manifest]:
    """The steps whose artefacts stand and would be reused, files unchecked; for the plan."""
    found: dict[str, Manifest] = {}
    for step in steps:
        if not all(parent in found for parent in step.parents):
            continue
        key, _ = _key(step, {name: m.digest for name, m in found.items()}, seed)
        try:
            manifest = read_manifest(step.place(key))
        except ArtefactError:
            continue
        if manifest.key == key:
            found[step.name] = manifest
    return found


def run(steps: Sequence[Step], seed: int, watcher: Watcher) -> Iterator[tuple[Step, Manifest, bool]]:
    """Run the steps in order; yields each with its manifest and whether it was reused."""
    digests: dict[str, str] = {}
    for step in steps:
        key, parents = _key(step, digests, seed)
        folder = step.place(key)
        manifest = _whole(folder, key, watcher)
        reused = manifest is not None
        if reused:
            tidy(folder, key)
        watcher.start(step.name, step.note, reused=reused)
        if manifest is None:
            with writing(
                folder, step.name, _config(step), parents, seed, resumable=step.resumable, say=watcher.say
            ) as draft:
                step.make(draft)
            manifest = read_manifest(folder)
            watcher.finish(manifest.seconds)
        digests[step.name] = manifest.digest
        yield step, manifest, reused


def _whole(folder: Path, key: str, watcher: Watcher) -> Manifest | None:
    """The manifest of the artefact in `folder` if it has this key and is whole."""
    try:
        if not folder.exists() or read_manifest(folder).key != key:
            return None
        return open_artefact(folder)
    except NewerArtefactError:
        raise
    except ArtefactError as error:
        watcher.say(f"{error} It is built again now.")
        return None
