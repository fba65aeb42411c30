"""What the simulation is of: a lake of documents, and a cluster."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from tests.benchmarks.stations import Pace


@dataclass(frozen=True)
class Graph:
    """What of the program decides how it scales: as it is, and as it was `BEFORE`.

    Attributes:
        at_once: blocks in work in an engine (`blocks_in_flight`, of 256 requests on a GPU).
        queued: blocks that its actor has besides (`FEWEST_BLOCKS`).
        listens_by_block: each block in work asks the meter every second whether the run ends, or each worker.
        looks_by_block: the driver looks around after each block that arrives, or at each tick.
    """

    at_once: int = 96
    queued: int = 8
    listens_by_block: bool = False
    looks_by_block: bool = False


BEFORE = Graph(at_once=8, listens_by_block=True, looks_by_block=True)


@dataclass(frozen=True)
class Lake:
    """What is in it. Each figure is a setting of a run (`--lake pages_mean=1`).

    Attributes:
        pages_mean: pages a document, log-normal,
        pages_sigma: with a tail: at 1, one document in a hundred has six times the mean.
        document_bytes: of an object.
        block_pages: pages a block of 1 MiB: a page as JPEG of 896 px has 100 kB (the same PDFs), a scan more.
        answer_tokens: of an answer,
        tail_share: of which so many
        tail_times: are so many times as long, up to `limits.answer_tokens`.
        expand_sigma: of the log-normal factor by which one document's pages cost more than another's.
        corrupt: share of documents that do not open.
        stuck: share on which a parser runs into `limits.expand_seconds`: of arXiv's PDFs, one in 654 did so
            for others (haiku.rag#618).
        stuck_seconds: and for so long.
    """

    pages_mean: float = 10.0
    pages_sigma: float = 1.0
    document_bytes: int = 1_000_000
    block_pages: int = 8
    answer_tokens: int = 400
    tail_share: float = 0.02
    tail_times: float = 10.0
    expand_sigma: float = 0.8
    corrupt: float = 0.01
    stuck: float = 1 / 654
    stuck_seconds: float = 120.0

    @property
    def answer_mean(self) -> float:
        """Tokens of an answer."""
        return self.answer_tokens * (1 + self.tail_share * (self.tail_times - 1))

    def pages(self, rng: random.Random) -> int:
        """Of one document."""
        drawn = rng.lognormvariate(0, self.pages_sigma)
        # exp(sigma^2/2) is the mean of what was drawn.
        return max(1, min(5_000, round(self.pages_mean * drawn / math.exp(self.pages_sigma**2 / 2))))

    def tokens(self, rng: random.Random) -> int:
        """Of one answer."""
        return round(self.answer_tokens * (self.tail_times if rng.random() < self.tail_share else 1))


@dataclass(frozen=True)
class Cluster:
    """What it runs on.

    Attributes:
        engines: one GPU each.
        pace: of one engine.
        expand_seconds: CPU seconds a page.
        cpus: expand workers an engine.
        list_keys_per_second: of one prefix, one request after the other.
        get_seconds: of a GET, to its first byte,
        get_bytes_per_second: and from then on.
        put_seconds: of a part file.
        losses_per_hour: of one engine's node.
        back_seconds: until there is another.
        graph: the program.
    """

    engines: int
    pace: Pace
    expand_seconds: float
    cpus: int
    list_keys_per_second: float
    get_seconds: float = 0.05
    get_bytes_per_second: float = 50e6
    put_seconds: float = 0.5
    losses_per_hour: float = 1 / 168
    back_seconds: float = 180.0
    graph: Graph = Graph()
