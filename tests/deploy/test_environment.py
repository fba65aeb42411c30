"""The set-up script: what it refuses, what it notices, and how it explains pip's failures."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = ROOT / "deploy" / "environment"


@pytest.fixture(scope="module")
def build() -> ModuleType:
    """The script as a module: it is run by path, before any package of ours is installed."""
    spec = importlib.util.spec_from_file_location("gemstream_build", ENVIRONMENT / "build.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("version", [(3, 11, 7), (3, 12, 0)])
def test_a_fitting_python_is_taken(build: ModuleType, version: tuple[int, ...]) -> None:
    build.check_python(version, "python3")


@pytest.mark.parametrize("version", [(3, 8, 10), (3, 10, 1), (3, 13, 0)])
def test_another_python_is_refused_in_one_line(build: ModuleType, version: tuple[int, ...]) -> None:
    with pytest.raises(build.BuildError) as refused:
        build.check_python(version, "/usr/bin/python3")
    message = str(refused.value)
    assert "3.11 or 3.12" in message and "/usr/bin/python3 is 3." in message and "make PYTHON=" in message
    assert "\n" not in message


def test_it_uses_no_package(build: ModuleType) -> None:
    code = f"import runpy; runpy.run_path({str(ENVIRONMENT / 'build.py')!r})"
    subprocess.run([sys.executable, "-I", "-S", "-c", code], check=True)


@pytest.mark.parametrize("changed", ["pyproject.toml", "cpu.lock", "hook.py"])
def test_the_fingerprint_changes_with_what_is_installed(
    build: ModuleType, tmp_path: Path, changed: str
) -> None:
    pyproject, lock, hook = tmp_path / "pyproject.toml", tmp_path / "cpu.lock", tmp_path / "hook.py"
    pyproject.write_text((ROOT / "pyproject.toml").read_text())
    lock.write_text("a==1\n")
    hook.write_text("pass\n")
    before = build.fingerprint(pyproject, lock, hook)
    assert build.fingerprint(pyproject, lock, hook) == before

    file = tmp_path / changed
    file.write_text(file.read_text().replace('"typer>=0.15"', '"typer>=0.16"') + "# changed\n")
    assert build.fingerprint(pyproject, lock, hook) != before


def test_the_fingerprint_leaves_the_tools_settings_out(build: ModuleType, tmp_path: Path) -> None:
    pyproject = tmp_path / "pyproject.toml"
    text = (ROOT / "pyproject.toml").read_text()
    pyproject.write_text(text)
    before = build.fingerprint(pyproject)
    pyproject.write_text(text + "\n[tool.something]\nelse = true\n")
    assert build.fingerprint(pyproject) == before


@pytest.mark.parametrize(
    ("output", "said"),
    [
        (
            "WARNING: Retrying ... NewConnectionError('...')\n"
            "ERROR: No matching distribution found for torch==2.13.0+cpu\n",
            r"no package index could be reached \(looking for torch==2.13.0\+cpu\)",
        ),
        (
            "ERROR: No matching distribution found for torch==2.13.0+cpu\n",
            r"has a wheel of torch==2.13.0\+cpu",
        ),
        (
            "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.\n",
            "hash is not the one",
        ),
        ("OSError: [Errno 28] No space left on device\n", "the disk is full"),
        ("noise\nERROR: something else\nmore noise\n", "ERROR: something else"),
        ("", "without saying why"),
    ],
)
def test_pips_failures_are_said_in_one_line(build: ModuleType, output: str, said: str) -> None:
    assert re.search(said, build.explain(output))


def _install(site_packages: Path, name: str) -> Path:
    """Lays a package down as pip does."""
    package, info = site_packages / name, site_packages / f"{name}-1.0.dist-info"
    package.mkdir()
    info.mkdir()
    (package / "__init__.py").write_text("value = 1\n")
    (info / "METADATA").write_text("Name: x\n")
    (info / "RECORD").write_text(
        f"{name}/__init__.py,sha256=x,10\n{name}/a.pyc,sha256=x,999\n{name}-1.0.dist-info/RECORD,,\n"
    )
    return info


def test_a_whole_package_is_not_damaged(build: ModuleType, tmp_path: Path) -> None:
    _install(tmp_path, "whole")
    assert list(build.damaged(tmp_path)) == []


@pytest.mark.parametrize("damage", ["cut", "lost", "no record", "no metadata"])
def test_half_an_installation_is_noticed(build: ModuleType, tmp_path: Path, damage: str) -> None:
    info = _install(tmp_path, "half")
    _install(tmp_path, "whole")
    match damage:
        case "cut":
            (tmp_path / "half" / "__init__.py").write_text("value")
        case "lost":
            (tmp_path / "half" / "__init__.py").unlink()
        case "no record":
            (info / "RECORD").unlink()
        case "no metadata":
            (info / "METADATA").unlink()
    assert list(build.damaged(tmp_path)) == [info]


def test_it_is_current_only_with_the_stamp_of_now(build: ModuleType, tmp_path: Path) -> None:
    environment = build.Environment(tmp_path)
    assert not environment.is_current()
    environment.python.parent.mkdir()
    environment.python.touch()
    environment.stamp.write_text("of another day")
    assert not environment.is_current()
    environment.stamp.write_text(build.fingerprint())
    assert environment.is_current()


def _locked() -> set[str]:
    text = (ENVIRONMENT / "cpu.lock").read_text()
    return {_normal(name) for name in re.findall(r"^([A-Za-z0-9._-]+)==", text, re.MULTILINE)}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_lock_holds_what_pyproject_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"]]
    for extra in ("cpu", "demo", "evaluate", "delta", "iceberg", "lance", "duplicates", "privacy", "dev"):
        asked += project["optional-dependencies"][extra]
    names = {_normal(re.split(r"[\[<>=!~; ]", requirement, maxsplit=1)[0]) for requirement in asked}
    assert names <= _locked(), "run `make lock`"


def test_the_lock_leaves_out_what_must_not_be_installed(build: ModuleType) -> None:
    assert not _locked() & {"torch", "torchvision", *build.UNWANTED}


def test_the_lock_names_no_index() -> None:
    assert "://" not in (ENVIRONMENT / "cpu.lock").read_text()
