"""What Prometheus scrapes of a real run is what its report says, and all that dashboard and alerts ask."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from tenacity import Retrying, stop_after_delay, wait_fixed

from deploy.demo.documents import EXAMPLES
from deploy.metrics.dashboard import ALERTS, DASHBOARD, written
from pipelines.metrics import METRICS
from tests.conftest import ROOT
from tests.fixtures.runs import MainRun
from tests.fixtures.watched import LAST_SECONDS, Watch

NAME = re.compile(r"\bray_[a-z0-9_]+")
RAYS_OWN = re.compile(r'[A-Z][A-Za-z]+="[^"]*",')
CHOSEN = {"$job": ".+", "$run": ".+", "$__rate_interval": "1m"}


def soon() -> Retrying:
    """Until the last of what is said has been exported and scraped: every 10 s, and every 5."""
    return Retrying(stop=stop_after_delay(LAST_SECONDS), wait=wait_fixed(2), reraise=True)


def panels() -> Iterator[tuple[str, str]]:
    """Every query of the dashboard as Grafana sends it, with its panel's title."""
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel.get("targets", ()):
            query = target["expr"]
            for name, value in CHOSEN.items():
                query = query.replace(name, value)
            yield f"{panel['title']}: {target['legendFormat']}", query


def alerts() -> dict[str, dict[str, Any]]:
    (group,) = yaml.safe_load(ALERTS.read_text())["groups"]
    return {rule["alert"]: rule for rule in group["rules"]}


def asked() -> set[str]:
    queries = [query for _, query in panels()] + [rule["expr"] for rule in alerts().values()]
    return {name for query in queries for name in NAME.findall(query)}


def promtool(*arguments: str, text: str = "") -> None:
    if shutil.which("promtool") is None:
        pytest.skip("needs promtool: apt-get install prometheus")
    done = subprocess.run(["promtool", *arguments], input=text, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_is_scraped_is_what_the_report_says(main_run: MainRun, watch: Watch) -> None:
    report = main_run.report
    tokens = {(name, "prompt"): task.prompt_tokens for name, task in report.tasks.items()}
    tokens |= {(name, "output"): task.output_tokens for name, task in report.tasks.items()}
    said = report.counts.model_dump(exclude={"listed"})
    for attempt in soon():
        with attempt:
            scraped: dict[str, dict[tuple[str, ...], float]] = {}
            for family in text_string_to_metric_families(watch.scraped("ray_gemstream_")):
                for sample in family.samples:
                    if sample.labels.get("run") == report.run_id:
                        metric = next(m for m in METRICS if f"ray_{m.name}" == sample.name)
                        labels = tuple(sample.labels[label] for label in metric.labels)
                        scraped.setdefault(metric.name, {})[labels] = sample.value
            assert scraped["gemstream_documents_total"] == {(name,): count for name, count in said.items()}
            assert scraped["gemstream_documents_listed_total"] == {(): report.counts.listed}
            assert scraped["gemstream_tokens_total"] == tokens
            assert scraped["gemstream_records_total"]["ocr", "record"] == report.tasks["ocr"].answers
            faults = {(fault.status, fault.stage, fault.category): fault.rows for fault in report.faults}
            assert scraped["gemstream_failures_total"] == faults
            assert scraped["gemstream_engine_starts_total"] == {("vision",): 1, ("audio",): 1}
            made, found = scraped["gemstream_parts_total"], report.tasks
            assert made == {("vision",): found["ocr"].answers, ("audio",): found["transcribe"].answers}
            assert report.reckoning is not None and report.reckoning.spent.cost is not None
            cost = scraped["gemstream_cost_total"]["USD",]
            assert cost == pytest.approx(report.reckoning.spent.cost, rel=0.1)
    for name, series in scraped.items():
        assert len(series) <= 24, name


def test_every_metric_that_is_asked_for_was_scraped(main_run: MainRun, watch: Watch) -> None:
    for attempt in soon():
        with attempt:
            assert asked() - watch.known() == set()


def test_every_panel_shows_something(main_run: MainRun, watch: Watch) -> None:
    if watch.prometheus is None:
        pytest.skip("needs a Prometheus: apt-get install prometheus")
    for attempt in soon():
        with attempt:
            assert [title for title, query in panels() if not watch.series(query)] == []
    for rule in alerts().values():
        watch.series(rule["expr"])  # is answered; that nothing fires is as well


def test_names_and_help_are_as_prometheus_wants_them(main_run: MainRun, watch: Watch) -> None:
    text = watch.scraped("ray_gemstream_")
    assert text
    promtool("check", "metrics", text=RAYS_OWN.sub("", text))


def test_all_that_is_exported_is_looked_at() -> None:
    ours = {name for name in asked() if name.startswith("ray_gemstream_")}
    assert ours == {f"ray_{metric.name}" for metric in METRICS}


def test_the_dashboard_and_the_operators_rules_are_what_writes_them() -> None:
    for path, text in written().items():
        assert path.read_text() == text, "python -m deploy.metrics.dashboard"


def test_what_kubernetes_is_given_is_there() -> None:
    listed = yaml.safe_load(ALERTS.with_name("kustomization.yaml").read_text())
    files = [*listed["resources"], *(name for made in listed["configMapGenerator"] for name in made["files"])]
    assert set(files) == {"podmonitor.yaml", "rules.yaml", "dashboard.json"}
    for name in listed["resources"]:
        made = yaml.safe_load(ALERTS.with_name(name).read_text())
        assert made["apiVersion"] == "monitoring.coreos.com/v1" and made["metadata"]["name"] == "gemstream"


def test_every_panel_has_a_unit_and_asks_the_source_that_was_chosen() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    shown = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    assert all(panel["fieldConfig"]["defaults"]["unit"] for panel in shown)
    assert {panel["datasource"]["uid"] for panel in shown} == {"${datasource}"}
    places = [tuple(panel["gridPos"].values()) for panel in dashboard["panels"]]
    taken = [(x + i, y + j) for h, w, x, y in places for i in range(w) for j in range(h)]
    assert len(taken) == len(set(taken)) and max(x for x, _ in taken) < 24


def test_alerts_say_how_bad_it_is_and_what_to_do() -> None:
    for name, rule in alerts().items():
        assert rule["for"] and rule["labels"]["severity"] in ("warning", "critical"), name
        assert "run" in rule["annotations"]["summary"] and len(rule["annotations"]["description"]) > 80


def test_alerts_fire_for_a_run_that_needs_somebody_and_for_no_other() -> None:
    promtool("check", "rules", str(ALERTS))
    promtool("check", "config", str(ALERTS.with_name("prometheus.yml")))
    promtool("test", "rules", "tests/deploy/alerts.test.yml")
    assert all(name in (ROOT / "tests/deploy/alerts.test.yml").read_text() for name in alerts())


@pytest.mark.parametrize("clustered", [False, True])
def test_a_port_that_cannot_be_had_is_said_before_ray_starts(clustered: bool, tmp_path: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-m", "pipelines.cli", "run", "-i", str(EXAMPLES), "-o", str(tmp_path)]
        command += ["-t", "ocr", "--set", "engine.kind=fault", "--metrics-port", port]
        environment = {**os.environ, **({"RAY_ADDRESS": "127.0.0.1:1"} if clustered else {})}
        done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2, done.stderr
    assert ("metrics-export-port" if clustered else f"--metrics-port {port}") in done.stderr
    assert not list(tmp_path.glob("_runs/*")), "nothing was begun"
