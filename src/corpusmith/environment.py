"""What this process runs on, read in one place: cores, memory, clock, versions."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import sys
import tempfile
import time
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path

RECORDED_PACKAGES = (
    "corpusmith",
    "torch",
    "numpy",
    "tokenizers",
    "transformers",
    "bm25s",
    "pyarrow",
    "onnxruntime",
    "openvino",
)

CROWDED = 0.6
"""Share of the memory that a process may use above which it gives back what it has freed."""
FILES = Path("/")
"""Where the system tells about itself; tests put another folder here."""


def now() -> str:
    """The wall clock, UTC, ISO 8601 to the second: for people to read; nothing is computed from it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def seconds() -> float:
    """A clock that never jumps, for durations."""
    return time.monotonic()


def cores() -> int:
    """Cores this process may really use: the affinity mask, cut by the cgroups' CPU quotas where there are any."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = zip(_cgroup_limits("cpu", "cpu.cfs_quota_us"), _cgroup_limits("cpu", "cpu.cfs_period_us"), strict=False)
    for limit in [*_cgroup_limits("", "cpu.max"), *(f"{quota} {period}" for quota, period in quotas)]:
        quota, _, period = limit.partition(" ")
        if quota.isdecimal() and period.isdecimal():  # no limit is "max" in version 2 and -1 in version 1
            allowed = min(allowed, max(1, round(int(quota) / int(period))))
    return allowed


def memory_bytes() -> int:
    """Memory this process may use: the machine's, cut by the cgroups' limits and the process's own (`ulimit`)."""
    import resource

    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    found = [*_cgroup_limits("", "memory.max"), *_cgroup_limits("memory", "memory.limit_in_bytes")]
    limits += [int(limit) for limit in found if limit.isdecimal()]
    for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA):
        own, _ = resource.getrlimit(kind)
        if own != resource.RLIM_INFINITY:
            limits.append(own)
    return min(limits)


def _cgroup_limits(controller: str, name: str) -> list[str]:
    """What the file `name` says in this process's cgroup and in those around it; `controller` is empty for version 2
    of cgroups. Nothing where there are no cgroups."""
    try:
        lines = (FILES / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        _, controllers, place = line.split(":", 2)
        if controller in controllers.split(","):
            top = FILES / "sys/fs/cgroup" / controllers
            own = top / place.strip("/")
            for folder in (own, *own.parents):
                if folder.is_relative_to(top) and (folder / name).is_file():
                    found.append((folder / name).read_text().strip())
    return found


def peak_memory_bytes() -> int:
    """The largest resident size this process has had since `forget_peak_memory`, files that it maps included."""
    return _resident_bytes("VmHWM")


def resident_memory_bytes() -> int:
    """This process's resident size, files that it maps included; the largest so far where the system tells no other."""
    return _resident_bytes("VmRSS")


def _resident_bytes(name: str) -> int:
    try:
        lines = (FILES / "proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))
    except (OSError, StopIteration):
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def forget_peak_memory() -> None:
    """Begin anew to watch for the largest resident size; where the system does not allow it, it stays that of the
    whole process."""
    with contextlib.suppress(OSError):
        (FILES / "proc/self/clear_refs").write_text("5")


def keep_freed_memory() -> None:
    """Tell glibc to keep large freed blocks instead of returning them to the system and faulting them in again.

    Training allocates and frees the same large blocks every step; on virtual machines the page faults cost up to
    half of a step. Where the process has a limit of its own (`ulimit`), which counts what is kept as well, nothing is
    changed, nor where the C library is another one. `make_room` gives back what was kept.
    """
    import resource

    m_trim_threshold, m_mmap_max = -1, -4
    if any(
        resource.getrlimit(kind)[0] != resource.RLIM_INFINITY for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA)
    ):
        return
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(m_mmap_max, 0)
        libc.mallopt(m_trim_threshold, 2**31 - 1)
    except (OSError, AttributeError):
        pass


def make_room() -> None:
    """Give freed memory back to the system if this process comes near its limit; to be called where much was freed.

    Blocks of ever other sizes leave holes between them, which a long computation fills to twice what it holds.
    Handing the holes back and faulting them in again takes time, so it is done only where the memory is wanted.
    """
    try:
        resident, shared = (FILES / "proc/self/statm").read_text().split()[1:3]
        held = (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE")
        if held > CROWDED * _limit():
            if "pyarrow" in sys.modules:  # which keeps freed memory by itself, some 20 MB after reading tables
                sys.modules["pyarrow"].default_memory_pool().release_unused()
            ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, ValueError, AttributeError):
        pass


@cache
def _limit() -> int:
    return memory_bytes()


def bound_kernel_cache() -> None:
    """Let oneDNN remember 128 compiled products instead of 1,024, and PyTorch 16 of those that it prepares for it; a
    choice the user made in the environment stands.

    Both keep one for every shape, and packed batches hardly ever have the same shapes twice. Without these bounds
    memory in use grows with every batch: in 60 batches of abstracts from 280 to 580 MB, with them to 302 MB and no
    further. Speed is the same within noise; with 32 instead of 128, sentences take a tenth longer. Takes effect if
    called before the first product.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "128")
    os.environ.setdefault("LRU_CACHE_CAPACITY", "16")


def share_cores() -> None:
    """Let threads that wait for each other give up their core after some ten microseconds, instead of milliseconds.

    GNU OpenMP waits by spinning, which is fastest when nobody else wants the cores. Beside one busy process encoding
    then took 1.7 times as long as without spinning, and beside two of them 2 to 4 times; on a quiet machine giving up
    early costs under 1%, and never spinning 4%. A choice the user made in the environment stands. Takes effect if
    called before torch is imported.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "20000")


def allow_tokenizer_threads() -> None:
    """Let the tokenizers library use every core, without its warning when this process forks later; a choice the
    user made in the environment stands."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")


def processor() -> str:
    """The processor's name, family and model, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    told: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        told.setdefault(name.strip(), value.strip())
    names = ("model name", "cpu family", "model", "stepping")
    return " ".join(told[name] for name in names if name in told) or platform.machine()


def cache_folder() -> Path:
    """Where what was measured of this machine is kept between runs: XDG_CACHE_HOME, or ~/.cache, or the folder of
    temporary files for a user without a home."""
    if place := os.environ.get("XDG_CACHE_HOME"):
        return Path(place) / "corpusmith"
    try:
        return Path("~/.cache").expanduser() / "corpusmith"
    except RuntimeError:
        return Path(tempfile.gettempdir()) / f"corpusmith-{os.getuid()}"


def has_native_bf16() -> bool:
    """Whether this processor says that it multiplies bf16 in hardware (AVX512_BF16, AMX or Arm's BF16)."""
    return _processor_has("avx512_bf16", "amx_bf16", " bf16")


def has_native_int8() -> bool:
    """Whether this processor multiplies unsigned by signed bytes in one instruction that cannot overflow (VNNI, AMX);
    elsewhere PyTorch's products of bytes are slow, or overflow in between."""
    return _processor_has("avx512_vnni", "avx_vnni", "amx_int8")


def _processor_has(*features: str) -> bool:
    """Whether Linux lists one of these among the processor's features."""
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return any(feature in flags for feature in features)


def versions() -> dict[str, str]:
    """Versions that a manifest records: Python, the platform, and the packages whose results end up in artefacts."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for name in RECORDED_PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def machine() -> str:
    """The machine in a few words: cores, what they multiply in hardware, memory."""
    return f"{cores()} cores{', bf16' if has_native_bf16() else ''}, {memory_bytes() / 2**30:.0f} GiB memory"
