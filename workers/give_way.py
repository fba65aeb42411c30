"""Who goes first where there is more to do than cores: an engine's process, before what feeds it."""

from __future__ import annotations

import os

LAST = 19
"""The niceness of what works only where others leave a core. On two cores an engine's process, as nice as
Ray's driver, worked 0.926 of the time beside a host and a parser of this niceness, 0.921 where they had 10,
and 0.893 where all were alike (turns of 96 pictures; 0.994 in vLLM's own loop)."""


def give_way() -> None:
    """From now on this thread gives way, and with it the threads and processes that it starts.

    There is no way back without privileges: what is to go first is started before, or by another thread.
    """
    os.setpriority(os.PRIO_PROCESS, 0, LAST)
