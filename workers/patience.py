"""Waits for a server that takes nothing now, for its rate limit or while it restarts."""

from __future__ import annotations

import math
import random
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tenacity import RetryCallState

Said = TypeVar("Said")

PASSING = frozenset({408, 429, 502, 503, 504, 529})
"""Statuses said of the server or of the way to it, and not of what was asked."""
LONGEST_PAUSE = 30


class Patience:
    """One server's, shared by everybody who asks it.

    Args:
        seconds: within which somebody is to be answered, while anybody waits.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.last_answer = -math.inf
        """`time.monotonic()` of it."""

    async def ask(self, call: Callable[[], Awaitable[Said]]) -> Said:
        """What `call` returns in the end. Who waits while others are answered waits on.

        Raises:
            openai.APIError: as `call` raises it, where waiting does not help or has not helped.
        """
        from tenacity import AsyncRetrying, retry_if_exception

        began = time.monotonic()

        def deserted(state: RetryCallState) -> bool:
            silent = time.monotonic() - max(self.last_answer, began)
            return silent + state.upcoming_sleep > self._seconds

        tries = AsyncRetrying(retry=retry_if_exception(passes), wait=_pause, stop=deserted, reraise=True)
        said: Said = await tries(call)
        self.last_answer = time.monotonic()
        return said


def passes(error: BaseException) -> bool:
    """Whether the same request may be taken later: it never reached the server, or met it at a bad time."""
    import httpx2
    from openai import APIConnectionError, APIStatusError

    if isinstance(error, APIStatusError):
        return error.status_code in PASSING
    unsent = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.ProxyError)
    return isinstance(error, APIConnectionError) and isinstance(error.__cause__, unsent)


def _pause(state: RetryCallState) -> float:
    """Seconds until the next try: what the server asks for, else longer each time; and not all at once."""
    from openai import APIStatusError
    from tenacity import wait_random_exponential

    error = state.outcome.exception() if state.outcome else None
    asked = _retry_after(error.response.headers) if isinstance(error, APIStatusError) else None
    if asked is None:
        return wait_random_exponential(multiplier=1, max=LONGEST_PAUSE)(state)
    return asked + random.random()


def _retry_after(headers: Any) -> float | None:
    """Seconds, from the header's number or date; None without one."""
    said = headers.get("retry-after", "").strip()
    if said.isdecimal():
        return float(said)
    try:
        return max(0.0, (parsedate_to_datetime(said) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):  # no date, or one without its zone
        return None
