"""`gemstream deploy render`: a job of one's own, in one command, or a message that says why not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from pipelines.cli import app
from pipelines.deploying.kustomize import TREE, build
from pipelines.deploying.render import Rendered, Where, job_text, render
from schemas.errors import GemstreamError, JobError
from schemas.job import JobSpec, load_job, make_job
from tests.conftest import ROOT
from tests.deploy.kubernetes import Resource, faults

GOOD: dict[str, Any] = {"input": "s3://bucket/in", "output": "s3://bucket/out", "tasks": ["ocr"]}
DIGEST = "sha256:" + "5" * 64
CONCRETE = {"image": f"registry.io/team/gemstream@{DIGEST}", "role": "arn:aws:iam::444455556666:role/lake"}


def rendered(where: Where | None = None, **changes: Any) -> Rendered:
    made = render(make_job(GOOD | changes), where or Where("gke"))
    for resource in made.resources:
        assert faults(resource) == [], resource["kind"]
    return made


def groups(made: Rendered) -> dict[str, Resource]:
    spec = next(one for one in made.resources if one["kind"] == "RayJob")["spec"]
    return {group["groupName"]: group for group in spec["rayClusterSpec"]["workerGroupSpecs"]}


def container(group: Resource) -> Resource:
    found: Resource = group["template"]["spec"]["containers"][0]
    return found


def job_in(made: Rendered) -> JobSpec:
    text = next(one for one in made.resources if one["kind"] == "ConfigMap")["data"]["job.yaml"]
    return make_job(yaml.safe_load(text))


@pytest.mark.parametrize("target", ["gke", "eks", "kind"])
@pytest.mark.parametrize(
    "path", sorted((ROOT / "deploy" / "jobs").glob("*.yaml")), ids=lambda path: path.stem
)
def test_every_example_renders_and_is_the_same_job_within(path: Path, target: str) -> None:
    job = load_job(path, {"input": "s3://bucket/in", "output": "s3://bucket/out"})
    within = job_in(render(job, Where(target)))
    assert within.tasks == job.tasks
    assert within.limits == job.limits and within.expand.pages == job.expand.pages
    # Said, for there is no GPU node yet when the run asks.
    assert within.engine.gpus == (0 if target == "kind" else 1)
    assert make_job(yaml.safe_load(job_text(within))) == within


def test_there_is_a_group_for_each_model_that_is_asked() -> None:
    assert set(groups(rendered(tasks=["ocr"]))) == {"cpu", "vision"}
    assert set(groups(rendered(tasks=["transcribe"]))) == {"cpu", "audio"}
    assert set(groups(rendered(tasks=["ocr", "transcribe"]))) == {"cpu", "vision", "audio"}
    assert set(groups(rendered(Where("kind"), tasks=["ocr", "transcribe"]))) == {"cpu"}


def test_groups_grow_to_what_the_engines_may_come_to() -> None:
    found = groups(rendered(engine={"replicas": 4, "max_replicas": 16}))
    assert (found["vision"]["minReplicas"], found["vision"]["maxReplicas"]) == (0, 16)
    # Two parsers an engine, eight a node, and half a CPU for what reads the list and writes the files.
    assert found["cpu"]["maxReplicas"] == 5
    assert job_in(rendered(engine={"replicas": 16})).expand.workers == 32
    assert groups(rendered(expand={"workers": 80}))["cpu"]["maxReplicas"] == 11


def test_an_engine_of_several_gpus_and_several_engines_of_one() -> None:
    two = groups(rendered(engine={"gpus": 2, "replicas": 3, "options": {"tensor_parallel_size": 2}}))[
        "vision"
    ]
    assert container(two)["resources"]["limits"] == {"memory": "48Gi", "nvidia.com/gpu": "2"}
    assert (two["rayStartParams"]["num-gpus"], two["rayStartParams"]["num-cpus"]) == ("2", "1")
    assert two["maxReplicas"] == 3
    half = groups(rendered(Where("gke", gpu="H100"), engine={"gpus": 0.5, "replicas": 3}))["vision"]
    assert (half["rayStartParams"]["num-gpus"], half["rayStartParams"]["num-cpus"]) == ("1", "2")
    assert half["maxReplicas"] == 2


def test_a_model_goes_by_the_memory_of_the_gpu() -> None:
    large = {"models": {"vision": "google/gemma-3-27b-it"}}
    with pytest.raises(JobError, match=r"models\.vision.*27b.*L4 has 24.*--gpu"):
        rendered(**large)
    assert job_in(rendered(Where("gke", gpu="H100"), **large)).models.vision == "google/gemma-3-27b-it"
    auto = {"models": {"vision": "auto"}}
    assert job_in(rendered(**auto)).models.vision == "google/gemma-3-4b-it"
    assert job_in(rendered(Where("gke", gpu="H100"), **auto)).models.vision == "google/gemma-3-27b-it"


def test_a_drain_has_the_time_that_the_job_gives_it() -> None:
    made = rendered(limits={"drain_seconds": 240})
    spec = next(one for one in made.resources if one["kind"] == "RayJob")["spec"]["rayClusterSpec"]
    head = spec["headGroupSpec"]["template"]["spec"]
    assert head["terminationGracePeriodSeconds"] == 340
    stop = next(
        one for one in container(spec["headGroupSpec"])["env"] if one["name"].startswith("RAY_JOB_STOP")
    )
    assert (
        stop["value"]
        == "310"
        == container(spec["headGroupSpec"])["lifecycle"]["preStop"]["exec"]["command"][-1]
    )
    assert container(groups(made)["vision"])["lifecycle"]["preStop"]["sleep"]["seconds"] == 250


def test_a_served_model_needs_no_gpu_and_its_key_is_a_secrets() -> None:
    options = {"base_url": "https://host/v1", "api_key_env": "HOST_KEY"}
    made = rendered(engine={"kind": "openai", "options": options, "replicas": 7})
    assert set(groups(made)) == {"cpu"} and groups(made)["cpu"]["maxReplicas"] == 3
    key = next(one for one in container(groups(made)["cpu"])["env"] if one["name"] == "HOST_KEY")
    assert key["valueFrom"]["secretKeyRef"] == {"name": "gemstream", "key": "HOST_KEY", "optional": True}


def test_the_key_of_hashed_names_is_a_secrets_and_the_drivers() -> None:
    made = rendered(privacy={"hash_uris": True, "key_env": "HASHES"})
    spec = next(one for one in made.resources if one["kind"] == "RayJob")["spec"]["rayClusterSpec"]
    key = next(one for one in container(spec["headGroupSpec"])["env"] if one["name"] == "HASHES")
    assert key["valueFrom"]["secretKeyRef"] == {"name": "gemstream", "key": "HASHES", "optional": False}


def test_passwords_of_documents_are_a_secrets_and_the_drivers() -> None:
    made = rendered(expand={"passwords_env": "PASSWORDS"})
    spec = next(one for one in made.resources if one["kind"] == "RayJob")["spec"]["rayClusterSpec"]
    key = next(one for one in container(spec["headGroupSpec"])["env"] if one["name"] == "PASSWORDS")
    assert key["valueFrom"]["secretKeyRef"] == {"name": "gemstream", "key": "PASSWORDS", "optional": False}


def test_two_jobs_live_beside_each_other() -> None:
    one, two = rendered(), rendered(Where("gke", name="invoices", namespace="lake", schedule="@daily"))
    assert {resource["metadata"]["namespace"] for resource in two.resources} == {"lake"}
    names = {(resource["kind"], resource["metadata"]["name"]) for resource in two.resources}
    assert not names & {(resource["kind"], resource["metadata"]["name"]) for resource in one.resources}
    text = two.text("")
    # What is left of the other name: the program, the user's Secret, labels and folders.
    assert "name: gemstream-" not in text and "serviceAccountName: gemstream" not in text
    cron = next(one for one in two.resources if one["kind"] == "CronJob")["spec"]
    env = cron["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]["env"]
    assert {"name": "PATTERN", "value": "invoices"} in env
    binding = next(one for one in two.resources if one["kind"] == "RoleBinding")
    assert binding["subjects"][0] == {
        "kind": "ServiceAccount", "name": "invoices-schedule", "namespace": "lake",
    }  # fmt: skip
    assert binding["roleRef"]["name"] == "invoices-schedule"


def test_images_and_roles_are_put_where_they_belong() -> None:
    where = Where("gke", cpu_image="registry.io/team/small:1.2", schedule="@daily", **CONCRETE)
    made = rendered(where)
    assert made.notes == ()
    spec = next(one for one in made.resources if one["kind"] == "RayJob")["spec"]
    assert container(groups(made)["vision"])["image"] == CONCRETE["image"]
    small = [container(groups(made)["cpu"]), container(spec["rayClusterSpec"]["headGroupSpec"])]
    small.append(spec["submitterPodTemplate"]["spec"]["containers"][0])
    assert {one["image"] for one in small} == {"registry.io/team/small:1.2"}
    assert CONCRETE["role"] in made.text("") and "111122223333" not in made.text("")
    eks = rendered(Where("eks", **CONCRETE))
    account = next(one for one in eks.resources if one["kind"] == "ServiceAccount")
    assert account["metadata"]["annotations"] == {"eks.amazonaws.com/role-arn": CONCRETE["role"]}
    assert "registry.example.com" not in eks.text("")
    assert len(rendered().notes) == 2, "what is a placeholder is said"
    notes = rendered(Where("kind")).notes
    assert "http://seaweedfs:8333" in notes[0] and "/gemstream/checkpoints" in notes[1]
    small = load_job(TREE / "overlays" / "kind" / "job.yaml")
    assert render(small, Where("kind")).notes == ()


BAD: list[tuple[list[str], list[str]]] = [
    (["--target", "aks"], ["--target 'aks'", "gke, eks, kind"]),
    (["--target", "gke", "--gpu", "T4"], ["--gpu 'T4'", "L4, H100"]),
    (["--target", "gke", "--schedule", "every night"], ["'every night'", "five", "0 3 * * *"]),
    (["--target", "gke", "--schedule", "0 25 * * *"], ["'25' is no hour", "from 0 to 23"]),
    (["--target", "gke", "--schedule", "0 3 * * *", "--time-zone", "Berlin"], ["'Berlin'", "Europe/Berlin"]),
    (["--target", "gke", "--image", "gemstream"], ["--image 'gemstream'", "digest"]),
    (["--target", "gke", "--image", "registry.io:5000/gemstream:latest"], ["another image", "digest"]),
    (["--target", "gke", "--cpu-image", "gemstream@sha256:5"], ["no image", "digest"]),
    (["--target", "gke", "--name", "My_Job"], ["'My_Job'", "small letters"]),
    (["--target", "gke", "--name", "a" * 37], ["36 at most"]),
    (["--target", "gke", "--namespace", "-x"], ["--namespace '-x'"]),
    (["--target", "eks", "--role", "lake"], ["--role 'lake'", "arn:aws:iam"]),
    (["--target", "kind", "--role", CONCRETE["role"]], ["--role", "Secret"]),
    (["--target", "gke", "-i", "/data/in"], ["input: /data/in", "a pod cannot see it", "s3://"]),
    (["--target", "gke", "-i", "file:///data/in"], ["a pod cannot see it"]),
    (["--target", "gke", "-o", "out"], ["output: /", "a pod cannot see it"]),
    (["--target", "kind", "--set", "engine.gpus=1"], ["engine.gpus", "has none"]),
    (["--target", "kind", "--set", "models.vision=auto"], ["auto", "name the models"]),
    (["--target", "gke", "--set", "models.vision=./weights"], ["models.vision: ./weights", "mounted"]),
    (["--target", "gke", "--set", "models.vision=google/gemma-3-8b-it"], ["gemma-3-4b-it"]),
    (["--target", "gke", "--set", "expand.passwords=[hush]"], ["expand.passwords", "ConfigMap"]),
    (["--target", "gke", "--set", "engine.options.hf_token=hush"], ["engine.options.hf_token", "HF_TOKEN"]),
    (["--target", "gke", "--set", "engine.gpus=0.3"], ["--gpu H100, more"]),
    (["--target", "gke", "--set", "limits.drain_seconds=.inf"], ["limits.drain_seconds", "finite"]),
    (["--target", "gke", "--set", "engine.options.of.api-key=hush"], ["engine.options.of.api-key"]),
    (
        ["--target", "gke", "--set", "storage.endpoint_url=http://u:hush@store:9000"],
        ["storage.endpoint_url looks"],
    ),
    (
        ["--target", "gke", "--set", "storage.endpoint_url=http://localhost:8333"],
        ["loopback", "cluster knows"],
    ),
    (["--target", "gke", "--set", "limit.s=1"], ["limit"]),
]


@pytest.mark.parametrize(("flags", "words"), BAD, ids=lambda value: value[-1])
def test_what_no_cluster_could_do_is_told_and_nothing_is_written(
    flags: list[str], words: list[str], tmp_path: Path
) -> None:
    job = tmp_path / "job.yaml"
    job.write_text(yaml.safe_dump(GOOD))
    folder = tmp_path / "made"
    # `main` prints the message of a JobError and leaves with 2 (tests/flow/test_cli.py).
    done = CliRunner().invoke(app, ["deploy", "render", str(job), *flags, "--to", str(folder)])
    assert isinstance(done.exception, JobError), done.output
    message = done.exception.message
    assert [word for word in words if word not in message] == [], message
    assert "hush" not in message
    assert not folder.exists()


def test_the_command_writes_a_file_and_says_what_to_do_with_it(tmp_path: Path) -> None:
    job = tmp_path / "job.yaml"
    job.write_text(yaml.safe_dump(GOOD))
    flags = ["--target", "eks", "--schedule", "0 3 * * 1-5", "--time-zone", "Europe/Berlin", "--hours", "6"]
    flags += ["--image", CONCRETE["image"], "--role", CONCRETE["role"], "--to", str(tmp_path / "made")]
    done = CliRunner().invoke(app, ["deploy", "render", str(job), *flags])
    assert done.exit_code == 0, done.output
    assert done.stdout == f"kubectl apply -f {tmp_path / 'made' / 'gemstream.yaml'}\n"
    made = list(yaml.safe_load_all((tmp_path / "made" / "gemstream.yaml").read_text()))
    cron = next(one for one in made if one["kind"] == "CronJob")["spec"]
    assert (cron["schedule"], cron["timeZone"]) == ("0 3 * * 1-5", "Europe/Berlin")
    assert cron["concurrencyPolicy"] == "Forbid"
    rayjob = next(one for one in made if one["kind"] == "RayJob")["spec"]
    assert rayjob["activeDeadlineSeconds"] == 6 * 3600 and rayjob["suspend"] is True
    printed = CliRunner().invoke(app, ["deploy", "render", str(job), *flags[:-2]])
    assert printed.stdout == (tmp_path / "made" / "gemstream.yaml").read_text()


def test_a_source_that_asks_for_more_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kustomization.yaml").write_text("namePrefix: x-\n")
    with pytest.raises(GemstreamError, match="namePrefix"):
        build(str(tmp_path))
    (tmp_path / "thing.yaml").write_text("kind: Thing\nmetadata: {name: thing}\n")
    lost = "resources: [thing.yaml]\npatches:\n- {target: %s, patch: '[{op: %s, path: %s}]'}"
    for operation, path in (("replace", "/spec/x"), ("remove", "/x"), ("move", "/kind")):
        (tmp_path / "kustomization.yaml").write_text(lost % ("{kind: Thing, name: thing}", operation, path))
        with pytest.raises(GemstreamError, match=f"nowhere: {operation} {path}"):
            build(str(tmp_path))
    assert TREE.is_dir()
