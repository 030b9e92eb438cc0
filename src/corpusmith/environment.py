"""What this process runs on, read in one place: cores, memory, clock, versions."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
import time
from datetime import UTC, datetime
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


def now() -> str:
    """The wall clock, UTC, ISO 8601 to the second: for people to read; nothing is computed from it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def seconds() -> float:
    """A clock that never jumps, for durations."""
    return time.monotonic()


def cores() -> int:
    """Cores this process may really use: the affinity mask, cut by the cgroup's CPU quota where there is one."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        if quota != "max":
            allowed = min(allowed, max(1, round(int(quota) / int(period))))
    except (OSError, ValueError):
        pass
    return allowed


def memory_bytes() -> int:
    """Memory this process may use: the machine's, cut by the cgroup's limit where there is one."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        if limit != "max":
            total = min(total, int(limit))
    except (OSError, ValueError):
        pass
    return total


def peak_memory_bytes() -> int:
    """The largest resident size this process has had."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def keep_freed_memory() -> None:
    """Tell glibc to keep large freed blocks instead of returning them to the system and faulting them in again.

    Training allocates and frees the same large blocks every step; on virtual machines the page faults cost up to
    half of a step. Does nothing where the C library is another one.
    """
    m_trim_threshold, m_mmap_max = -1, -4
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(m_mmap_max, 0)
        libc.mallopt(m_trim_threshold, 2**31 - 1)
    except (OSError, AttributeError):
        pass


def bound_kernel_cache() -> None:
    """Let oneDNN remember 128 compiled products instead of 1,024; a choice the user made in the environment stands.

    It compiles one for every shape, and packed batches hardly ever have the same shapes twice: after 19,000 passages a
    process that remembered them all held 2.2 GB, and one that remembered 128 held 1.4. Forgetting costs nothing that
    could be measured: 32.3 s either way for 1,500 passages with all-MiniLM-L6-v2 on one core. Takes effect if called
    before the first product.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "128")


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
    """Where what was measured of this machine is kept between runs (XDG_CACHE_HOME, or ~/.cache)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "corpusmith"


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
