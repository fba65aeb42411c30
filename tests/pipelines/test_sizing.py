"""What a run is expected to take, and that it says from what."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from deploy.demo.documents import EXAMPLES
from pipelines.preview import preview
from pipelines.reckoning import Reckoning
from schemas.job import JobSpec
from schemas.selection import Selection
from tests.fixtures.runs import RunJob
from tests.schemas.test_rates import RATES

FaultJob = Callable[..., JobSpec]
ENGINE = RATES.engines["gemma3-demo"]
PRICES = {"engine_hour": 3.6, "cpu_hour": 36.0, "currency": "EUR"}
EVERYTHING = Selection(force=True)


def sized(fault_job: FaultJob, **settings: Any) -> JobSpec:
    return fault_job(**{"input": str(EXAMPLES), "tasks": ["ocr"], "rates": RATES, **settings})


def reckoned(run_job: RunJob, job: JobSpec) -> Reckoning:
    found = run_job(job).reckoning
    assert found is not None
    return found


def test_hours_are_the_sum_of_what_parts_and_answers_take(fault_job: FaultJob) -> None:
    seen = preview(sized(fault_job, tasks=["ocr", "caption"], prices=PRICES))
    told = seen.prediction
    pages, images = seen.parts["page"], seen.parts["image"]
    assert told.output_tokens == seen.answer_tokens_at_most, "nothing is known of answers, so all they may be"
    assert told.cached_tokens == 144 * (pages + images), "the second question shares the picture"
    assert told.engine_seconds == {
        "gemma3-demo": pytest.approx(
            (told.prompt_tokens - told.cached_tokens) / ENGINE.prefill_tokens_per_second
            + told.output_tokens / ENGINE.decode_tokens_per_second
            + pages * 0.5
            + images * 0.25
            + 60,
            abs=0.01,
        )
    }
    assert told.expand_seconds == pytest.approx(pages * 0.01 + images * 0.02)
    assert told.cpu_seconds == pytest.approx(told.expand_seconds + 2 * (pages + images) * 0.005)
    assert told.engine_hours is not None and told.cpu_seconds is not None
    assert told.cost == pytest.approx(told.engine_hours * 3.6 + told.cpu_seconds / 100)
    assert told.currency == "EUR"
    assert "budget" in told.basis["output_tokens"] and f"{pages:,} pages" in told.basis["expand_seconds"]
    assert told.basis["rates"] == "made up"


def test_without_rates_tokens_are_told_and_hours_are_not(fault_job: FaultJob) -> None:
    told = preview(sized(fault_job, rates=None, prices=PRICES)).prediction
    assert told.output_tokens > 0 and told.output_bytes > 0
    assert (told.engine_seconds, told.expand_seconds, told.cost) == (None, None, None)
    assert "no rates" in told.basis["cost"]


def test_a_model_that_the_rates_do_not_know_is_named(fault_job: FaultJob) -> None:
    told = preview(sized(fault_job, tasks=["ocr", "transcribe"], prices=PRICES)).prediction
    assert told.engine_seconds is None and told.cost is None
    assert "google/gemma-3n-E2B-it" in told.basis["engine_seconds"]
    assert told.expand_seconds, "of that much is known"


def test_a_served_model_is_paid_by_the_token(fault_job: FaultJob) -> None:
    engine = {"kind": "openai", "options": {"base_url": "http://127.0.0.1:9/v1"}}
    prices = {"million_tokens_in": 2.0, "million_tokens_out": 8.0, "engine_hour": 100.0}
    told = preview(sized(fault_job, rates="L4", prices=prices, engine=engine)).prediction
    assert told.engine_seconds == {} and told.cached_tokens == 0
    assert told.cost == pytest.approx((told.prompt_tokens * 2 + told.output_tokens * 8) / 1e6, abs=1e-6)


def test_pages_shown_as_text_have_nothing_to_encode(fault_job: FaultJob) -> None:
    settings = {"include": ["pdf/*"], "tasks": ["caption"]}
    as_text, drawn = (
        preview(sized(fault_job, **settings, expand={"pages": pages, "passwords": ["demo"]})).prediction
        for pages in ("text", "image")
    )
    assert " 0 pictures" in as_text.basis["engine_seconds/gemma3-demo"]
    assert " 0 pictures" not in drawn.basis["engine_seconds/gemma3-demo"]


def test_once_there_are_records_answers_are_expected_to_be_like_them(
    fault_job: FaultJob, run_job: RunJob
) -> None:
    job = sized(fault_job, prices=PRICES)
    before = reckoned(run_job, job)
    assert before.predicted is not None and "budget" in before.predicted.basis["output_tokens"]
    seen = preview(job, EVERYTHING).prediction
    spent = before.spent
    assert seen.basis["output_tokens"].startswith("ocr: means of ")
    assert (seen.output_tokens, seen.prompt_tokens) == (spent.output_tokens, spent.prompt_tokens)
    assert seen.output_bytes == pytest.approx(spent.output_bytes, rel=0.01)


def test_the_report_has_what_it_took_beside_what_was_expected(fault_job: FaultJob, run_job: RunJob) -> None:
    job = sized(fault_job, tasks=["ocr", "transcribe"], prices=PRICES, models={})
    rates = RATES.model_copy(
        update={"engines": {name: ENGINE for name in ("google/gemma-3-4b-it", "google/gemma-3n-E4B-it")}}
    )
    job = job.model_copy(update={"rates": rates})
    planned = preview(job)
    found = reckoned(run_job, job)
    told, spent = found.predicted, found.spent
    assert told is not None and told.engine_seconds is not None
    assert told.basis["expand_seconds"] == planned.prediction.basis["expand_seconds"], "the same parts"
    assert set(told.engine_seconds) == set(rates.engines)
    assert spent.engine_hours > 0 and spent.cpu_hours * 3_600 >= spent.expand_seconds > 0
    # The hours are told to six digits, and an hour of CPU costs 36.
    assert spent.cost == pytest.approx(spent.engine_hours * 3.6 + spent.cpu_hours * 36, abs=2.5e-5)
    again = reckoned(run_job, job)
    assert again.predicted is not None and again.predicted.output_tokens == 0, "nothing was owed"
    assert again.spent.output_bytes == 0


def test_prices_alone_are_enough_for_what_it_cost(fault_job: FaultJob, run_job: RunJob) -> None:
    found = reckoned(run_job, sized(fault_job, rates=None, prices=PRICES, include=["shapes/*"]))
    assert found.predicted is None and found.spent.cost is not None and found.spent.cost > 0


def test_a_job_with_neither_reports_neither(fault_job: FaultJob, run_job: RunJob) -> None:
    assert run_job(sized(fault_job, rates=None, include=["shapes/*"])).reckoning is None
