import mmap
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from corpusmith import environment


def test_waiting_threads_give_up_their_core_unless_the_user_chose_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    environment.share_cores()
    assert os.environ["GOMP_SPINCOUNT"] == "20000"
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    environment.share_cores()
    assert os.environ["GOMP_SPINCOUNT"] == "7"
    monkeypatch.delenv("GOMP_SPINCOUNT")
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    environment.share_cores()
    assert "GOMP_SPINCOUNT" not in os.environ


def test_compiled_products_are_bounded_unless_the_user_chose_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", raising=False)
    environment.bound_kernel_cache()
    assert os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] == "128"
    monkeypatch.setenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "9")
    environment.bound_kernel_cache()
    assert os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] == "9"


def test_the_processor_has_a_name_and_the_cache_a_place(monkeypatch: pytest.MonkeyPatch) -> None:
    assert environment.processor()
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert str(environment.cache_folder()) == "/somewhere/corpusmith"


def test_a_user_without_a_home_has_a_cache_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "expanduser", fail)
    assert environment.cache_folder().name == f"corpusmith-{os.getuid()}"


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Puts files where the system tells about itself."""

    def write(**files: str) -> None:
        for name, content in files.items():
            path = tmp_path / name.replace("__", "/").replace("_dot_", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)

    monkeypatch.setattr(environment, "FILES", tmp_path)
    return write


def test_limits_of_the_second_kind_of_cgroups_are_kept_the_smallest_on_the_way_up(system: Callable[..., None]) -> None:
    system(proc__self__cgroup="0::/jobs/mine\n")
    system(sys__fs__cgroup__jobs__mine__memory_dot_max="max\n", sys__fs__cgroup__jobs__memory_dot_max="123000\n")
    system(sys__fs__cgroup__jobs__mine__cpu_dot_max="max 100000", sys__fs__cgroup__jobs__cpu_dot_max="100000 100000")
    assert environment.memory_bytes() == 123_000
    assert environment.cores() == 1


def test_limits_of_the_first_kind_of_cgroups_are_kept(system: Callable[..., None]) -> None:
    system(proc__self__cgroup="7:cpu,cpuacct:/box\n4:memory:/box\n0::/\n")
    system(sys__fs__cgroup__memory__box__memory_dot_limit_in_bytes="456000\n")
    system(sys__fs__cgroup__memory__memory_dot_limit_in_bytes="9223372036854771712\n")
    for folder in ("sys__fs__cgroup__cpu,cpuacct__box__", "sys__fs__cgroup__cpu,cpuacct__"):
        system(**{f"{folder}cpu_dot_cfs_quota_us": "-1", f"{folder}cpu_dot_cfs_period_us": "100000"})
    system(**{"sys__fs__cgroup__cpu,cpuacct__box__cpu_dot_cfs_quota_us": "90000"})
    assert environment.memory_bytes() == 456_000
    assert environment.cores() == 1


def test_where_nothing_limits_it_is_the_machine_that_counts(system: Callable[..., None]) -> None:
    system(proc__self__cgroup="0::/\n")
    assert environment.memory_bytes() > 2**20
    assert environment.cores() >= 1


def test_the_processs_own_limit_counts() -> None:
    before = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (2**33, before[1]))
    try:
        assert environment.memory_bytes() <= 2**33
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def test_the_peak_of_memory_is_watched_anew() -> None:
    environment.forget_peak_memory()
    before = environment.peak_memory_bytes()
    with mmap.mmap(-1, 100_000_000) as block:  # not from the heap, which may keep what is freed
        block.write(bytes(100_000_000))
    assert environment.peak_memory_bytes() > before + 90_000_000
    environment.forget_peak_memory()
    assert environment.peak_memory_bytes() < before + 90_000_000


HOLDS_AND_FREES = """
import sys
import numpy as np
from corpusmith import environment

def held():
    resident, shared = open("/proc/self/statm").read().split()[1:3]
    return (int(resident) - int(shared)) * 4096

environment.keep_freed_memory()
environment._limit = lambda: int(sys.argv[1])
blocks = [np.ones(2**17) for _ in range(200)]
last = blocks[-1]
del blocks
before = held()
environment.make_room()
print(before - held())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the C library's own settings, read from /proc")
@pytest.mark.parametrize(("limit", "gives_back"), [(10**8, True), (10**11, False)])
def test_freed_memory_is_kept_until_it_is_wanted(limit: int, gives_back: bool) -> None:
    done = subprocess.run(
        [sys.executable, "-c", HOLDS_AND_FREES, str(limit)], capture_output=True, text=True, check=True
    )
    given_back = int(done.stdout)
    assert given_back > 150_000_000 if gives_back else given_back < 10_000_000
