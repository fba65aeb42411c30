"""Builds the CPU environment in .venv: `python3.11 deploy/environment/build.py`.

Runs on a bare Python, standard library only, and leaves an environment in which the real vLLM
imports. Running it again costs a few milliseconds while nothing has changed, and mends an
environment whose building was stopped half-way. Every failure ends in one line that says what is
missing; pip's own words are in .venv/build.log.

The order matters. vLLM's CPU wheel pins a torch that PyPI does not have, so torch comes first and
alone, from where pip is told to look or else from PyTorch's own index. Everything else is in
cpu.lock with its hashes. Where the torchvision that pip found cannot be imported (see
gemstream_torchvision.py), an import hook is added; nothing is patched where it can.
"""

from __future__ import annotations

import argparse
import csv
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / ".venv"
LOCK = Path(__file__).with_name("cpu.lock")
HOOK = Path(__file__).with_name("gemstream_torchvision.py")

PYTHONS = ((3, 11), (3, 12))
TORCH = ("torch==2.13.0+cpu", "torchvision==0.28.0")
TORCH_INDEX = "https://download.pytorch.org/whl/cpu"
UNWANTED = ("torchaudio", "torchcodec")
"""transformers imports these whenever they are installed; CUDA builds of them fail beside a CPU torch."""
IMPORTS = ("torch", "torchvision", "timm", "vllm")
DISK_BYTES = 6 * 1024**3
"""The environment takes 4.5 GB, and pip unpacks the largest wheels beside it first."""

# What would send pip's files elsewhere or change what it takes along; where it looks is left alone.
_NOT_INHERITED = {
    "PYTHONHOME",
    "PYTHONPATH",
    "PIP_CONSTRAINT",
    "PIP_NO_BINARY",
    "PIP_PREFIX",
    "PIP_REQUIREMENT",
    "PIP_TARGET",
    "PIP_USER",
}


class BuildError(Exception):
    """The environment cannot be built; the message is one line that says what to do."""


def check_python(version: tuple[int, ...], executable: str) -> None:
    """Refuses a Python for which the locked packages have no wheels.

    Raises:
        BuildError: If the version is not one of `PYTHONS`.
    """
    if tuple(version[:2]) not in PYTHONS:
        have = ".".join(map(str, version[:2]))
        raise BuildError(
            f"Python 3.11 or 3.12 is needed, and {executable} is {have}; say which to use with "
            "`make PYTHON=/path/to/python3.11 ...`"
        )


def check_machine() -> None:
    """Looks for what a first build needs besides a Python of the right version.

    Raises:
        BuildError: If venv or ensurepip is not installed, or the disk has too little room.
    """
    for module in ("venv", "ensurepip"):
        try:
            __import__(module)
        except ImportError:
            version = ".".join(map(str, sys.version_info[:2]))
            raise BuildError(
                f"{sys.executable} has no module {module}; on Debian and Ubuntu: "
                f"apt-get install python{version}-venv"
            ) from None
    free = shutil.disk_usage(ROOT).free
    if free < DISK_BYTES and not VENV.exists():
        raise BuildError(
            f"the environment needs {DISK_BYTES / 1e9:.0f} GB in {VENV.parent}, which has {free / 1e9:.1f} GB"
        )


def fingerprint(pyproject: Path = ROOT / "pyproject.toml", lock: Path = LOCK, hook: Path = HOOK) -> str:
    """A hash of everything that decides what is in the environment, and of where it is."""
    import tomllib  # absent before 3.11, and the check of the version must come first

    settings = tomllib.loads(pyproject.read_text(encoding="utf-8"))
    facts = {
        "project": {key: value for key, value in settings["project"].items() if key != "description"},
        "build": settings["build-system"],
        "packages": settings.get("tool", {}).get("hatch"),
        "torch": TORCH,
        "python": sys.version_info[:2],
        "place": str(pyproject.parent),  # scripts and the editable install hold absolute paths
    }
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for file in (lock, hook):
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def explain(output: str) -> str:
    """Says in one line why pip failed, from what it printed."""
    if "No space left on device" in output:
        return "the disk is full"
    if "DO NOT MATCH THE HASHES" in output:
        return "an index served a file whose hash is not the one in the lock; try again, or run `make lock`"
    missing = re.search(r"No matching distribution found for (\S+)", output)
    if re.search(
        r"NewConnection|NameResolution|Max retries exceeded|ConnectTimeout|ProxyError|SSLError", output
    ):
        about = f" (looking for {missing.group(1)})" if missing else ""
        return f"no package index could be reached{about}; check the network and `pip config list`"
    if missing:
        return f"no package index has a wheel of {missing.group(1)} for this Python and machine"
    errors = [line.strip() for line in output.splitlines() if line.startswith(("ERROR:", "error:"))]
    return errors[-1] if errors else "pip failed without saying why"


def damaged(site_packages: Path) -> Iterator[Path]:
    """Yields the dist-info folders of packages of which a file is missing or cut short.

    pip takes a package for installed as soon as its dist-info is there, so one whose installation
    was stopped would otherwise stay broken for good. 270 packages take about 1 s.
    """
    for info in sorted(site_packages.glob("*.dist-info")):
        record = info / "RECORD"
        if not record.is_file() or not (info / "METADATA").is_file():
            yield info
            continue
        with record.open(newline="", encoding="utf-8") as file:
            if not all(_is_whole(site_packages / path, size) for path, _, size in csv.reader(file)):
                yield info


def _is_whole(path: Path, size: str) -> bool:
    """Whether a file has its recorded size; compiled ones are written anew, even where a wheel has them."""
    try:
        return not size or path.suffix == ".pyc" or path.stat().st_size == int(size)
    except FileNotFoundError:
        return False


class Environment:
    """The environment being built: its interpreter, its site-packages and its log."""

    def __init__(self, folder: Path = VENV) -> None:
        """Names the parts; nothing is read or made yet."""
        self.folder = folder
        self.python = folder / "bin" / "python"
        self.stamp = folder / "gemstream-environment.txt"
        self.log = folder / "build.log"
        version = ".".join(map(str, sys.version_info[:2]))
        self.site_packages = folder / "lib" / f"python{version}" / "site-packages"

    def is_current(self) -> bool:
        """Whether the last build finished and nothing has changed since."""
        return self.python.exists() and self.stamp.is_file() and self.stamp.read_text() == fingerprint()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Lets one build run at a time: a second one waits, and then finds the work done."""
        self.folder.mkdir(exist_ok=True)
        with (self.folder / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                _say("another build of this environment is running; waiting for it")
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def build(self) -> None:
        """Makes or mends the environment.

        Raises:
            BuildError: If something is missing; a later run goes on from there.
        """
        self.stamp.unlink(missing_ok=True)
        self._make_venv()
        self._discard_damage()
        self._install_torch()
        _say("installing the packages of cpu.lock (4 GB on disk; about 3 minutes the first time)")
        self.pip("install", "--no-deps", "--require-hashes", "-r", str(LOCK))
        self.pip("uninstall", "--yes", *UNWANTED)
        self.pip("install", "--no-deps", "--no-build-isolation", "-e", str(ROOT))
        _say("checking that the engine imports")
        self._ensure_imports()
        self.stamp.write_text(fingerprint())

    def pip(self, *arguments: str) -> None:
        """Runs the environment's pip, as it is configured on this machine.

        Raises:
            BuildError: If pip fails, with the reason in one line.
        """
        reason = self._pip_failure(*arguments)
        if reason:
            raise BuildError(f"{reason}; all that pip said is in {self.log}")

    def _install_torch(self) -> None:
        """Installs torch from where pip is told to look, or else with PyTorch's own index as well."""
        _say("installing torch (190 MB)")
        here = self._pip_failure("install", "--no-deps", *TORCH)
        if here is None:
            return
        there = self._pip_failure("install", "--no-deps", "--extra-index-url", TORCH_INDEX, *TORCH)
        if there:
            also = "" if there == here else f"; with {TORCH_INDEX} as well, {there}"
            raise BuildError(f"cannot install torch: {here}{also}; all that pip said is in {self.log}")

    def _pip_failure(self, *arguments: str) -> str | None:
        """Runs pip and says why it failed, or None."""
        command = ["-m", "pip", "--disable-pip-version-check", "--no-input", *arguments]
        if arguments[0] == "install":
            command += ["--progress-bar", "off"]
        status, output = self._run(*command)
        return explain(output) if status else None

    def _run(self, *arguments: str) -> tuple[int, str]:
        """Runs the environment's interpreter, its output going to the log as it comes."""
        environment = {key: value for key, value in os.environ.items() if key not in _NOT_INHERITED}
        with self.log.open("a+", encoding="utf-8", errors="replace") as log:
            log.write(f"\n$ python {' '.join(arguments)}\n")
            log.flush()
            start = log.tell()
            status = subprocess.run(
                [str(self.python), *arguments],
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                check=False,
            ).returncode
            log.seek(start)
            return status, log.read()

    def _make_venv(self) -> None:
        """Makes the environment, or empties and makes it again where its pip does not run."""
        usable = self.python.exists() and self.site_packages.is_dir()
        if usable and self._run("-m", "pip", "--version")[0] == 0:
            return
        _say(f"making {self.folder}")
        for entry in self.folder.iterdir():
            if entry.name == ".lock":
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
        made = subprocess.run(
            [sys.executable, "-m", "venv", str(self.folder)], capture_output=True, text=True, check=False
        )
        if made.returncode:
            last = (made.stderr or made.stdout).strip().splitlines()[-1:] or ["no reason given"]
            raise BuildError(f"`{sys.executable} -m venv` failed: {last[0]}")

    def _discard_damage(self) -> None:
        """Makes pip forget packages that are not whole, so that it installs them again."""
        for info in list(damaged(self.site_packages)):
            _say(f"mending {info.name.removesuffix('.dist-info')}")
            shutil.rmtree(info)
        for leftover in self.site_packages.glob("~*"):  # what a stopped uninstall had moved aside
            shutil.rmtree(leftover)

    def _ensure_imports(self, modules: Iterable[str] = IMPORTS) -> None:
        """Tries the imports that fail where pip found unfitting builds, and repairs torchvision's."""
        hook = self.site_packages / HOOK.name
        failures = {} if hook.exists() else self._failing_imports(("torch", "torchvision"))
        if hook.exists() or "torchvision" in failures:
            _say("torchvision's compiled part does not load here; declaring what it lacks")
            shutil.copyfile(HOOK, hook)
            hook.with_suffix(".pth").write_text(f"import {HOOK.stem}\n")
        failures = self._failing_imports(modules)
        if failures:
            name, reason = next(iter(failures.items()))
            raise BuildError(f"`import {name}` fails in the new environment: {reason}; see {self.log}")

    def _failing_imports(self, modules: Iterable[str]) -> dict[str, str]:
        """The modules that cannot be imported, each with the last line of why; one process for each."""
        failures = {}
        for module in modules:
            status, output = self._run("-c", f"import {module}")
            if status:
                failures[module] = (output.strip().splitlines() or ["no reason given"])[-1]
        return failures


def _say(text: str) -> None:
    print(f"environment: {text}", flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Command line: builds the environment unless it is current; 1 when something is missing."""
    argparse.ArgumentParser(prog="build.py", description=__doc__.splitlines()[0]).parse_args(arguments)
    started = time.monotonic()
    try:
        check_python(sys.version_info[:3], sys.executable)
        environment = Environment()
        if environment.is_current():
            return 0
        check_machine()
        with environment.held():
            if not environment.is_current():
                environment.build()
    except BuildError as error:
        print(f"environment: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("environment: stopped; the next run goes on from here", file=sys.stderr)
        return 130
    _say(f"ready in {time.monotonic() - started:.0f} s: {VENV}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
