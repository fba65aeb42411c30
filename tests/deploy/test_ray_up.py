"""The files for `ray up`: Ray's own schema takes them, and its own scheduler grows them for our graph."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.graph import EXPAND_MEMORY, READ_MEMORY, size
from pipelines.plan import make_plan
from schemas.job import make_job
from tests.conftest import ROOT

CONFIGS = sorted((ROOT / "deploy" / "ray").glob("*.yaml"))
Config = dict[str, Any]
Asked = Callable[[int, int], list[dict[str, float]]]


def _prepared(config: Config) -> Config:
    """What `ray up` makes of a file before it asks the cloud for anything."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared: Config = prepare_config(copy.deepcopy(config))
    validate_config(prepared)
    return prepared


@pytest.fixture(params=CONFIGS, ids=lambda path: path.stem)
def config(request: pytest.FixtureRequest) -> Config:
    loaded: Config = yaml.safe_load(Path(request.param).read_text())
    return loaded


@pytest.fixture
def asked(config: Config, monkeypatch: pytest.MonkeyPatch) -> Asked:
    """What the stages of pipelines/graph.py ask of a head alone: `asked(engines, parsers)` of each lane."""
    import ray

    head = config["available_node_types"]["head"]["resources"]
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    monkeypatch.setattr(ray, "cluster_resources", lambda: head)
    monkeypatch.setattr(ray, "nodes", list)  # nobody asks for metrics

    def ask(engines: int, parsers: int) -> list[dict[str, float]]:
        job = make_job(
            {
                **{"input": "s3://bucket/in", "output": "s3://bucket/out", "tasks": ["ocr", "transcribe"]},
                "engine": {"gpus": 1, "replicas": 1, "max_replicas": engines},
                "expand": {"workers": parsers},
            }
        )
        plan = make_plan(job, None, 1.0)
        sizing = size(plan)
        reads = {"CPU": 0.1, "memory": READ_MEMORY}
        parser = {"CPU": 1, "memory": sizing.expand_memory}
        engine = {"CPU": 1, "GPU": sizing.gpus}
        stages = (reads, 1), (parser, sizing.expand_workers), (engine, sizing.engine_replicas[1])
        return [stage for stage, many in stages for _ in range(many * len(plan.lanes))]

    return ask


def _grown(config: Config, asked: list[dict[str, float]]) -> tuple[dict[str, int], list[dict[str, float]]]:
    """The nodes that Ray's autoscaler would add to a head alone, and what it has no room for."""
    from ray.autoscaler._private import resource_demand_scheduler as scheduler

    prepared = _prepared(config)
    added, unmet = scheduler.get_nodes_for(
        prepared["available_node_types"],
        {"head": 1},
        "head",
        prepared["max_workers"],
        asked,
        lambda node, demands, kind: scheduler._default_utilization_scorer(
            node, demands, kind, node_availability_summary=None
        ),
    )
    return dict(added), unmet


def test_ray_takes_it(config: Config) -> None:
    types = _prepared(config)["available_node_types"]
    assert set(types) == {"head", "cpu", "vision", "audio"}


def test_a_head_alone_grows_by_what_a_job_asks_for(config: Config, asked: Asked) -> None:
    added, unmet = _grown(config, asked(1, 6))
    assert unmet == []
    assert added.get("vision", 0) + added.get("audio", 0) == 2, "a GPU for each model's engine, and no third"
    assert "head" not in added


def test_the_largest_cluster_holds_an_engine_on_each_gpu(config: Config, asked: Asked) -> None:
    added, unmet = _grown(config, asked(8, 24))
    assert unmet == [] and added["vision"] == added["audio"] == 8
    assert {"CPU": 1, "GPU": 1.0} in _grown(config, asked(9, 1))[1]


def test_parsers_on_all_cpus_of_a_gpu_would_keep_its_engine_out(config: Config, asked: Asked) -> None:
    """Why a node with a GPU has a name for less memory than it has."""
    for name in ("vision", "audio"):
        config["available_node_types"][name]["resources"]["memory"] = 24 * 1024**3
    assert {"CPU": 1, "GPU": 1.0} in _grown(config, asked(8, 24))[1]


def test_a_node_without_memory_to_its_name_would_never_be_added(config: Config, asked: Asked) -> None:
    """Why the files say how much there is: on Google's machines Ray does not look."""
    demands = asked(1, 4)
    for kind in config["available_node_types"].values():
        kind["resources"].pop("memory", None)
    assert {"CPU": 1, "memory": EXPAND_MEMORY} in _grown(config, demands)[1]


def test_the_head_is_kept_and_the_rest_is_spot(config: Config) -> None:
    def is_spot(node: Config) -> bool:
        aws, gcp = node.get("InstanceMarketOptions", {}), node.get("scheduling", {})
        return aws.get("MarketType") == "spot" or gcp.get("provisioningModel") == "SPOT"

    types = config["available_node_types"]
    assert {name for name, kind in types.items() if not is_spot(kind["node_config"])} == {"head"}
    assert types["head"]["resources"]["CPU"] == 0, "nothing but the driver and its actors"


def test_engines_run_in_the_image_for_gpus(config: Config) -> None:
    images = {
        name: kind.get("docker", {}).get("worker_image")
        for name, kind in config["available_node_types"].items()
    }
    has_gpu = {name: "GPU" in kind["resources"] for name, kind in config["available_node_types"].items()}
    assert {name: bool(image and image.endswith("-gpu-vm")) for name, image in images.items()} == has_gpu
    assert config["docker"]["image"].endswith("-cpu-vm")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_rights_are_roles_and_nothing_is_open_to_all(path: Path) -> None:
    text = path.read_text()
    assert not re.search(r"AKIA|aws_secret|private_key|HF_TOKEN=|:latest\b|\b0\.0\.0\.0", text)
    assert "--dashboard-host=127.0.0.1" in text


def _no_head(config: Config) -> None:
    config["head_node_type"] = "boss"


def _half_a_gpu(config: Config) -> None:
    config["available_node_types"]["vision"]["resources"]["GPU"] = 0.5


def _too_many(config: Config) -> None:
    config["available_node_types"]["vision"]["min_workers"] = 25


def _no_image(config: Config) -> None:
    del config["docker"]["image"]


def _unknown(config: Config) -> None:
    config["max_worker"] = 3


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_no_head, "`head_node_type` must be one of"),
        (_half_a_gpu, "0.5 is not of type 'integer'"),
        (_too_many, "smaller than the sum of `min_workers`"),
        (_no_image, "Must provide a container & image name"),
        (_unknown, "'max_worker' was unexpected"),
    ],
)
def test_one_that_does_not_hold_is_refused(
    config: Config, spoil: Callable[[Config], None], said: str
) -> None:
    from jsonschema import ValidationError

    spoil(config)
    with pytest.raises((ValueError, AssertionError, ValidationError), match=re.escape(said)):
        _prepared(config)
