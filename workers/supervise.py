"""Keeps one engine alive, and finds out which request kills it.

A request in flight when the engine dies is a suspect: it is asked again alone, with nothing else
in flight, so the next death has one culprit. A request that has seen two deaths is quarantined;
everyone else is answered by the engine that was started in its place.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from schemas.errors import (
    Draining,
    EngineAway,
    EngineUnavailable,
    PoisonRequest,
    RequestRefused,
    RequestTimeout,
)
from workers.clock import Places
from workers.harmless import harmless
from workers.journal import MAX_DEATHS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from workers.engines import Engine, Request, Response
    from workers.journal import Journal

MAX_RESTARTS_IDLE = 3
"""Restarts in a row without one answer between them before somebody must say whose fault it is. They
are no proof against the engine: of the requests in flight at a death, all may be poisoned, since the
others had their answers already, or are of a document that comes first. So a request that it has answered
before is put to it again, or one that is harmless."""
MAX_PROOFS = 8
"""Harmless questions that an engine answers before it has ever answered another: one that dies of whatever
is real, a page of full size say, is given up after some thirty starts."""
PROBE_SECONDS = 30.0
"""For an answer of one token, from an engine that has answered nobody for its `outage_seconds`."""


class Gate:
    """Many at once, or one alone. Those who wait to be alone go first, so they are not starved."""

    def __init__(self) -> None:
        self._changed = asyncio.Condition()
        self._inside = 0
        self._alone = False
        self._wanting = 0

    @asynccontextmanager
    async def shared(self) -> AsyncIterator[None]:
        """Enter beside others."""
        async with self._changed:
            await self._changed.wait_for(lambda: not self._alone and not self._wanting)
            self._inside += 1
        try:
            yield
        finally:
            await self._leave(alone=False)

    @asynccontextmanager
    async def exclusive(self) -> AsyncIterator[None]:
        """Enter when everyone has left, and keep others out."""
        async with self._changed:
            self._wanting += 1
            try:
                await self._changed.wait_for(lambda: not self._alone and not self._inside)
            finally:
                self._wanting -= 1
            self._alone = True
        try:
            yield
        finally:
            await self._leave(alone=True)

    async def _leave(self, *, alone: bool) -> None:
        async with self._changed:
            if alone:
                self._alone = False
            else:
                self._inside -= 1
            self._changed.notify_all()


class Supervisor:
    """One engine, its restarts, and the requests in flight on it.

    Args:
        engine: not started. The supervisor starts it when the first request comes, so that a run with
            nothing left to ask loads no model; restarts it when it dies; closes it.
        concurrency: requests inside the engine at once.
        request_seconds: wall seconds one request may take, its wait for a place excluded.
        heartbeat_seconds: wall seconds the engine may take no step while a request is in flight.
        journal: where suspects are named, in case the next one takes this very process down.
        places: told what goes in and comes out.
        load_seconds: wall seconds the engine may take to come up.
    """

    def __init__(
        self,
        engine: Engine,
        concurrency: int,
        request_seconds: float,
        heartbeat_seconds: float = math.inf,
        journal: Journal | None = None,
        places: Places | None = None,
        load_seconds: float = math.inf,
    ) -> None:
        self._journal = journal
        self._taken = places or Places(concurrency)
        self._engine = engine
        self._seconds = request_seconds
        self._heartbeat = heartbeat_seconds
        self._load_seconds = load_seconds
        self._places = asyncio.Semaphore(concurrency)
        self._gate = Gate()
        self._reviving = asyncio.Lock()
        self._fault: EngineUnavailable | None = None
        self._given_up: EngineUnavailable | None = None
        self._canary: Request | None = None
        self._started = False
        self._epoch = 0
        self._idle_restarts = self._proofs = 0
        self._last_answer = time.monotonic()
        self._deaths: Counter[str] = Counter()
        self._starts = 0
        self.draining = False
        """Once it is set, whoever still waits for a place is sent away."""

    def take_starts(self) -> int:
        """How often an engine came up since the last time this was asked."""
        taken, self._starts = self._starts, 0
        return taken

    def close(self) -> None:
        """End the engine."""
        self._engine.close()

    async def ask(self, request: Request, *, suspect: bool = False, finishing: bool = False) -> Response:
        """Answer one request, through as many engines as it takes.

        Args:
            request: what to ask.
            suspect: it was in flight when a worker died, engine and all.
            finishing: an answer that is there cannot be written without it, so it is asked to the end.

        Raises:
            Draining: the run is being ended; it was not asked.
            RequestRefused: the engine will not take it.
            RequestTimeout: others were answered meanwhile, this one was not.
            PoisonRequest: two engines died on it, or one did not take it twice and takes others.
            EngineUnavailable: the engine does not come up, dies on what it has answered before, or answers
                nobody any more.
        """
        if suspect:
            self._deaths[request.key] = max(self._deaths[request.key], 1)
        fault: EngineUnavailable
        while True:
            entrance = self._gate.exclusive() if self._deaths[request.key] else self._gate.shared()
            async with entrance, self._places:
                if self.draining and not finishing:
                    raise Draining("the run is being ended")
                await self._revive(request)
                epoch = self._epoch
                try:
                    async with self._named(request, suspect=suspect):
                        response = await self._timed(request)
                except EngineAway as away:
                    if not await self._answers_others():
                        raise  # no death, so nobody is suspected of it
                    self._deaths[request.key] += 1
                    fault = away
                except EngineUnavailable as death:
                    self._deaths[request.key] += 1
                    if epoch == self._epoch:  # else another has replaced it already
                        self._fault = death
                    fault = death
                else:
                    self._idle_restarts = 0
                    self._canary = request
                    self._last_answer = time.monotonic()
                    del self._deaths[request.key]
                    return response
            if self._deaths[request.key] >= MAX_DEATHS:
                raise PoisonRequest(
                    f"the engine died twice with this request in flight ({fault.message}); "
                    "it is quarantined, and the others go on",
                    attempts=MAX_DEATHS,
                )

    @asynccontextmanager
    async def _named(self, request: Request, *, suspect: bool) -> AsyncIterator[None]:
        """Name a suspect in the journal while it is asked, which is alone.

        Raises:
            PoisonRequest: it was named there when a worker died: that was the second.
        """
        if not suspect or self._journal is None:
            yield
            return
        try:
            if await asyncio.to_thread(self._journal.begin, request.key):
                raise PoisonRequest(
                    "two workers died with this request in flight, the second with it alone; it is "
                    "quarantined, and the others go on",
                    attempts=MAX_DEATHS,
                )
            yield
        finally:
            self._journal.end(request.key)

    async def _timed(self, request: Request) -> Response:
        began, queued = time.monotonic(), 0.0
        asking = asyncio.ensure_future(self._engine.generate(request))
        self._taken.enter()
        try:
            while not asking.done():
                await asyncio.wait({asking}, timeout=self._patience(request, began))
            response = asking.result()
            queued = response.queue_seconds or 0.0
        finally:
            self._taken.leave(queued)
            asking.cancel()  # of one that is done, nothing
        return replace(response, seconds=time.monotonic() - began)

    def _patience(self, request: Request, began: float) -> float:
        """Seconds for which there is nothing to do but to wait for the answer.

        Raises:
            RequestTimeout: it has had its time, and others were answered meanwhile.
            EngineUnavailable: it is the engine that hangs.
        """
        now = time.monotonic()
        pulse = self._engine.pulse()
        beats = math.inf if pulse is None else max(pulse, began) + self._heartbeat - now
        if beats <= 0:
            raise EngineUnavailable(
                f"the engine took no step for {self._heartbeat:g} s (limits.heartbeat_seconds)",
                key=request.key,
            )
        left = began + self._seconds - now
        if left > 0:
            return min(left, beats)
        if self._last_answer >= began:
            raise RequestTimeout(
                f"no answer in {self._seconds:g} s (limits.request_seconds) while others were answered",
                limit="limits.request_seconds",
            )
        # Nothing at all came back for that long, steps or no steps.
        raise EngineUnavailable(f"the engine answered nothing for {self._seconds:g} s", key=request.key)

    async def _revive(self, request: Request) -> None:
        """Start the engine, or replace a dead one, once, whoever comes first.

        Called from inside the gate: a request must never meet an engine that was dead before it came,
        or it would be blamed for that death.
        """
        async with self._reviving:
            if self._given_up is not None:
                raise self._given_up
            if not self._started:
                await self._start()
                self._started = True
            if self._fault is None:
                return
            self._idle_restarts += 1
            await asyncio.to_thread(self._engine.close)
            await self._start()
            self._epoch += 1
            if self._idle_restarts > MAX_RESTARTS_IDLE:
                await self._prove(self._fault, request)
            self._fault = None
            self._last_answer = time.monotonic()

    async def _answers_others(self) -> bool:
        """Whether it takes something else than what it has just not taken for so long: a gateway gives up on
        what is too slow for it, and a limit of tokens may be less than one request has."""
        probe = self._canary or harmless(None)
        async with self._reviving:
            if self._given_up is not None:
                return False
            try:
                async with asyncio.timeout(PROBE_SECONDS):
                    await self._engine.generate(replace(probe, max_tokens=1))
            except RequestRefused:
                return True
            except (EngineUnavailable, RequestTimeout, TimeoutError) as error:
                self._given_up = EngineAway(str(error) or f"no answer in {PROBE_SECONDS:g} s")
                return False
        return True

    async def _start(self) -> None:
        self._taken.loading()
        loading = asyncio.ensure_future(asyncio.to_thread(self._engine.start))
        if not (await asyncio.wait({loading}, timeout=self._load_seconds))[0]:
            # The thread cannot be ended, and what it holds another would need: nobody tries again.
            self._given_up = EngineUnavailable(
                f"the engine did not come up in {self._load_seconds:g} s (limits.load_seconds); look at the "
                "disk or the network that its model comes from, and run the same command again"
            )
            raise self._given_up
        loading.result()
        self._taken.ready()
        self._starts += 1

    async def _prove(self, fault: EngineUnavailable, request: Request) -> None:
        """Tell an engine that is broken from requests that break it, by one that it has answered before, or
        by a harmless one that is like the next.

        The answer is cut at one token: what costs time after a restart is loading, not this.
        """
        died = f"the engine died {self._idle_restarts} times without one answer between: {fault.message}"
        if self._canary is None:
            self._proofs += 1
            if self._proofs > MAX_PROOFS:
                self._given_up = EngineUnavailable(
                    f"{died}; it has never answered anything but what is harmless"
                )
                raise self._given_up
        probe = self._canary or harmless(None if request.media is None else request.media.kind)
        try:
            async with asyncio.timeout(self._seconds):
                await self._engine.generate(replace(probe, max_tokens=1))
        except RequestRefused:
            pass  # who refuses lives; raised here, it would be blamed on a request that was not asked yet
        except (EngineUnavailable, RequestTimeout, TimeoutError) as error:
            like = "what it answered before" if self._canary else "what is harmless"
            self._given_up = EngineUnavailable(f"{died}; nor does it answer {like}")
            raise self._given_up from error
        self._idle_restarts = 0
