"""Resolves the versions of pyproject.toml anew into the lock files: `make lock`.

uv does the resolving, in its own throwaway folder; it is needed for nothing else. Versions that
still fit are kept; delete cpu.lock first to move to the newest. What goes into images follows
cpu.lock wherever its versions fit, so that what a GPU node runs is what was tested without one.

    cpu.lock         what .venv holds: everything, the tests' tools included
    cpu-image.lock   what the image `cpu` holds: the extra `cpu`, and those of lakes
    gpu.lock         what the image `gpu` holds: the extra `gpu`, those of lakes, CUDA's libraries from PyPI
    build.lock       what builds our wheel
    vm.lock          what the image `cpu-vm` holds besides: Google's client, for `ray up`
    deploy/airflow/requirements.lock    Airflow, which the DAG is tested with

Of the first two, torch and torchvision stay out: build.py installs them, from wherever this machine
has them.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(__file__).parent.relative_to(ROOT)
LOCK = FOLDER / "cpu.lock"
TORCH_INDEX = "https://download.pytorch.org/whl/cpu"
NOT_LOCKED = ("torch", "torchvision")
LAKE = ("delta", "iceberg", "lance", "duplicates", "privacy")
LINUX = "x86_64-manylinux_2_36"
"""Debian 12, on which images stand."""


@dataclass(frozen=True)
class Lock:
    """One lock file: what it is resolved from, and for which machine if not for this one."""

    file: Path
    extras: tuple[str, ...] = ()
    requirements: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    platform: str = ""

    def command(self, uv: Path, find_links: list[str]) -> list[str]:
        """The uv command; its Python is 3.11, whichever runs this."""
        return [
            str(uv),
            *("pip", "compile", "-" if self.requirements else "pyproject.toml"),
            *(argument for extra in self.extras for argument in ("--extra", extra)),
            *(argument for name in self.left_out for argument in ("--no-emit-package", name)),
            # Only where torch is left out: among these it is a build without CUDA.
            *(argument for place in find_links if self.left_out for argument in ("--find-links", place)),
            *(("--python-platform", self.platform) if self.platform else ()),
            *("--python-version", "3.11"),
            *(
                "--only-binary",
                ":all:",
            ),  # nothing is compiled, nor any set-up script run, where it is installed
            "--generate-hashes",
            "--no-header",
            "--quiet",
            *("--output-file", str(self.file)),
        ]


def locks() -> tuple[Lock, ...]:
    """All of them, the one that the others follow first."""
    builder = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["build-system"]["requires"]
    return (
        Lock(LOCK, extras=("cpu", "demo", "evaluate", *LAKE, "dev"), left_out=NOT_LOCKED),
        Lock(FOLDER / "cpu-image.lock", extras=("cpu", *LAKE), left_out=NOT_LOCKED),
        Lock(FOLDER / "gpu.lock", extras=("gpu", *LAKE), platform=LINUX),
        Lock(FOLDER / "build.lock", requirements=tuple(builder)),
        # Without the latter two, Ray's provider of Google's machines does not import.
        Lock(FOLDER / "vm.lock", requirements=("google-api-python-client>=2", "cryptography", "httplib2")),
        Lock(
            Path("deploy/airflow/requirements.lock"), requirements=("apache-airflow==3.3.2",), platform=LINUX
        ),
    )


def find_links() -> list[str]:
    """Where pip is told to look besides its indexes: uv reads none of pip's settings."""
    done = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    )
    values = re.findall(r"^\S*find-links=['\"](.*)['\"]$", done.stdout, re.MULTILINE)
    return sorted({place for value in values for place in value.split()})


def main() -> int:
    """Writes the lock files; the exit code of the first uv that finds no versions."""
    with tempfile.TemporaryDirectory() as name:
        subprocess.run(
            [sys.executable, "-m", "pip", "install", "--quiet", "--target", name, "uv"], check=True
        )
        uv = Path(name) / "bin" / "uv"
        places = find_links() or [TORCH_INDEX]
        for lock in locks():
            if lock.file.parent == FOLDER and lock.file != LOCK:
                shutil.copyfile(ROOT / LOCK, ROOT / lock.file)  # uv prefers what it finds there
            done = subprocess.run(
                lock.command(uv, places),
                cwd=ROOT,
                input="\n".join(lock.requirements),
                text=True,
                check=False,
            )
            if done.returncode:
                return done.returncode
            print(f"lock: {lock.file} holds the versions")
    return 0


if __name__ == "__main__":
    sys.exit(main())
