import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from tests.examples import ROOT, load_script


@pytest.fixture
def setup(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """scripts/setup.py with its environment in a temporary folder."""
    module = load_script("setup")
    monkeypatch.setattr(module, "ENVIRONMENT", tmp_path / ".venv")
    return module


def write_wheel(folder: Path, name: str, version: str, requires: tuple[str, ...] = ()) -> None:
    """A wheel without content that pip accepts."""
    info = f"{name}-{version}.dist-info"
    needs = "".join(f"Requires-Dist: {requirement}\n" for requirement in requires)
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")


def write_torch(folder: Path, version: str, cuda: str | None) -> None:
    """A package that answers as torch does when asked what it was built for."""
    (folder / "torch").mkdir(parents=True)
    (folder / "torch" / "version.py").write_text(f"cuda = {cuda!r}\n")
    (folder / "torch" / "__init__.py").write_text(f"from torch import version\n__version__ = {version!r}\n")


@pytest.fixture
def package_index(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder of wheels that pip uses in place of any package index; installed packages do not count."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_IGNORE_INSTALLED", "1")
    return folder


def test_cuda_libraries_are_not_downloaded_to_a_machine_without_a_gpu(setup, package_index, monkeypatch):
    version = Requirement((ROOT / "requirements" / "torch.txt").read_text().splitlines()[-1]).specifier
    write_wheel(package_index, "torch", str(version).removeprefix("=="), ("nvidia-cublas",))
    write_wheel(package_index, "nvidia_cublas", "13.0")
    monkeypatch.setattr(setup, "environment_python", lambda: sys.executable)
    monkeypatch.setattr(setup, "find_torch", lambda python: None)
    monkeypatch.setattr(setup, "has_gpu", lambda: False)
    with pytest.raises(SystemExit, match="no NVIDIA GPU; set PIP_EXTRA_INDEX_URL"):
        setup.settle_torch()


def test_a_failing_pip_says_what_it_was_to_install_and_how_to_go_on(setup, package_index, monkeypatch):
    monkeypatch.setattr(setup, "environment_python", lambda: sys.executable)
    with pytest.raises(SystemExit, match=r"could not install torch; .* offline"):
        setup.planned_packages()


@pytest.mark.parametrize(
    ("names", "expected"),
    [(["torch", "nvidia-cudnn-cu13"], True), (["torch", "cuda_toolkit"], True), (["torch", "sympy"], False)],
)
def test_the_plan_needs_cuda_if_it_names_a_library_of_nvidia(setup, names, expected):
    assert setup.needs_cuda(names) is expected


def test_a_gpu_is_known_by_its_driver(setup, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not setup.has_gpu(driver=tmp_path / "absent")
    assert setup.has_gpu(driver=tmp_path)


@pytest.mark.parametrize(
    ("version", "cuda", "expected"),
    [("2.13.0+cu130", "13.0", True), ("2.11.1", "12.8", True), ("2.9.1+cu128", "12.8", False), ("2.13.0", None, False)],
)
def test_a_users_torch_is_kept_if_it_has_cuda_and_is_recent_enough(setup, version, cuda, expected):
    assert setup.usable_with_cuda(setup.Torch(version, cuda, "")) is expected


def test_the_environment_sees_the_torch_of_the_user(setup, tmp_path):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", setup.ENVIRONMENT], check=True)
    assert setup.find_torch(setup.environment_python()) is None
    write_torch(tmp_path / "site", "2.12.0+cu130", "13.0")
    own = setup.Torch("2.12.0+cu130", "13.0", str(tmp_path / "site"))
    setup.borrow(own)
    assert setup.find_torch(setup.environment_python()) == own


def test_an_environment_without_pip_is_made_anew(setup):
    assert not setup.works(setup.environment_python())
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", setup.ENVIRONMENT], check=True)
    assert not setup.works(setup.environment_python())
    assert setup.works(sys.executable)


def test_an_old_python_is_told_which_one_is_needed(setup, monkeypatch, tmp_path):
    monkeypatch.setattr(setup.sys, "version_info", (3, 9, 2))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit, match=r"needs Python 3\.11 or newer .* make PYTHON="):
        setup.use_recent_python()


def test_an_old_python_can_read_the_script_at_all():
    ast.parse((ROOT / "scripts" / "setup.py").read_text(), feature_version=(3, 8))


def test_every_dependency_that_setup_installs_is_locked_at_a_version_that_it_allows():
    lines = [*(ROOT / "requirements" / "lock.txt").read_text().splitlines()]
    lines += (ROOT / "requirements" / "torch.txt").read_text().splitlines()
    locked = {normal(name): version for name, _, version in (line.partition("==") for line in lines if line[0] != "#")}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    (own,) = [line for line in extras["dev"] if line.startswith("corpusmith")]
    declared = [
        *project["dependencies"],
        *(line for name in ("dev", *Requirement(own).extras) for line in extras[name]),
    ]
    for requirement in map(Requirement, declared):
        if requirement.name != "corpusmith":
            assert locked[normal(requirement.name)] in requirement.specifier, requirement


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
