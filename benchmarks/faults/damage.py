"""Whatever becomes of a finished build's files, it is named, and the same command mends it.

Each file of each artefact is truncated, and has one random bit flipped; each artefact is deleted; each manifest is one
of the future. Searching the damaged build must end with one sentence where the damage is in what is searched, and
building again must say aloud what was damaged and end with the bytes of the undamaged build; what a newer version made
must not be touched. Two builds in one folder: the second ends with a sentence. A clock that jumps by years: the same
bytes.

    python -m benchmarks.faults.damage
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from benchmarks.faults.disk import one_sentence
from benchmarks.faults.kills import Victim, make_victim, options
from benchmarks.faults.launcher import Fault, Launcher, require_interposition
from benchmarks.faults.material import MACHINES_OWN, THREE, content_of, differences
from benchmarks.record import update_results

QUERY = "number 17 ends here"
FOR_USERS = ("model", "index")
FUTURE = 99


def artefacts(folder: Path) -> list[Path]:
    """Folders of all finished artefacts of a build."""
    manifests = [*folder.glob("steps/*/manifest.json"), *(folder / name / "manifest.json" for name in FOR_USERS)]
    return sorted(path.parent for path in manifests)


def damaged_files(victim: Victim, rng: np.random.Generator, every: int) -> Iterator[dict]:
    """Each file of each artefact (or every n-th) truncated, and with one bit flipped."""

    def truncate(path: Path) -> None:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    def flip(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
        path.write_bytes(content)

    files = [path for artefact in artefacts(victim.folder) for path in sorted(artefact.rglob("*"))]
    for path in [path for path in files if path.is_file() and path.stat().st_size][::every]:
        for name, harm in (("truncated", truncate), ("bit flipped", flip)):
            yield _harmed(victim, name, path, harm)


def _harmed(victim: Victim, name: str, path: Path, harm: Callable[[Path], None]) -> dict:
    """Harm a file (alone: hard links to it are cut), search, build again, and compare."""
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)
    harm(path)
    searched = victim.launcher.run("search", victim.folder, QUERY)
    built = victim.launcher.run(*victim.command, "--out", victim.folder)
    odd = differences(content_of(victim.folder), victim.expected)
    place = path.relative_to(victim.folder).as_posix()
    named = path.name in built.out and "built again" in built.out
    if place.startswith(FOR_USERS):
        answered = one_sentence(searched) and path.name in searched.err
    else:
        answered = searched.code == 0
    sound = answered and built.code == 0 and named and not odd
    said = (searched.err + built.err)[-300:].replace(str(victim.folder), "OUT")
    return {"damage": name, "file": place, "code": built.code, "said": said, "differs": odd, "sound": sound}


def deleted_artefacts(victim: Victim, every: int) -> Iterator[dict]:
    """Each artefact (or every n-th) deleted, whatever was made from it."""
    for artefact in artefacts(victim.folder)[::every]:
        shutil.rmtree(artefact)
        built = victim.launcher.run(*victim.command, "--out", victim.folder)
        odd = differences(content_of(victim.folder), victim.expected)
        place = artefact.relative_to(victim.folder).as_posix()
        yield {"damage": "deleted", "file": place, "code": built.code, "differs": odd, "sound": not (built.code or odd)}


def future_manifests(victim: Victim, every: int) -> Iterator[dict]:
    """Each manifest (or every n-th) with a format that this version does not know; nothing may be changed."""
    from corpusmith.digests import seal

    for artefact in artefacts(victim.folder)[::every]:
        path = artefact / "manifest.json"
        now = path.read_bytes()
        content = json.loads(now)
        del content["seal"]
        path.write_text(seal(content | {"format": FUTURE}), encoding="utf-8")
        before = _bytes_of(victim.folder)
        built = victim.launcher.run(*victim.command, "--out", victim.folder)
        untouched = _bytes_of(victim.folder) == before
        path.write_bytes(now)
        sound = one_sentence(built) and "upgrade" in built.err and untouched
        said = built.err[-300:].replace(str(victim.folder), "OUT")
        place = path.relative_to(victim.folder).as_posix()
        yield {"damage": "of the future", "file": place, "code": built.code, "said": said, "sound": sound}


def _bytes_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name not in MACHINES_OWN
    }


def two_at_once(victim: Victim) -> dict:
    """A second build in the folder of one that is running."""
    shutil.rmtree(victim.folder)
    first = victim.launcher.start([*victim.command, "--out", victim.folder], Fault())
    while not (victim.folder / "steps").exists():
        time.sleep(0.01)
    second = victim.launcher.run(*victim.command, "--out", victim.folder)
    ended = victim.launcher.wait(first)
    odd = differences(content_of(victim.folder), victim.expected)
    sound = one_sentence(second) and "another build is running" in second.err and ended.code == 0 and not odd
    said = second.err.replace(str(victim.folder), "OUT")
    return {"damage": "two builds at once", "code": second.code, "said": said, "differs": odd, "sound": sound}


def jumping_clock(victim: Victim) -> dict:
    """The wall clock jumps by years at every look at it."""
    shutil.rmtree(victim.folder)
    built = victim.launcher.run(
        *victim.command, "--out", victim.folder, prepare=lambda library: library.fault_jump_clock()
    )
    odd = differences(content_of(victim.folder), victim.expected)
    created = {json.loads((path / "manifest.json").read_text())["created"][:4] for path in artefacts(victim.folder)}
    sound = built.code == 0 and not odd and len(created) > 1
    return {"damage": "jumping clock", "years": sorted(created), "code": built.code, "differs": odd, "sound": sound}


def main() -> None:
    """Damage, mend, write what happened; exit code 1 if anything went unnoticed or was not mended."""
    parser = options(__doc__, tokens=6_000, objectives=THREE)
    parser.add_argument("--every", type=int, default=1, help="only every n-th file and artefact")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    require_interposition("benchmarks.faults.damage")
    records = []
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        victim = make_victim(Launcher(scratch), scratch, tuple(arguments.objectives), arguments.tokens)
        shutil.copytree(scratch / "whole", victim.folder)
        rng = np.random.default_rng(arguments.seed)
        every = arguments.every
        parts = damaged_files(victim, rng, every), deleted_artefacts(victim, every), future_manifests(victim, every)
        for part in parts:
            for record in part:
                records.append(record)
                print(len(records), "" if record["sound"] else record, record["damage"], record["file"], flush=True)
        records += [two_at_once(victim), jumping_clock(victim)]
    failed = [record for record in records if not record["sound"]]
    counts = dict(Counter(record["damage"] for record in records))
    update_results(arguments.results, "damage", {"seed": arguments.seed, "tried": counts, "failed": failed})
    print(f"{counts}; {len(failed)} went unnoticed or were not mended")
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    main()
