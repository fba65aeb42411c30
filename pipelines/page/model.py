"""What a page shows, as data: the report of a run, and what its rows say besides."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from pipelines.quality import Quality
from pipelines.report import RunReport


class Shape(BaseModel):
    """Base of what a page is made of."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Distribution(Shape):
    """Values counted by bins; `edges` are one more than `counts`. Percentiles are exact to a bin."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    total: int
    median: float
    p95: float
    most: float
    log: bool = Field(False, description="Bins grow with their values.")


class TaskFacts(Shape):
    """One task over the run's records."""

    records: int
    invalid: int = Field(0, description="Answers with fields that do not hold.")
    borrowed: int = Field(0, description="Pages whose own text stands in for an answer.")
    silent: int = Field(0, description="Recordings in which nobody speaks.")
    seconds: Distribution | None = None
    tokens: Distribution | None = None
    confidence: Distribution | None = None


class Example(Shape):
    """One error row."""

    uri: str
    part: int | None
    task: str | None
    message: str
    setting: str | None = None


class ErrorGroup(Shape):
    """What ended in one category, with some of it."""

    stage: str
    category: str
    rows: int
    examples: tuple[Example, ...]


class SlowDocument(Shape):
    """A document by what its answers took in the engines, all added up."""

    uri: str
    media_type: str | None
    status: str
    parts: int | None
    answers: int | None
    engine_seconds: float
    output_tokens: int | None
    seconds_of_media: float | None


class Facts(Shape):
    """What the rows of a run say. `tokens_over_time` are output tokens in equal shares of its time."""

    tasks: dict[str, TaskFacts] = Field(default_factory=dict)
    tokens_over_time: tuple[int, ...] = ()
    errors: tuple[ErrorGroup, ...] = ()
    slowest: tuple[SlowDocument, ...] = ()
    files: int = Field(0, description="Files of records that were read.")
    cut: bool = Field(False, description="There were more, and no time for them.")


class Said(Shape):
    """One answer about a part, or the error that came of it."""

    task: str
    text: str
    more: int = Field(0, description="Characters of it that are not shown.")
    typed: bool = False
    source: str | None = None
    valid: bool | None = None
    invalid_fields: tuple[str, ...] = ()
    confidence: float | None = None
    output_tokens: int | None = None
    seconds: float | None = None
    error: str | None = Field(None, description="Its category, where it is one.")


class Piece(Shape):
    """A part and what was said of it."""

    uri: str
    part: int
    parts_total: int | None
    kind: str
    media_type: str | None
    start_seconds: float | None = None
    end_seconds: float | None = None
    picture: str | None = Field(None, description="A JPEG of our own making, as a data URI.")
    wave: str | None = Field(None, description="The outline of the sound, as an SVG path.")
    note: str | None = Field(None, description="Why there is neither.")
    answers: tuple[Said, ...] = ()


class Page(Shape):
    """All of it."""

    report: RunReport
    facts: Facts
    gallery: tuple[Piece, ...] = ()
    gallery_off: bool = False
    quality: Quality | None = None
    job: str = Field(description="The job as YAML, secrets masked.")
    command: str = Field(description="What runs it again.")
