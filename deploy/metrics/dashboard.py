"""`python -m deploy.metrics.dashboard` writes dashboard.json, and alerts.yml as the operator takes it.

A row for each question, a line for each panel; what Grafana wants around them is the same everywhere.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import yaml

HERE = Path(__file__).parent
DASHBOARD, ALERTS, RULES = HERE / "dashboard.json", HERE / "alerts.yml", HERE / "rules.yaml"
SCHEMA_VERSION = 42
"""Grafana 12's; later ones bring it up to date as they load it."""
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
RUN, ENGINE = 'job=~"$job", run=~"$run"', 'job=~"$job"'
HALF, THIRD, SIXTH = 12, 8, 4


class Panel(NamedTuple):
    """One panel. `queries` are PromQL by legend; RUN and ENGINE in angle brackets stand for the selectors."""

    title: str
    unit: str
    queries: dict[str, str]
    width: int = HALF
    kind: str = "timeseries"
    stacked: bool = False
    note: str = ""


def rate(metric: str, by: str) -> str:
    """What a counter of the runs grows by each second."""
    return f"sum by ({by}) (rate(ray_gemstream_{metric}_total{{<RUN>}}[$__rate_interval]))"


def total(metric: str, labels: str = "") -> str:
    """What a counter of the runs has come to."""
    return f"sum(ray_gemstream_{metric}_total{{<RUN>{labels}}})"


def quantile(metric: str, share: float) -> str:
    """Of one of vLLM's histograms, by model."""
    return (
        f"histogram_quantile({share}, sum by (le, model_name) "
        f"(rate(ray_vllm_{metric}_bucket{{<ENGINE>}}[$__rate_interval])))"
    )


SETTLED = total("documents")
FULL = f"{rate('engine_request_seconds', 'lane')} / {rate('engine_place_seconds', 'lane')}"
WORKED = ', outcome=~"ok|partial|failed"'
ROWS: dict[str, tuple[Panel, ...]] = {
    "How far is it": (
        Panel("Done", "percentunit", {"": f"{SETTLED} / {total('documents_listed')}"}, SIXTH, "stat",
              note="Of the documents listed; the list grows until it has ended."),
        Panel("Listed", "short", {"": total("documents_listed")}, SIXTH, "stat"),
        Panel("List ended", "bool_yes_no", {"": "min(ray_gemstream_listing_ended{<RUN>})"}, SIXTH, "stat"),
        Panel("Running for", "s",
              {"": "time() - min(ray_gemstream_start_timestamp_seconds{<RUN>})"}, SIXTH, "stat"),
        Panel("Last progress", "s",
              {"": "time() - max(ray_gemstream_last_progress_timestamp_seconds{<RUN>})"}, SIXTH, "stat",
              note="Seconds ago. Published rows come every sink.seconds, the rest as it happens."),
        Panel("To go", "s", {"": f"({total('documents_listed')} - {SETTLED}) / "
              "sum(rate(ray_gemstream_documents_total{<RUN>}[10m]))"}, SIXTH, "stat",
              note="At the pace of the last ten minutes."),
        Panel("Documents by outcome", "short",
              {"{{outcome}}": "sum by (outcome) (ray_gemstream_documents_total{<RUN>})"}, stacked=True),
        Panel("Records by task", "short",
              {"{{task}} {{status}}": "sum by (task, status) (ray_gemstream_records_total{<RUN>})"}),
    ),
    "How fast is it": (
        Panel("Documents", "cps",
              {"settled": rate("documents", "run"), "listed": rate("documents_listed", "run")}, THIRD),
        Panel("Parts made", "cps", {"{{lane}}": rate("parts", "lane")}, THIRD,
              note="Pages, images and segments."),
        Panel("Answers", "cps", {"{{lane}} {{status}}": rate("answers", "lane, status")}, THIRD),
        Panel("Tokens", "cps", {"{{task}} {{kind}}": rate("tokens", "task, kind")}, THIRD),
        Panel("Written", "Bps", {"records": rate("record_bytes", "run")}, THIRD),
        Panel("Seconds an answer", "s",
              {"{{task}}": f"{rate('answer_seconds', 'task')} / on (task) sum by (task) "
               '(rate(ray_gemstream_records_total{<RUN>, status="record"}[$__rate_interval]))'}, THIRD),
    ),
    "What waits": (
        Panel("How full the engines are", "percentunit",
              {"{{lane}}": FULL},
              note="Requests in the engines, over their places. Under one half for long, GPUs starve."),
        Panel("Engines", "none", {"{{lane}} {{state}}": "sum by (lane, state) (rate("
              'ray_gemstream_stage_seconds_total{<RUN>, stage="infer"}[$__rate_interval]))'}, stacked=True,
              note="Engines by what they are in. Empty is starved: a model is there, and no request."),
        Panel("Expand", "none", {"{{lane}} {{state}}": "sum by (lane, state) (rate("
              'ray_gemstream_stage_seconds_total{<RUN>, stage="expand"}[$__rate_interval]))'}, stacked=True,
              note="Workers by what they do: fetching waits for the store, handing for room, waiting for "
              "documents."),
        Panel("Queue", "short", {
            "{{lane}} parts waiting": "sum by (lane) (ray_gemstream_parts_waiting{<RUN>})",
            "{{lane}} requests in flight": "sum by (lane) (ray_gemstream_requests_in_flight{<RUN>})",
            "{{lane}} of these, in an engine": rate("engine_request_seconds", "lane"),
            "{{lane}} of these, not begun": rate("engine_queued_seconds", "lane"),
        }),
    ),
    "What fails": (
        Panel("Failed share", "percentunit", {
            "failed": "max by (run) (ray_gemstream_failed_documents_ratio{<RUN>})",
            "limit": "max by (run) (ray_gemstream_failed_documents_limit_ratio{<RUN>})",
        }, THIRD),
        Panel("Success rate", "percentunit", {
            "": f"{total('documents', WORKED.replace('|partial|failed', ''))} / {total('documents', WORKED)}"
        }, THIRD, note="Of the documents that this run worked on."),
        Panel("Rows by category", "short", {
            "{{stage}} {{category}}": "sum by (stage, category) (ray_gemstream_failures_total{<RUN>})"
        }, THIRD, stacked=True, note="README says what each category means."),
        Panel("Asked again, and not valid", "cps", {
            "{{lane}} retries": rate("retries", "lane"), "{{task}} invalid": rate("invalid_records", "task"),
        }, THIRD),
        Panel("Parsers that crashed or hung", "short",
              {"{{lane}}": "sum by (lane) (ray_gemstream_parser_crashes_total{<RUN>})"}, THIRD),
        Panel("Engine starts", "short",
              {"{{lane}}": "sum by (lane) (ray_gemstream_engine_starts_total{<RUN>})"}, THIRD,
              note="More than there are engines are restarts, or the pass about whole documents."),
    ),
    "What it costs": (
        Panel("Cost", "none", {
            "{{currency}}": "sum by (currency) (ray_gemstream_cost_total{<RUN>})",
            "{{currency}} budget": "sum by (currency) (ray_gemstream_cost_budget{<RUN>})",
        }, THIRD, note="Where the job has prices."),
        Panel("Cost of a thousand documents", "none", {
            "{{currency}}": "1000 * sum by (currency) (ray_gemstream_cost_total{<RUN>}) "
            f"/ on () group_left () {SETTLED}"
        }, THIRD),
        Panel("Prompt tokens that a cache had", "percentunit", {
            "{{task}}": f"{rate('cached_tokens', 'task')} / on (task) sum by (task) "
            '(rate(ray_gemstream_tokens_total{<RUN>, kind="prompt"}[$__rate_interval]))'
        }, THIRD),
        Panel("Tokens so far", "short",
              {"{{task}} {{kind}}": "sum by (task, kind) (ray_gemstream_tokens_total{<RUN>})"}, HALF),
        Panel("Rows written", "short", {"rows": total("rows_written")}, SIXTH, "stat"),
        Panel("Questions", "short", {"asked": total("requests")}, SIXTH, "stat"),
        Panel("Cached so far", "short", {"tokens": total("cached_tokens")}, SIXTH, "stat"),
    ),
    "The engines themselves (vLLM)": (
        Panel("Requests", "short", {
            "{{model_name}} running": "sum by (model_name) (ray_vllm_num_requests_running{<ENGINE>})",
            "{{model_name}} waiting": "sum by (model_name) (ray_vllm_num_requests_waiting{<ENGINE>})",
        }, THIRD),
        Panel("KV cache in use", "percentunit",
              {"{{model_name}}": "max by (model_name) (ray_vllm_kv_cache_usage_perc{<ENGINE>})"}, THIRD),
        Panel("Cache hits", "percentunit", {
            "{{model_name}} prefix": "sum by (model_name) (rate(ray_vllm_prefix_cache_hits_total{<ENGINE>}"
            "[$__rate_interval])) / sum by (model_name) (rate(ray_vllm_prefix_cache_queries_total{<ENGINE>}"
            "[$__rate_interval]))",
            "{{model_name}} media": "sum by (model_name) (rate(ray_vllm_mm_cache_hits_total{<ENGINE>}"
            "[$__rate_interval])) / sum by (model_name) (rate(ray_vllm_mm_cache_queries_total{<ENGINE>}"
            "[$__rate_interval]))",
        }, THIRD),
        Panel("Tokens", "cps", {
            "{{model_name}} prompt":
                "sum by (model_name) (rate(ray_vllm_prompt_tokens_total{<ENGINE>}[$__rate_interval]))",
            "{{model_name}} generated":
                "sum by (model_name) (rate(ray_vllm_generation_tokens_total{<ENGINE>}[$__rate_interval]))",
        }, THIRD),
        Panel("Seconds a request", "s", {
            "{{model_name}} p50": quantile("e2e_request_latency_seconds", 0.5),
            "{{model_name}} p95": quantile("e2e_request_latency_seconds", 0.95),
        }, THIRD),
        Panel("Seconds to the first token", "s", {
            "{{model_name}} p50": quantile("time_to_first_token_seconds", 0.5),
            "{{model_name}} p95": quantile("time_to_first_token_seconds", 0.95),
        }, THIRD),
    ),
}  # fmt: skip


def build() -> dict[str, Any]:
    """The dashboard, as Grafana imports it."""
    panels: list[dict[str, Any]] = []
    y = 0
    for title, row in ROWS.items():
        panels.append({"id": len(panels) + 1, "type": "row", "title": title, "collapsed": False, "panels": [],
                       "gridPos": {"h": 1, "w": 24, "x": 0, "y": y}})  # fmt: skip
        x, y, height = 0, y + 1, 0
        for panel in row:
            if x + panel.width > 24:
                x, y, height = 0, y + height, 0
            tall = 4 if panel.kind == "stat" and panel.width == SIXTH else 8
            panels.append(drawn(panel, len(panels) + 1, {"h": tall, "w": panel.width, "x": x, "y": y}))
            x, height = x + panel.width, max(height, tall)
        y += height
    return {
        "title": "Gemstream",
        "uid": "gemstream",
        "description": "Runs of gemstream, from what they tell Ray's agents (pipelines/metrics.py).",
        "tags": ["gemstream", "ray", "vllm"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "timezone": "browser",
        "annotations": {"list": []},
        "links": [],
        "templating": {"list": variables()},
        "panels": panels,
    }


def variables() -> list[dict[str, Any]]:
    """What is chosen at the top: whose Prometheus, which of its jobs, which runs."""
    known = "ray_gemstream_documents_listed_total"
    source = {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"}
    return [source] + [
        {
            "name": name,
            "label": label,
            "type": "query",
            "datasource": SOURCE,
            "definition": query,
            "query": {"query": query, "refId": name},
            "refresh": 2,
            "sort": sort,
            "multi": True,
            "includeAll": True,
            "allValue": ".+",
            "current": {"text": ["All"], "value": ["$__all"]},
        }
        for name, label, sort, query in (
            ("job", "Job", 1, f"label_values({known}, job)"),
            ("run", "Run", 2, f'label_values({known}{{job=~"$job"}}, run)'),
        )
    ]


def drawn(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    """One panel, as Grafana has it."""
    custom = {"fillOpacity": 25 if panel.stacked else 5, "showPoints": "never",
              "stacking": {"mode": "normal" if panel.stacked else "none"}}  # fmt: skip
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.note,
        "datasource": SOURCE,
        "gridPos": place,
        "fieldConfig": {
            "defaults": {
                "unit": panel.unit,
                "min": 0,
                **({"custom": custom} if panel.kind == "timeseries" else {}),
            },
            "overrides": [],
        },
        "options": {"tooltip": {"mode": "multi", "sort": "desc"}, "legend": {"displayMode": "list"}}
        if panel.kind == "timeseries"
        else {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "none"},
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": SOURCE,
                "expr": query.replace("<RUN>", RUN).replace("<ENGINE>", ENGINE),
                "legendFormat": legend or "__auto",
            }
            for index, (legend, query) in enumerate(panel.queries.items())
        ],
    }


def rules() -> dict[str, Any]:
    """The alerts, as the Prometheus operator takes them."""
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "gemstream", "labels": {"release": "prometheus"}},
        "spec": yaml.safe_load(ALERTS.read_text()),
    }


class _Dumper(yaml.SafeDumper):
    """Expressions of several lines stay so."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def written() -> dict[Path, str]:
    """What the two files are to hold."""
    return {
        DASHBOARD: json.dumps(build(), indent=2) + "\n",
        RULES: "# Of alerts.yml: python -m deploy.metrics.dashboard\n"
        + yaml.dump(rules(), Dumper=_Dumper, sort_keys=False, width=110),
    }


if __name__ == "__main__":
    for path, text in written().items():
        path.write_text(text)
