"""What is sent to a cluster, what is refused before it is, and what is looked at on arrival."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines import arrive
from pipelines.arrive import BAD_JOB, BEGUN, JOB, SENT
from pipelines.submit import ENTRY, STOP_VARIABLE, Parcel, Terms, pack
from schemas.errors import JobError
from schemas.job import load_job, make_job
from tests.conftest import ROOT
from tests.fixtures.runs import GEMMA3

JOB_VALUES: dict[str, Any] = {
    "input": "s3://bucket/in",
    "output": "s3://bucket/out",
    "tasks": ["ocr"],
    "models": {"vision": "google/gemma-3-4b-it"},
}
SHAPE = {"type": "object", "properties": {"number": {"type": "string"}}, "required": ["number"]}


def packed(folder: Path, terms: Terms | None = None, **values: Any) -> Parcel:
    folder.mkdir(exist_ok=True)
    return pack(make_job({**JOB_VALUES, **values}), terms or Terms(), folder)


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_with_the_images_code_the_job_goes_alone_and_is_the_same_job(tmp_path: Path) -> None:
    (tmp_path / "shape.json").write_text(json.dumps(SHAPE))
    file = tmp_path / "job.yaml"
    task = {"task": "extract", "schema": str(tmp_path / "shape.json")}
    file.write_text(yaml.safe_dump({**JOB_VALUES, "tasks": [task, "ocr"], "rates": "L4"}))
    job = load_job(file)
    (tmp_path / "sent").mkdir()
    parcel = pack(job, Terms(), tmp_path / "sent")
    assert names(parcel.folder) == {JOB, SENT, ENTRY}
    (tmp_path / "shape.json").unlink()
    assert load_job(parcel.folder / JOB) == job, "with the schema's file in it, and the rates of an L4"


def test_with_this_code_it_is_the_packages_and_nothing_beside_them(tmp_path: Path) -> None:
    parcel = packed(tmp_path / "sent", Terms(code="local"))
    sent = names(parcel.folder)
    assert {name.partition("/")[0] for name in sent} == {JOB, SENT, ENTRY, "pipelines", "schemas", "workers"}
    assert {"pipelines/cli.py", "workers/infer.py", "schemas/job.py"} <= sent
    assert not [name for name in sent if "__pycache__" in name or name.endswith(".pyc")]
    assert sum((parcel.folder / name).stat().st_size for name in sent) < 3e6
    assert arrive.code_of(parcel.folder) == arrive.code_of(ROOT)


def test_the_same_job_is_the_same_submission_and_another_is_not(tmp_path: Path) -> None:
    one, again, other = (
        packed(tmp_path / str(number), limit=limit) for number, limit in enumerate((5, 5, 6))
    )
    assert one.metadata == again.metadata and one.submission != again.submission
    assert one.metadata["fingerprint"] != other.metadata["fingerprint"]
    assert one.metadata["output"] == "s3://bucket/out"


def test_what_is_near_is_named_so_that_it_is_found_from_afar(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.txt").write_text("s3://bucket/a.pdf\n")
    model = os.path.relpath(GEMMA3)
    parcel = packed(tmp_path / "sent", input=(), manifest="list.txt", output="out", models={"vision": model})
    values, sent = (
        yaml.safe_load((parcel.folder / JOB).read_text()),
        json.loads((parcel.folder / SENT).read_text()),
    )
    assert values["output"] == f"file://{tmp_path}/out"
    assert values["models"]["vision"] == str(GEMMA3.resolve())
    assert sent["flags"] == ["--manifest", "@manifest/list.txt"]
    assert (parcel.folder / "manifest" / "list.txt").read_text() == "s3://bucket/a.pdf\n"
    assert sent["paths"] == [values["output"], values["models"]["vision"]]


def test_it_brings_its_time_to_drain_along(tmp_path: Path) -> None:
    parcel = packed(tmp_path / "sent", limits={"drain_seconds": 300.5})
    assert float(parcel.environment[STOP_VARIABLE]) > 300.5
    assert set(parcel.environment) == {STOP_VARIABLE}


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"expand": {"passwords": ["hunter2hunter2"]}}, "expand.passwords"),
        ({"engine": {"options": {"hf_token": "hunter2hunter2"}}}, "engine.options.hf_token"),
        ({"storage": {"endpoint_url": "https://me:hunter2hunter2@host"}}, "storage.endpoint_url"),
        ({"engine": {"options": {"any": [{"deep": "AKIAHUNTER2HUNTER2AA"}]}}}, "engine.options.any.deep"),
    ],
)
def test_a_job_with_a_secret_in_it_is_refused_and_not_repeated(
    tmp_path: Path, values: dict[str, Any], key: str
) -> None:
    with pytest.raises(JobError, match=key) as refused:
        packed(tmp_path / "sent", **values)
    assert "hunter2" not in refused.value.message.lower()
    assert names(tmp_path / "sent") == set(), "before anything is laid out"


def test_settings_that_name_where_a_secret_is_are_none(tmp_path: Path) -> None:
    server = {"base_url": "https://host/v1", "api_key_env": "MY_KEY"}
    packed(tmp_path / "sent", engine={"kind": "openai", "options": server}, expand={"passwords_env": "MINE"})


def test_values_are_not_names(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="never its value") as refused:
        packed(tmp_path / "sent", Terms(secrets=["KEY=hunter2"]))
    assert "hunter2" not in refused.value.message
    with pytest.raises(JobError, match="submission id"):
        packed(tmp_path / "other", Terms(submission="a/b"))


def test_a_manifest_that_is_too_large_to_send_is_named(tmp_path: Path) -> None:
    with (tmp_path / "list.txt").open("wb") as file:
        file.truncate(60_000_000)
    with pytest.raises(JobError, match=r"60 MB, most of it manifest/list\.txt"):
        packed(tmp_path / "sent", input=(), manifest=str(tmp_path / "list.txt"))


def test_passwords_come_from_the_environment_of_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    options = make_job({**JOB_VALUES, "expand": {"passwords": ["one"], "passwords_env": "GS_WORDS"}}).expand
    with pytest.raises(JobError, match="GS_WORDS is not set"):
        options.tried()
    monkeypatch.setenv("GS_WORDS", "two\nthree")
    assert [word.get_secret_value() for word in options.tried()] == ["one", "two", "three"]


def arrived(parcel: Parcel, **changed: Any) -> subprocess.CompletedProcess[str]:
    """What the job says where it arrives, with something other than it was sent."""
    sent = parcel.folder / SENT
    sent.write_text(json.dumps({**json.loads(sent.read_text()), **changed}))
    return subprocess.run(
        [sys.executable, ENTRY],
        cwd=parcel.folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"versions": {"gemstream": "0.1.0", "ray": "2.9.0"}}, ["Ray 2.9.0", "this cluster runs 2."]),
        ({"versions": {**arrive.versions(), "gemstream": "9.9"}}, ["gemstream 9.9", "--code local"]),
        ({"secrets": ["GS_NOWHERE"]}, ["GS_NOWHERE is not set", "Secret"]),
        ({"machine": "another", "paths": ["file:///data/out"]}, ["file:///data/out", "--cluster-paths"]),
        ({"code": "local", "needs": ["pydantic", "gs-nowhere"]}, ["lacks gs-nowhere"]),
    ],
)
def test_in_the_wrong_place_it_says_so_and_starts_nothing(
    tmp_path: Path, changed: dict[str, Any], words: list[str]
) -> None:
    done = arrived(packed(tmp_path / "sent"), **changed)
    assert done.returncode == BAD_JOB, done.stderr
    assert [word for word in words if word not in done.stderr] == [], done.stderr
    assert "nothing was started" in done.stderr and BEGUN not in done.stderr


def test_in_the_right_place_it_runs_as_gemstream_run_does(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    parcel = packed(
        tmp_path / "sent",
        input=str(tmp_path / "nowhere"),
        output=str(tmp_path / "out"),
        models={"vision": str(GEMMA3)},
        engine={"kind": "fault"},
    )
    done = arrived(parcel, python="3.9", digest="other")
    assert BEGUN in done.stderr
    assert "3.9 where it was sent" in done.stderr
    assert "the image's code is not the sender's" in done.stderr
    assert "nowhere" in done.stderr.partition(BEGUN)[2], "and the run itself refuses what it cannot read"
    assert done.returncode in (1, 2)
