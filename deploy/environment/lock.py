"""Resolves pyproject.toml anew into cpu.lock: `make lock`.

uv does the resolving, in its own throwaway folder; it is needed for nothing else. Versions that
still fit are kept; delete cpu.lock first to move to the newest. torch and torchvision stay out of
the lock: build.py installs them, from wherever this machine has them.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOCK = Path(__file__).with_name("cpu.lock")
TORCH_INDEX = "https://download.pytorch.org/whl/cpu"
EXTRAS = ("cpu", "demo", "evaluate", "dev")
NOT_LOCKED = ("torch", "torchvision")


def command(uv: Path, find_links: list[str]) -> list[str]:
    """The uv command; its Python is 3.11, whichever runs this."""
    return [
        str(uv),
        "pip",
        "compile",
        "pyproject.toml",
        *(argument for extra in EXTRAS for argument in ("--extra", extra)),
        *(argument for name in NOT_LOCKED for argument in ("--no-emit-package", name)),
        *(argument for place in find_links for argument in ("--find-links", place)),
        *("--python-version", "3.11"),
        "--generate-hashes",
        "--no-header",
        "--quiet",
        *("--output-file", str(LOCK.relative_to(ROOT))),
    ]


def find_links() -> list[str]:
    """Where pip is told to look besides its indexes: uv reads none of pip's settings."""
    done = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    )
    values = re.findall(r"^\S*find-links=['\"](.*)['\"]$", done.stdout, re.MULTILINE)
    return sorted({place for value in values for place in value.split()})


def main() -> int:
    """Writes cpu.lock; uv's exit code."""
    with tempfile.TemporaryDirectory() as name:
        subprocess.run(
            [sys.executable, "-m", "pip", "install", "--quiet", "--target", name, "uv"], check=True
        )
        uv = Path(name) / "bin" / "uv"
        places = find_links() or [TORCH_INDEX]
        done = subprocess.run(command(uv, places), cwd=ROOT, check=False)
    if done.returncode == 0:
        print(f"lock: {LOCK.relative_to(ROOT)} holds the versions; `make env` installs them")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
