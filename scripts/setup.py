"""What `make` runs before anything else: a virtual environment in .venv with the locked packages and corpusmith.

It is a script and not three lines of Makefile because of torch. On Linux the build of torch on the public package
index brings several gigabytes of CUDA libraries, which a machine without an NVIDIA GPU cannot use, and no
requirements file can say "the CPU build if there is no GPU". So pip is first asked what it would install; if that
includes CUDA and there is no GPU, nothing is downloaded and one sentence says what to do. The other way round, a
user who has torch with CUDA already keeps it: the environment then sees it where it is.

Needs the standard library only, and has no syntax newer than Python 3.8, so that an old Python can say that it is too
old. It changes nothing outside .venv, and can be run again at any time.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple, NoReturn

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = ROOT / ".venv"
LOCK = ROOT / "requirements" / "lock.txt"
TORCH = ROOT / "requirements" / "torch.txt"
OLDEST_PYTHON = (3, 11)
OLDEST_TORCH = (2, 11)

PROBE = """
import json, pathlib, torch
folder = pathlib.Path(torch.__file__).resolve().parent.parent
print(json.dumps([str(torch.__version__), torch.version.cuda, str(folder)]))
"""


class Torch(NamedTuple):
    """A torch found in some Python: its version, the CUDA version it was built for if any, the folder it lies in."""

    version: str
    cuda: str | None
    folder: str


def main() -> None:
    """Make .venv ready."""
    use_recent_python()
    create_environment()
    settle_torch()
    say("Installing the locked packages")
    pip(["install", "--requirement", str(LOCK)], "the packages in requirements/lock.txt")
    say("Installing corpusmith")
    pip(["install", "--no-deps", "--no-build-isolation", "--editable", str(ROOT)], "corpusmith itself")
    say("Ready")


def say(text: str) -> None:
    """One line on what happens now."""
    print(f"set-up: {text}", flush=True)


def stop(sentence: str) -> NoReturn:
    """End with a sentence for the person who ran make."""
    sys.exit(f"\nset-up: {sentence}")


def use_recent_python() -> None:
    """Go on under a newer Python if this one is too old and another is on the path."""
    if sys.version_info[:2] >= OLDEST_PYTHON:
        return
    for name in ("python3.13", "python3.12", "python3.11", "python3.14"):
        newer = shutil.which(name)
        if newer:
            os.execv(newer, [newer, *sys.argv])
    stop(
        f"corpusmith needs Python 3.11 or newer and {sys.executable} is {sys.version.split()[0]}; install a newer one "
        "and name it: make PYTHON=/path/to/python3.12 ..."
    )


def environment_python() -> str:
    """The environment's own Python."""
    return str(ENVIRONMENT / "bin" / "python")


def create_environment() -> None:
    """Create .venv, unless a working one is there, with the locked pip (older ones download what they only plan)."""
    if not works(environment_python()):
        for module in ("venv", "ensurepip"):
            if importlib.util.find_spec(module) is None:
                major, minor = sys.version_info[:2]
                stop(
                    f"this Python lacks its '{module}' module, which Debian and Ubuntu package apart; run "
                    f"`sudo apt install python{major}.{minor}-venv` and then the same command again."
                )
        say(f"Creating .venv with Python {sys.version.split()[0]}")
        if subprocess.run([sys.executable, "-m", "venv", "--clear", str(ENVIRONMENT)], check=False).returncode:
            stop(f"{ENVIRONMENT} could not be created; the reason is above.")
    pip(["install", "--upgrade", "--constraint", str(LOCK), "pip", "setuptools"], "pip")


def works(python: str) -> bool:
    """Whether `python` runs, is recent enough and has pip."""
    check = f"import sys, pip; sys.exit(sys.version_info[:2] < {OLDEST_PYTHON})"
    try:
        return subprocess.run([python, "-c", check], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def settle_torch() -> None:
    """See that the environment has a torch that fits the machine: the user's own with CUDA, or the locked one."""
    if usable_with_cuda(find_torch(environment_python())):
        return
    own = find_torch(sys.executable)
    if own and usable_with_cuda(own):
        say(f"Using torch {own.version} with CUDA from {own.folder}")
        return borrow(own)
    if needs_cuda(planned_packages()) and not has_gpu():
        if own and recent_enough(own):
            say(f"Using torch {own.version} from {own.folder}")
            return borrow(own)
        stop(
            "pip would install torch with several gigabytes of CUDA libraries, and this machine has no NVIDIA GPU; "
            "set PIP_EXTRA_INDEX_URL (or PIP_FIND_LINKS) to PyTorch's CPU wheels, as 'Get started' on pytorch.org "
            "tells, or install a CPU build of torch for the Python that runs make, and run the same command again."
        )
    say("Installing torch")
    pip(["install", "--constraint", str(LOCK), "--requirement", str(TORCH)], "torch")


def find_torch(python: str) -> Torch | None:
    """The torch that `python` can import, None if it cannot."""
    found = subprocess.run([python, "-c", PROBE], capture_output=True, text=True, cwd=ROOT, check=False)
    try:
        return Torch(*json.loads(found.stdout)) if found.returncode == 0 else None
    except (ValueError, TypeError):
        return None


def recent_enough(torch: Torch) -> bool:
    """Whether corpusmith runs on this version of torch."""
    numbers = re.match(r"(\d+)\.(\d+)", torch.version)
    return numbers is not None and (int(numbers[1]), int(numbers[2])) >= OLDEST_TORCH


def usable_with_cuda(torch: Torch | None) -> bool:
    """Whether this is a torch that a GPU user will want to keep."""
    return torch is not None and torch.cuda is not None and recent_enough(torch)


def borrow(torch: Torch) -> None:
    """Let the environment import a torch that lies elsewhere.

    A .pth file does for virtual environments as well what `--system-site-packages` does for a system Python only.
    What the environment has itself comes first, so only packages it lacks are taken from there.
    """
    (site_packages,) = ENVIRONMENT.glob("lib/python3.*/site-packages")
    (site_packages / "torch-of-the-user.pth").write_text(torch.folder + "\n", encoding="utf-8")


def planned_packages() -> list[str]:
    """Names of what pip would install for the locked torch; nothing is installed."""
    report = pip(
        ["install", "--dry-run", "--report", "-", "--constraint", str(LOCK), "--requirement", str(TORCH)],
        "torch",
        capture=True,
    )
    return [entry["metadata"]["name"] for entry in json.loads(report)["install"]]


def needs_cuda(packages: list[str]) -> bool:
    """Whether NVIDIA's libraries are among the packages."""
    return any(re.match(r"(nvidia|cuda)[-_]", name.lower()) for name in packages)


def has_gpu(driver: Path = Path("/proc/driver/nvidia")) -> bool:
    """Whether an NVIDIA driver is here: its folder in /proc, or its tool `nvidia-smi` and a GPU that it lists."""
    if driver.exists():
        return True
    tool = shutil.which("nvidia-smi")
    return tool is not None and subprocess.run([tool, "--list-gpus"], capture_output=True, check=False).returncode == 0


def pip(arguments: list[str], what: str, *, capture: bool = False) -> str:
    """Run the environment's pip, quiet but for errors; its standard output if captured."""
    command = [environment_python(), "-m", "pip", "-qq", "--disable-pip-version-check", *arguments]
    finished = subprocess.run(command, stdout=subprocess.PIPE if capture else None, text=True, cwd=ROOT, check=False)
    if finished.returncode:
        stop(
            f"pip could not install {what}; its reason is above. If this machine is offline, connect it, or set "
            "PIP_INDEX_URL or PIP_FIND_LINKS to a mirror or a folder with the packages, and run the same command "
            "again: what is installed already is kept."
        )
    return finished.stdout or ""


if __name__ == "__main__":
    main()
