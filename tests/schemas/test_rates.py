"""Rates and prices: what a file of them may say, and where the defaults come from."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.plan import make_plan
from schemas.errors import JobError
from schemas.gpus import DEFAULTS, GPUS, MEASURED
from schemas.job import JobSpec, make_job
from schemas.models import find_model
from schemas.rates import EngineRates, Rates, find_rates, name_of
from tests.fixtures.runs import GEMMA3

RATES = Rates(
    hardware="a machine",
    source="made up",
    expand_seconds={"page": 0.01, "image": 0.02, "audio": 0.03},
    record_seconds=0.005,
    engines={
        "gemma3-demo": EngineRates(
            prefill_tokens_per_second=1_000,
            decode_tokens_per_second=100,
            media_seconds={"page": 0.5, "image": 0.25},
            start_seconds=60,
        )
    },
    list_keys_per_second=1_000,
    get_bytes_per_second=1e8,
)


def job(**settings: object) -> JobSpec:
    return make_job({"input": "in", "output": "out", "tasks": ["ocr"], **settings})


def test_a_file_of_them_is_read_again_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "rates.yaml").write_text(RATES.dump())
    (tmp_path / "rates.json").write_text(RATES.model_dump_json())
    for name in ("rates.yaml", "rates.json"):
        assert find_rates(str(tmp_path / name)) == RATES
    assert job(rates=str(tmp_path / "rates.yaml")).rates == RATES


def test_a_run_writes_them_down_whole_so_that_it_can_be_tried_again_without_the_file() -> None:
    first = job(rates=RATES, prices={"engine_hour": 2, "currency": "EUR"})
    again = make_job(first.public())
    assert (again.rates, again.prices) == (first.rates, first.prices)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("hardware: x", "expand_seconds"),
        (RATES.dump() + "speed: 3\n", "speed"),
        (RATES.dump().replace("decode_tokens_per_second: 100.0", "decode_tokens_per_second: 0"), "greater"),
        ("a: [", "rates"),
    ],
)
def test_what_does_not_hold_is_named(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "rates.yaml"
    path.write_text(text)
    with pytest.raises(JobError, match=words):
        find_rates(str(path))


def test_who_names_neither_a_file_nor_a_gpu_is_told_which_there_are() -> None:
    with pytest.raises(JobError, match=r"L4, A100, H100.*gemstream bench"):
        job(rates="T4")


@pytest.mark.parametrize("prices", [{}, {"currency": "EUR"}])
def test_prices_name_one_at_least(prices: dict[str, str]) -> None:
    with pytest.raises(JobError, match="engine_hour"):
        job(prices=prices)


def test_prices_that_there_are_not_are_refused() -> None:
    with pytest.raises(JobError, match="did you mean 'engine_hour'"):
        job(prices={"engine_hours": 2})


def test_neither_is_in_a_fingerprint() -> None:
    plain = make_plan(job(), None, 0.0)
    sized = make_plan(job(rates="l4", prices={"cpu_hour": 0.04}), None, 0.0)
    assert sized.job.rates is not None
    assert plain.fingerprints == sized.fingerprints


@pytest.mark.parametrize("name", DEFAULTS)
def test_defaults_say_that_they_are_derived_and_from_what(name: str) -> None:
    rates = find_rates(name.lower())
    sheet = next(gpu.sheet for gpu in GPUS if gpu.name == name)
    assert rates.source.startswith("derived, not measured")
    assert sheet in rates.source and MEASURED in rates.source
    assert all(name_of(find_model(source)) == source for source in rates.engines)


def test_they_give_the_measurement_back_that_they_are_derived_from() -> None:
    rates = find_rates("A100").engines["google/gemma-3-4b-it"]
    assert rates.prefill_tokens_per_second == pytest.approx(19_690, rel=0.01)


def test_a_model_that_does_not_fit_a_card_has_no_rate_on_it() -> None:
    fits = {name: set(find_rates(name).engines) for name in DEFAULTS}
    assert "google/gemma-3-27b-it" in fits["H100"] and "google/gemma-3-27b-it" not in fits["L4"]


def test_larger_models_are_slower_and_larger_cards_faster() -> None:
    cards = [find_rates(name).engines for name in ("L4", "A100", "H100")]
    small = [card["google/gemma-3-4b-it"].decode_tokens_per_second for card in cards]
    assert small == sorted(small)
    sizes = [cards[2][f"google/gemma-3-{size}-it"] for size in ("27b", "12b", "4b")]
    assert [size.decode_tokens_per_second for size in sizes] == sorted(
        size.decode_tokens_per_second for size in sizes
    )


def test_a_folder_goes_by_its_own_name_wherever_it_lies() -> None:
    assert RATES.of(find_model(str(GEMMA3))) == RATES.engines["gemma3-demo"]
