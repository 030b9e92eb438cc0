"""Whatever the disk refuses, a build ends with one sentence, and goes on later as if nothing had happened.

Every change that a build makes to the disk is listed by where it is made (the kind of operation and the file, numbers
left out). At each such place the disk is full from then on (ENOSPC), or fails once (EIO), at the first or the last time
that the build gets there. Each time the command must end with exit code 2 and one sentence, or, where what failed is
not needed, do its work all the same; every artefact that stands must be whole; and the same command, given again on a
sound disk, must end with the bytes of a build that was never disturbed. Reading the documents fails as well (EIO):
those are named in dropped.jsonl, or the command ends with a sentence.

    python -m benchmarks.faults.disk
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

from benchmarks.faults.kills import Victim, make_victim, options
from benchmarks.faults.launcher import (
    BROKEN,
    FULL,
    READ,
    SYNC,
    WRITE,
    Ended,
    Fault,
    Launcher,
    Trial,
    require_interposition,
)
from benchmarks.faults.material import THREE, content_of, differences
from benchmarks.record import update_results

OPERATIONS = {"disk full": (FULL, WRITE), "I/O error": (BROKEN, WRITE | SYNC)}
SYNCS = ("fsync", "fdatasync")
WRITES = ("write", "pwrite", "pwrite64", "writev", "fwrite", "posix_fallocate", "posix_fallocate64", "mkdir")
READINGS = 12
"""How many of the reads of the documents, and of the build's own files, are made to fail."""


def places(operations: list[str], kinds: tuple[str, ...], out: Path) -> dict[str, tuple[int, int]]:
    """Where a command changes the disk: the number of the first and of the last operation at each place, counted
    among the operations of these kinds."""
    found: dict[str, tuple[int, int]] = {}
    counted = [operation for operation in operations if operation.partition(" ")[0] in kinds]
    for number, operation in enumerate(counted, 1):
        place = re.sub(r"\d{3,}", "N", operation.replace(str(out), ""))
        first, _ = found.get(place, (number, number))
        found[place] = (first, number)
    return found


def one_sentence(ended: Ended) -> bool:
    """Whether a command ended as it must where something is wrong: exit code 2, one line that begins with "error: "."""
    lines = ended.err.strip().splitlines()
    return ended.code == 2 and len(lines) == 1 and lines[0].startswith("error: ") and lines[0].endswith(".")


def faults(victim: Victim, folder: Path, corpus: Path) -> list[tuple[str, str, Fault]]:
    """Every fault to be tried: its name, its place, and how it is brought about."""
    whole = [operation.replace("/whole", "/killed") for operation in victim.whole.operations]
    whole = [operation for operation in whole if str(folder) in operation]
    found = []
    for name, (kind, operations) in OPERATIONS.items():
        kinds = WRITES if operations == WRITE else (*WRITES, *SYNCS)
        for place, numbers in places(whole, kinds, folder).items():
            found += [(name, place, Fault(kind, at, operations, str(folder))) for at in sorted(set(numbers))]
    for what, pattern in (("documents", corpus), ("artefacts", folder)):
        shutil.rmtree(folder, ignore_errors=True)
        counting = Fault(operations=READ, pattern=str(pattern))
        reads = len(victim.launcher.run(*victim.command, "--out", folder, fault=counting).operations)
        for at in sorted({1 + reads * part // READINGS for part in range(READINGS)}):
            found.append(("unreadable", f"reading {what}", Fault(BROKEN, at, READ, str(pattern))))
    return found


def disturbed(victim: Victim, folders: list[Path], what: str, place: str, fault: Fault) -> Trial[dict]:
    """A build with a fault, and another one in the same folder, one of `folders`, without: how the first ended,
    artefacts that were not whole then, and what differs once it ran again."""
    folder = folders.pop()
    shutil.rmtree(folder, ignore_errors=True)
    command = (*victim.command, "--out", folder)
    ended = yield command, replace(fault, pattern=fault.pattern.replace(str(victim.folder), str(folder))), None
    broken = _not_whole(folder)
    again = yield command, Fault(), None
    odd = differences(content_of(folder), victim.expected) if again.code == 0 else [f"exit code {again.code}"]
    sound = (ended.code == 0 or one_sentence(ended)) and not broken and not odd
    said = ended.err.strip()[-300:].replace(str(folder), "OUT")
    folders.append(folder)
    record = {"fault": what, "place": place, "at": fault.at, "code": ended.code, "said": said}
    return record | {"broken": broken, "differs": odd, "sound": sound}


def _not_whole(folder: Path) -> list[str]:
    """What is wrong with the artefacts that stand in a build's folder."""
    from corpusmith.artefact import open_artefact
    from corpusmith.errors import ArtefactError

    broken = []
    for manifest in [*folder.glob("steps/[!.]*/manifest.json"), *folder.glob("[!.]*/manifest.json")]:
        try:
            open_artefact(manifest.parent)
        except ArtefactError as error:
            broken.append(str(error))
    return broken


def main() -> None:
    """Disturb, judge, write what happened; exit code 1 if anything was lost or not said in one sentence."""
    parser = options(__doc__, tokens=12_000, objectives=THREE)
    parser.add_argument("--every", type=int, default=1, help="only every n-th fault")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="builds that run at a time")
    arguments = parser.parse_args()
    require_interposition("benchmarks.faults.disk")
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        victim = make_victim(Launcher(scratch), scratch, tuple(arguments.objectives), arguments.tokens)
        records = []
        tried = faults(victim, victim.folder, scratch / "corpus")[:: arguments.every]
        folders = [scratch / f"killed-{number}" for number in range(arguments.jobs)]
        trials = (disturbed(victim, folders, *entry) for entry in tried)
        for record in victim.launcher.run_trials(trials, arguments.jobs):
            records.append(record)
            said = "" if record["sound"] else record
            print(f"{len(records)} of {len(tried)}", record["fault"], record["place"], said, flush=True)
    failed = [record for record in records if not record["sound"]]
    counts = Counter(f"{record['fault']}: exit code {record['code']}" for record in records)
    content = {
        "objectives": arguments.objectives,
        "every": arguments.every,
        "faults": len(records),
        "ended": dict(counts),
        "places": sorted({record["place"] for record in records}),
        "failed": failed,
    }
    update_results(arguments.results, "disk", content)
    print(f"{len(records)} faults, {len(failed)} not survived as promised; {dict(counts)}")
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    main()
