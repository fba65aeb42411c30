"""Installs what an image holds: `python deploy/environment/image.py cpu /opt/gemstream`.

The steps are build.py's, from an image's own lock, without the tools of tests and into any folder.
deploy/Dockerfile runs this, and so does a test, in a plain folder of this machine. Our own package
comes afterwards and by itself: it is small and changes often, and what is below it does neither.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from build import IMPORTS, PYTHONS, TORCH, BuildError, Environment, check_python

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Kind:
    """One kind of image: its lock, what comes before it, and what has to import in the end."""

    lock: Path
    first: tuple[str, ...] = ()
    imports: tuple[str, ...] = IMPORTS


KINDS = {
    "cpu": Kind(HERE / "cpu-image.lock", first=TORCH),
    "gpu": Kind(HERE / "gpu.lock"),
}


class ImageEnvironment(Environment):
    """An environment in a folder of an image, made once and from nothing.

    Args:
        folder: where it is to be; nothing may be there.
        kind: what it is to hold.
    """

    def __init__(self, folder: Path, kind: Kind) -> None:
        super().__init__(folder)
        self.log = folder.with_name(f"{folder.name}.log")  # beside it: an image does not need it
        self._kind = kind

    def build(self) -> None:
        """Makes the environment.

        Raises:
            BuildError: If something is there already, or missing.
        """
        if self.folder.exists():
            raise BuildError(f"{self.folder} is there already; an image's environment is made from nothing")
        self.folder.mkdir(parents=True)
        self._make_venv()
        if self._kind.first:
            self._install_torch()
        wheels = ("--no-deps", "--require-hashes", "--only-binary", ":all:")
        self.pip("install", *wheels, "-r", str(self._kind.lock))
        self._ensure_imports(self._kind.imports)


def main(arguments: list[str] | None = None) -> int:
    """Command line: makes one environment; 1 when something is missing."""
    parser = argparse.ArgumentParser(prog="image.py", description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=sorted(KINDS))
    parser.add_argument("folder", type=Path)
    asked = parser.parse_args(arguments)
    started = time.monotonic()
    try:
        check_python(sys.version_info[:3], sys.executable)
        if sys.version_info[:2] != PYTHONS[0]:
            raise BuildError("the locks of images are for Python 3.11")
        ImageEnvironment(asked.folder.absolute(), KINDS[asked.kind]).build()
    except BuildError as error:
        print(f"image: {error}", file=sys.stderr)
        return 1
    print(f"image: {asked.kind} is ready in {time.monotonic() - started:.0f} s: {asked.folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
