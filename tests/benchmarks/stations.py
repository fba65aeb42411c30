"""The two kinds of place that the simulation is made of: a queue with servers behind it, and an engine."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import simpy


class Station:
    """Servers side by side behind one queue, first come, first served.

    How long a customer is served is known when it comes, and so is when it leaves: what nobody waits for
    costs the simulation no event.
    """

    def __init__(self, env: simpy.Environment, servers: int = 1) -> None:
        self._env = env
        self._free = [0.0] * servers
        self.busy = 0.0
        """Seconds of work that came."""

    def take(self, seconds: float) -> simpy.Timeout:
        """Queue up, and be served so many seconds."""
        return self._env.timeout(self.note(seconds) - self._env.now)

    def note(self, seconds: float) -> float:
        """The same, and not wait for it; when it will be done."""
        self.busy += seconds
        ends = max(self._env.now, self._free[0]) + seconds
        heapq.heapreplace(self._free, ends)
        return ends

    def used(self, since: float = 0.0, busy: float = 0.0) -> float:
        """Work that came over what could have been done, since a moment at which `busy` had come."""
        passed = self._env.now - since
        return (self.busy - busy) / (passed * len(self._free)) if passed else 0.0


@dataclass(eq=False)
class Document:
    """How many of its pages are not written yet."""

    owed: int


@dataclass(eq=False)
class Block:
    """Pages that travel together: each is one of a document, and has an answer of so many tokens."""

    pages: list[tuple[Document, int]]
    left: int = field(init=False)

    def __post_init__(self) -> None:
        self.left = len(self.pages)


@dataclass(frozen=True)
class Pace:
    """One engine's service times.

    Attributes:
        places: requests decoded together.
        prefill_seconds: of the engine for one part, its media included, before its answer begins.
        full_step: seconds of a step, one token of each answer, with every place taken.
        fixed_share: of a full step, what it takes however few answers it serves: reading the weights.
        start_seconds: from nothing to the first answer.
    """

    places: int
    prefill_seconds: float
    full_step: float
    fixed_share: float
    start_seconds: float

    def step(self, answers: int) -> float:
        """Seconds of a step that serves so many answers."""
        return self.full_step * (self.fixed_share + (1 - self.fixed_share) * answers / self.places)


class Engine:
    """One engine and the actor around it: `at_once` blocks are in work, their parts share its steps.

    A block is done with its last answer.
    """

    def __init__(
        self, env: simpy.Environment, pace: Pace, at_once: int, done: Callable[[Engine, Block], None]
    ) -> None:
        self._env, self._pace, self._at_once, self._done = env, pace, at_once, done
        self._order = count()
        self._news = env.event()
        self._queue: deque[Block] = deque()
        self._clear()
        self.answers = 0.0
        """Answers in it, times seconds."""
        self.epoch = 0
        self._process = env.process(self._run())

    def _clear(self) -> None:
        self.working: set[Block] = set()
        self._waiting: deque[tuple[int, Block]] = deque()
        self._decoding: list[tuple[float, int, Block]] = []
        self._steps = 0.0

    def submit(self, block: Block) -> None:
        """Give it a block."""
        self._queue.append(block)
        self._begin()

    def lose(self, back: float) -> list[Block]:
        """Its node dies and is back after so many seconds; the blocks it had, for others to do anew."""
        begun = [Block(block.pages) for block in self.working]
        lost = [*begun, *self._queue]
        self._queue.clear()
        self._clear()
        self.epoch += 1
        self._process.interrupt(back)
        return lost

    def _begin(self) -> None:
        while self._queue and len(self.working) < self._at_once:
            block = self._queue.popleft()
            self.working.add(block)
            self._waiting.extend((tokens, block) for _, tokens in block.pages)
        if not self._news.triggered:
            self._news.succeed()

    def _run(self) -> Any:
        while True:
            try:
                yield from self._turn()
            except simpy.Interrupt as loss:
                yield self._env.timeout(loss.cause + self._pace.start_seconds)

    def _turn(self) -> Any:
        free = self._pace.places - len(self._decoding)
        if self._waiting and free:
            taken = [self._waiting.popleft() for _ in range(min(free, len(self._waiting)))]
            yield self._env.timeout(len(taken) * self._pace.prefill_seconds)
            for tokens, block in taken:
                heapq.heappush(self._decoding, (self._steps + tokens, next(self._order), block))
        elif self._decoding:
            yield from self._decode(interruptible=free > 0)
        else:
            yield self._heard()

    def _decode(self, *, interruptible: bool) -> Any:
        step, began = self._pace.step(len(self._decoding)), self._env.now
        ends = self._decoding[0][0]
        next_answer = self._env.timeout((ends - self._steps) * step)
        yield (next_answer | self._heard()) if interruptible else next_answer
        passed = self._env.now - began
        self.answers += passed * len(self._decoding)
        self._steps = ends if next_answer.processed else self._steps + passed / step
        while self._decoding and self._decoding[0][0] <= self._steps:
            self._answered(heapq.heappop(self._decoding)[2])

    def _heard(self) -> simpy.Event:
        self._news = self._env.event()
        return self._news

    def _answered(self, block: Block) -> None:
        block.left -= 1
        if not block.left:
            self.working.discard(block)
            self._done(self, block)
            self._begin()
