"""GPUs of this machine, by nvidia-smi, and whether the driver is new enough for the torch that is here."""

from __future__ import annotations

import ast
import csv
import os
import shutil
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from pipelines.doctor import failed, ok, size, warning
from pipelines.doctor.child import Done, NoAnswer, call

if TYPE_CHECKING:
    from pipelines.doctor import Finding, Findings, Patient

SMI = "nvidia-smi"
QUERY = "name,memory.total,memory.used,compute_cap"
SMI_SECONDS = 8.0
"""For each of two calls; without persistence mode one takes some two seconds a GPU."""
DRIVER = Path("/proc/driver/nvidia/version")
AMPERE = (8, 0)
"""The first to compute in bfloat16, which vLLM's Gemma 3 needs: float16 overflows."""
USED_SHARE = 0.92
"""Of a GPU that an engine takes, at most (`workers.engines.vllm`); it starts only if that much is free."""


@dataclass(frozen=True)
class Gpu:
    """One, as nvidia-smi tells of it; memory in bytes, and None for what it does not say."""

    name: str
    total: float | None
    used: float | None
    capability: tuple[int, int] | None


def gpu(patient: Patient) -> Findings:
    """Which there are, and whether an engine can start on each."""
    program = shutil.which(SMI)
    if program is None:
        yield _none(patient)
        return
    try:
        listed = call([program, f"--query-gpu={QUERY}", "--format=csv,noheader,nounits"], SMI_SECONDS)
        facts = call([program, "-q", "-x"], SMI_SECONDS)
    except (NoAnswer, OSError) as error:
        todo = "the driver hangs: look at dmesg for Xid, drain the machine and reboot it"
        yield failed(SMI, str(error), todo)
        return
    gpus = read_gpus(listed)
    if listed.status or not gpus:
        said = (listed.output or listed.errors).strip().splitlines()
        told = said[0][:200] if said else "it lists none"
        yield failed(
            SMI, told, "load the driver (nvidia-modprobe), or give the container its GPUs (--gpus all)"
        )
        return
    yield _driver(facts)
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if hidden is not None and not hidden.strip(" -1"):
        yield warning("CUDA_VISIBLE_DEVICES", f"{hidden!r} hides every GPU", "unset it")
    for number, each in enumerate(gpus):
        yield _fit(number, each, patient)


def read_gpus(listed: Done) -> list[Gpu]:
    """The lines of `nvidia-smi --query-gpu`."""
    rows = [[cell.strip() for cell in row] for row in csv.reader(listed.output.splitlines())]
    return [
        Gpu(name, _mebibytes(total), _mebibytes(used), _pair(capability))
        for name, total, used, capability in (row for row in rows if len(row) == len(QUERY.split(",")))
    ]


def _none(patient: Patient) -> Finding:
    gpus = patient.job.engine.gpus or 0
    if gpus and patient.address is None and patient.hosts_model:
        told = f"none here, and engine.gpus asks for {gpus:g} an engine"
        return failed(
            "none", told, "run it where there is one (--address), or set engine.gpus to 0 for the CPUs"
        )
    if DRIVER.exists():
        told = f"a driver is loaded, and {SMI} is not on the PATH"
        return warning(
            "driver", told, "install the driver's tools; a container needs NVIDIA_DRIVER_CAPABILITIES=all"
        )
    return ok("none", "none here: engines of this machine run on its CPUs")


def _driver(facts: Done) -> Finding:
    """The driver's CUDA against torch's. Within one major version any driver serves any minor one."""
    try:
        root = ElementTree.fromstring(facts.output)
    except ElementTree.ParseError:
        return warning("driver", f"{SMI} -q -x says no version", "update the driver")
    driver, cuda = root.findtext("driver_version") or "?", root.findtext("cuda_version") or ""
    told, have, need = f"{driver}, for CUDA {cuda or '?'}", _pair(cuda), _pair(torch_cuda() or "")
    if need is None or have is None:
        return ok("driver", told)
    told = f"{told}; torch is built for CUDA {need[0]}.{need[1]}"
    if have[0] < need[0]:
        return failed(
            "driver", told, f"update the driver to one for CUDA {need[0]}, or install vLLM for CUDA {have[0]}"
        )
    return ok("driver", told)


def torch_cuda() -> str | None:
    """The CUDA that the torch here is built for, out of its version.py: importing it takes seconds."""
    found = find_spec("torch")
    if found is None or not found.submodule_search_locations:
        return None
    file = Path(found.submodule_search_locations[0]) / "version.py"
    for node in ast.parse(file.read_text()).body if file.is_file() else ():
        match node:
            case ast.AnnAssign(target=ast.Name("cuda"), value=ast.Constant(str(told))):
                return told
            case ast.Assign(targets=[ast.Name("cuda")], value=ast.Constant(str(told))):
                return told
    return None


def _fit(number: int, each: Gpu, patient: Patient) -> Finding:
    subject, told = f"GPU {number}", each.name
    if each.total:
        told += f", {size(each.total)}, {size(each.used or 0)} of it in use"
    if each.capability and each.capability < AMPERE and patient.hosts_model:
        told += f", compute capability {each.capability[0]}.{each.capability[1]}"
        todo = "take an Ampere or later (8.0): vLLM computes Gemma 3 in bfloat16, which this one cannot"
        return failed(subject, told, todo)
    share = USED_SHARE * min(1.0, patient.job.engine.gpus or 1.0)
    if each.total and each.used and each.total - each.used < share * each.total and patient.hosts_model:
        todo = (
            f"end what uses it: an engine starts only if {share:.0%} is free; engine.gpus below 1 takes less"
        )
        return warning(subject, told, todo)
    return ok(subject, told)


def _mebibytes(told: str) -> float | None:
    """None for "[N/A]", which a slice of MIG or a card with unified memory says."""
    return float(told) * 2**20 if told.replace(".", "", 1).isdigit() else None


def _pair(told: str) -> tuple[int, int] | None:
    major, _, minor = told.partition(".")
    return (int(major), int(minor.split(".")[0])) if major.isdigit() and minor[:1].isdigit() else None
