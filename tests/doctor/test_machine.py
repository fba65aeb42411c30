"""This machine: interpreter, packages, room, GPUs, vLLM. What is missing is really missing here."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deploy.demo.ports import LOOPBACK, free_ports
from pipelines.doctor import child
from pipelines.doctor.engine import engine, vllm
from pipelines.doctor.gpu import gpu, torch_cuda
from pipelines.doctor.python import packages, python
from pipelines.doctor.room import descriptors, disk, shared_memory
from tests.doctor.patients import patient, told
from tests.workers.answering import answering


def install(folder: Path, name: str, version: str, *lines: str) -> None:
    """A package's metadata, as pip leaves it."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    head = ["Metadata-Version: 2.4", f"Name: {name}", f"Version: {version}"]
    (info / "METADATA").write_text("\n".join([*head, *lines, ""]))


def test_this_environment_is_well() -> None:
    found = told([*python(patient()), *packages(patient())])
    assert all(line.startswith("ok: ") for line in found.values()), found


def test_a_package_that_is_missing_and_one_that_is_too_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ["Requires-Dist: no-such-package>=2", "Requires-Dist: oldish>=3.1", "Requires-Dist: pyyaml>=6"]
    unasked = ["Requires-Dist: not-asked; extra == 'demo'", "Requires-Dist: other; sys_platform == 'win32'"]
    install(tmp_path, "gemstream", "9.9", *asked, *unasked)
    install(tmp_path, "oldish", "2.7")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = told(packages(patient()))
    assert set(found) == {"no-such-package", "oldish"}
    assert "it is not installed" in found["no-such-package"]
    assert "version 2.7 is installed" in found["oldish"] and "pip install 'oldish>=3.1'" in found["oldish"]


def test_what_an_extra_asks_for_counts_where_its_engine_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, "gemstream", "9.9", "Requires-Dist: vllm==0.32.0; extra == 'gpu'")
    install(tmp_path, "vllm", "0.31.0")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "version 0.31.0 is installed" in told(packages(patient()))["vllm"]


def test_another_python_than_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "gemstream", "9.9", "Requires-Python: >=3.99")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert told(python(patient()))["version"].startswith("failed")


def test_room_for_documents(tmp_path: Path) -> None:
    found = told(disk(patient(output=str(tmp_path / "out"))))
    assert set(found) >= {"scratch", "ray's", "output"}
    assert "failed" not in found["scratch"]


def test_a_disk_that_is_too_small_for_one_document(monkeypatch: pytest.MonkeyPatch) -> None:
    found = told(disk(patient(limits={"object_bytes": 10**18})))
    assert found["scratch"].startswith("failed") and "TMPDIR" in found["scratch"]


def test_a_disk_that_is_too_small_for_all_parsers() -> None:
    found = told(disk(patient(expand={"workers": 10**9})))
    assert found["scratch"].startswith("warning") and "expand.workers" in found["scratch"]


def test_rays_folder_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / "gone"))
    assert told(disk(patient()))["ray's"].startswith("failed")


def test_rays_folder_has_too_long_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ("x" * 60)).mkdir()
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / ("x" * 60)))
    assert "set RAY_TMPDIR to a shorter one" in told(disk(patient()))["ray's"]


def test_shared_memory_that_is_smaller_than_rays_store() -> None:
    found = told(shared_memory(patient(), 1e18))
    assert found["object"].startswith("warning") and "--shm-size" in found["object"]
    assert told(shared_memory(patient(), 1.0))["object"].startswith("ok")


def test_the_limit_of_open_files() -> None:
    code = "from pipelines.doctor.room import descriptors as d; print(*d(None))"
    for most, status in {600: "failed", 2_000: "warning", 5_000: "ok"}.items():
        # A hard limit does not rise again, so it is another process's.
        command = ["bash", "-c", 'ulimit -n "$1" && exec "$2" -c "$3"', "-", str(most), sys.executable, code]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert f"status=<Status.{status.upper()}:" in done.stdout, done.stdout


SMI = """#!{python}
import sys
LISTED, FACTS, STATUS = {listed!r}, {facts!r}, {status}
print(LISTED if sys.argv[1].startswith("--query-gpu") else FACTS)
sys.exit(STATUS)
"""
FACTS = "<log><driver_version>{driver}</driver_version><cuda_version>{cuda}</cuda_version></log>"


def smi(folder: Path, listed: str, driver: str = "570.86.10", cuda: str = "12.8", status: int = 0) -> None:
    """A program of that name, which says what the real one says on such a machine."""
    facts = FACTS.format(driver=driver, cuda=cuda)
    program = folder / "nvidia-smi"
    program.write_text(SMI.format(python=sys.executable, listed=listed, facts=facts, status=status))
    program.chmod(0o755)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder of the PATH."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return tmp_path


def test_no_gpu_is_fine_until_a_job_asks_for_one(path: Path) -> None:
    assert told(gpu(patient()))["none"].startswith("ok")
    assert told(gpu(patient(engine={"gpus": 1})))["none"].startswith("failed")
    assert told(gpu(patient("head:6379", engine={"gpus": 1})))["none"].startswith("ok"), (
        "the cluster has them"
    )


@pytest.mark.parametrize(
    ("listed", "line"),
    [
        ("NVIDIA H100 80GB HBM3, 81559, 4, 9.0", "ok: NVIDIA H100 80GB HBM3, 85.5 GB"),
        ("NVIDIA L4, 23034, 12000, 8.9", "warning: NVIDIA L4"),
        ("Tesla T4, 15360, 3, 7.5", "failed: Tesla T4"),
        ("NVIDIA GB10, [N/A], [N/A], 12.1", "ok: NVIDIA GB10"),
    ],
)
def test_a_gpu_that_an_engine_can_start_on(path: Path, listed: str, line: str) -> None:
    smi(path, listed)
    found = told(gpu(patient()))
    assert found["GPU"].startswith(line), found
    assert found["driver"].startswith("ok: 570.86.10, for CUDA 12.8")


def test_a_driver_that_does_not_answer_for_its_card(path: Path) -> None:
    smi(path, "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.", status=9)
    assert told(gpu(patient()))["nvidia-smi"].startswith("failed: NVIDIA-SMI has failed")


def test_a_driver_that_is_older_than_torch(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (path / "torch").mkdir()
    (path / "torch" / "__init__.py").write_text("raise SystemExit('it is not to be imported')")
    (path / "torch" / "version.py").write_text("__version__ = '9'\ncuda: str | None = '13.0'\n")
    smi(path, "NVIDIA L4, 23034, 1, 8.9")
    monkeypatch.syspath_prepend(str(path))
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    assert torch_cuda() == "13.0"
    assert told(gpu(patient()))["driver"].startswith("failed: 570.86.10, for CUDA 12.8; torch is built for")


def test_vllm_imports() -> None:
    """The real one, once: 10 s of CPU."""
    finding = vllm(patient(), 500)
    assert finding.status == "ok" and "imports, for cpu" in finding.told, finding


def stand_in(folder: Path, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another vLLM, found before the real one."""
    for name in ("torch", "vllm"):
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text(code if name == "vllm" else "")
    monkeypatch.syspath_prepend(str(folder))


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGILL)", "it ended the interpreter (SIGILL)"),
        ("raise ImportError('libcuda.so.1: no such file')", "libcuda.so.1: no such file"),
        ("import threading; threading.Event().wait()", "no answer within 0.5 s"),
        ("import os; os._exit(3)", "it ended with status 3"),
    ],
)
def test_a_vllm_that_takes_its_interpreter_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, words: str
) -> None:
    stand_in(tmp_path, code, monkeypatch)
    monkeypatch.setattr(child, "DEATH_SECONDS", 60)
    began = time.monotonic()
    finding = vllm(patient(), 0.5 if "no answer" in words else 60)
    assert finding.status == "failed" and words in finding.told and "install it again" in finding.todo
    assert time.monotonic() - began < 30


def test_a_server_in_place_of_vllm() -> None:
    url = f"http://{LOOPBACK}:{free_ports(1)[0]}/v1"
    place = patient(engine={"kind": "openai", "options": {"base_url": url}})
    assert "cannot be reached" in told(engine(place))["server"]
    with answering() as server:
        place = patient(engine={"kind": "openai", "options": {"base_url": server.url}})
        assert told(engine(place))["server"].startswith(f"ok: {server.url} answers")
    assert told(engine(patient(engine={"kind": "fault"})))["fault"].startswith("ok")


def test_the_findings_are_plain_json() -> None:
    (finding,) = descriptors(patient())
    assert set(json.loads(finding.model_dump_json())) == {"check", "subject", "status", "told", "todo"}
