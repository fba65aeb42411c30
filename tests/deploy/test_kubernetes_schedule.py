"""A schedule is what Kubernetes' own parser takes, told before anything is applied."""

from __future__ import annotations

import pytest

from pipelines.deploying.cron import check_schedule, check_time_zone
from schemas.errors import JobError


@pytest.mark.parametrize(
    "schedule",
    [
        "0 3 * * *", "*/15 * * * *", "0 0-6/2,12 * jan-mar MON", "5 4 ? * sun", "@daily", " 0 3 * * * ",
        "0 0 29 2 *", "0 0 31 * *", "0 0 31 2 1", "30/10 1 1 1 0",
    ],
)  # fmt: skip
def test_what_kubernetes_takes(schedule: str) -> None:
    assert check_schedule(schedule) == schedule.strip()


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        ("", "0 fields"),
        ("0 3 * *", "4 fields"),
        ("0 0 3 * * *", "6 fields"),
        ("60 3 * * *", "'60' is no minute"),
        ("0 24 * * *", "no hour"),
        ("0 3 0 * *", "no day of the month"),
        ("0 3 * 13 *", "no month"),
        ("0 3 * * 7", "no day of the week"),
        ("0 3 L * *", "no day of the month"),
        ("0 3 * * mon#1", "neither a number"),
        ("0 9-5 * * *", "upwards"),
        ("*/0 3 * * *", "/0 is no step"),
        ("0 3 * jam *", "nor one of jan"),
        ("@fortnightly", "@weekly"),
        ("@every 1h", "@hourly"),
        ("0 0 31 2 *", "never comes"),
        ("0 0 31 4,6,9,11 *", "never comes"),
        ("- 3 * * *", "neither a number"),
        ("٣ 3 * * *", "no number"),
    ],
)
def test_what_it_does_not(schedule: str, words: str) -> None:
    with pytest.raises(JobError, match=words):
        check_schedule(schedule)


def test_time_zones() -> None:
    assert check_time_zone("Europe/Berlin") == "Europe/Berlin"
    for wrong in ("Berlin", "../etc/passwd", ""):
        with pytest.raises(JobError, match="time-zone"):
            check_time_zone(wrong)
