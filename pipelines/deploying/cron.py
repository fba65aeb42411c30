"""A schedule as Kubernetes reads it, which is none of the dialects that Python's libraries do.

Its parser (robfig/cron, ParseStandard) takes five fields and @-words, and is stricter than crontab: Sunday
is 0 and never 7. croniter and cronsim would let through what the API server refuses, 7, L and # among it.
"""

from __future__ import annotations

import re
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from schemas.errors import JobError

_WORDS = {"@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"}
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_FIELDS = (
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of the month", 1, 31, ()),
    ("month", 1, 12, _MONTHS),
    ("day of the week", 0, 6, _DAYS),
)
_LENGTHS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_RANGE = re.compile(r"(?P<all>[*?])|(?P<low>\w+)(?:-(?P<high>\w+))?")
EXAMPLE = "write it as '0 3 * * *': minute, hour, day of the month, month, day of the week"


def check_schedule(text: str) -> str:
    """The schedule, if the API server will take it and it ever comes.

    Raises:
        JobError: it does not parse, or names a day that no month has.
    """
    schedule = text.strip()
    if schedule.startswith("@"):
        if schedule not in _WORDS:
            raise JobError(f"--schedule {text!r}: none of {', '.join(sorted(_WORDS))}", key="schedule")
        return schedule
    fields = schedule.split()
    if len(fields) != len(_FIELDS):
        raise JobError(f"--schedule {text!r} has {len(fields)} fields, not five: {EXAMPLE}", key="schedule")
    sets = []
    for field, (what, low, high, names) in zip(fields, _FIELDS, strict=True):
        try:
            sets.append(_values(field, low, high, names))
        except ValueError as error:
            raise JobError(
                f"--schedule {text!r}: {field!r} is no {what} ({error}); {EXAMPLE}", key="schedule"
            ) from error
    days, months = sets[2], sets[3]
    if fields[4] in ("*", "?") and not any(min(days) <= _LENGTHS[month - 1] for month in months):
        raise JobError(f"--schedule {text!r} never comes: no such month has that day", key="schedule")
    return schedule


def check_time_zone(name: str) -> str:
    """The time zone, if there is one of that name.

    Raises:
        JobError: there is none.
    """
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise JobError(
            f"--time-zone {name!r} is none: name one as Europe/Berlin or Etc/UTC", key="time_zone"
        ) from error
    return name


def _values(field: str, low: int, high: int, names: tuple[str, ...]) -> set[int]:
    found: set[int] = set()
    for item in field.split(","):
        span, slash, step = item.partition("/")
        match = _RANGE.fullmatch(span)
        if match is None:
            raise ValueError(f"{span!r} is neither a number, a range nor *")
        first = low if match["all"] else _value(match["low"], low, names)
        last = high if match["all"] else _value(match["high"], low, names) if match["high"] else first
        if slash:
            if not step.isdecimal() or not int(step):
                raise ValueError(f"/{step} is no step")
            last = last if match["high"] else high
        if not low <= first <= last <= high:
            raise ValueError(f"from {low} to {high}, and upwards")
        found.update(range(first, last + 1, int(step) if slash else 1))
    return found


def _value(text: str, low: int, names: tuple[str, ...]) -> int:
    if text.lower() in names:
        return names.index(text.lower()) + low
    if not text.isascii() or not text.isdecimal():
        raise ValueError(f"{text!r} is no number" + (f", nor one of {', '.join(names)}" if names else ""))
    return int(text)
