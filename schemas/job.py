"""The job: what to read, what to ask, of which models, where to write. Frozen; unknown keys refused."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)

from schemas.duplicates import DuplicateOptions
from schemas.errors import JobError
from schemas.limits import Limits
from schemas.models import AUTO, Pool, Precision
from schemas.prices import Prices
from schemas.privacy import PrivacyOptions
from schemas.rates import Rates, find_rates
from schemas.rows import Pages, Tiling, Upright
from schemas.secrets import masked
from schemas.sink import SinkOptions
from schemas.storage import StorageOptions
from schemas.tables import TableOptions
from schemas.tasks import make_task, spread
from schemas.tasks.base import Task
from schemas.yaml_text import read_yaml


class Options(BaseModel):
    """Base of every part of a job."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelChoice(Options):
    """Which model answers for which kind of part."""

    vision: str | None = Field(
        None, description="Gemma 3 or 4 for pages and images: a Hugging Face id, a folder, or auto."
    )
    audio: str | None = Field(
        None, description="Gemma 3n or 4 for recordings: a Hugging Face id, a folder, or auto."
    )
    precision: Precision | None = Field(
        None,
        description="Of what auto picks: efficiency (int4), balanced (FP8), or quality (bf16), the default.",
    )

    adapters: dict[str, str] = Field(
        default_factory=dict,
        description="LoRA adapters that a task may name: name -> a folder or a Hugging Face id.",
    )

    @model_validator(mode="after")
    def _precision_of_auto(self) -> ModelChoice:
        if self.precision and AUTO not in (self.vision, self.audio):
            raise JobError(
                f"models.precision: {self.precision} is for models that are {AUTO}; of another, name the "
                "weights (`gemstream models` lists them)",
                key="models.precision",
            )
        return self


class EngineOptions(Options):
    """How models are hosted."""

    kind: str = Field("vllm", description="An engine of the registry.")
    replicas: int = Field(1, ge=1, description="Engines per model; each takes one GPU where there are any.")
    max_replicas: int | None = Field(
        None, ge=1, description="Upper end of autoscaling; replicas if not given."
    )
    gpus: float | None = Field(
        None, ge=0, description="GPUs per engine; by default 1 where Ray sees any, else 0."
    )
    node_labels: dict[Pool, dict[str, str]] = Field(
        default_factory=dict,
        description="Labels of the Ray nodes that a model's engines may live on, where the cluster has nodes "
        "for each: {vision: {label: value}}.",
    )
    max_num_seqs: int | None = Field(
        None, ge=1, description="Requests decoded together; 16 on CPUs, 256 on GPUs."
    )
    max_model_len: int | None = Field(
        None, ge=128, description="Tokens of prompt and answer; 8192 at most if not set."
    )
    confidence: bool = Field(
        True,
        description="Ask how likely each token was, which is a record's confidence. Without it the engine's "
        "host is spared some 30 us of CPU a token.",
    )
    options: dict[str, Any] = Field(
        default_factory=dict,
        description="The engine's own: vLLM's engine arguments; of openai, the fields of OpenAIOptions.",
    )


class PageOptions(Options):
    """How documents become parts."""

    passwords: tuple[SecretStr, ...] = Field((), description="Tried in turn on encrypted documents.")
    passwords_env: str | None = Field(
        None,
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
        description="An environment variable of the driver's with more of them, one a line: of a job that is "
        "submitted they do not travel.",
    )
    jpeg_quality: int = Field(
        90, ge=30, le=100, description="Quality of the JPEG a page or photo travels as."
    )
    pages: Pages = Field(
        Pages.IMAGE,
        description="image draws every page, text sends a page's own text layer, auto the text where it can "
        "be trusted.",
    )
    checked_share: float = Field(
        0.01,
        ge=0,
        le=1,
        description="Of the pages that auto shows as text, the share that ocr reads by eye as well, to tell "
        "how far off it is; a page that is drawn costs no question. 0: no page is held against its text.",
    )
    upright: Upright = Field(
        Upright.TEXT,
        description="text turns a page of a PDF so that its text layer reads upright; metadata only as the "
        "file says. Pictures and scans are turned as their files say, either way.",
    )
    tiling: Tiling = Field(
        Tiling.OFF,
        description="auto shows Gemma 3 long pages, and those of small print, in two to four tiles besides "
        "the whole, each at the whole's number of tokens.",
    )
    image_size: int | None = Field(
        None, ge=32, le=4096, description="Longest side shown; the model's own if not set."
    )
    workers: int | None = Field(None, ge=1, description="Parser processes; one per CPU left over if not set.")

    def tried(self) -> tuple[SecretStr, ...]:
        """All passwords, those from the environment last.

        Raises:
            JobError: the variable is not set.
        """
        if self.passwords_env is None:
            return self.passwords
        lines = os.environ.get(self.passwords_env, "").splitlines()
        if not lines:
            raise JobError(
                f"expand.passwords_env: {self.passwords_env} is not set where the run's driver is",
                key="expand.passwords_env",
            )
        return self.passwords + tuple(SecretStr(line) for line in lines)

    @field_validator("tiling", mode="before")
    @classmethod
    def _off(cls, value: Any) -> Any:
        # YAML reads a bare `off` as false.
        return Tiling.OFF if value is False else value


class ReportOptions(Options):
    """What a run says of itself besides `report.json`."""

    page: bool = Field(True, description="Make `_runs/<run_id>/report.html` at the end.")
    gallery: int = Field(
        12,
        ge=0,
        le=48,
        description="Parts that the page shows as they look and sound, beside what was said of them. 0: it "
        "has no content of any document.",
    )


class JobSpec(Options):
    """One job. `gemstream.yaml`, the command line and Python all end here."""

    input: tuple[str, ...] = Field((), description="Prefixes to list: s3://bucket/prefix, or a path.")
    manifest: str | None = Field(None, description="Instead of input: a txt, csv, jsonl or parquet of URIs.")
    table: TableOptions | None = Field(None, description="Or a table of a data lake, whose rows they are.")
    include: tuple[str, ...] = Field(
        (), description="Only paths below the prefix that match one of these globs."
    )
    exclude: tuple[str, ...] = Field((), description="Not the paths that match one of these.")
    limit: int | None = Field(None, ge=1, description="Stop listing after this many documents.")
    output: str = Field(description="Where records/, errors/ and _runs/ go: s3://bucket/prefix, or a path.")
    tasks: tuple[Task, ...] = Field(description="What to ask, by name or as {task: name, ...options}.")
    language: str | None = Field(None, description="Of all answers, in English words: German.")
    models: ModelChoice = ModelChoice()
    engine: EngineOptions = EngineOptions()
    expand: PageOptions = PageOptions()
    duplicates: DuplicateOptions = DuplicateOptions()
    privacy: PrivacyOptions = PrivacyOptions()
    sink: SinkOptions = SinkOptions()
    storage: StorageOptions = StorageOptions()
    limits: Limits = Limits()
    report: ReportOptions = ReportOptions()
    rates: Rates | None = Field(
        None,
        description="How fast things go, to size runs by: L4, A100, H100, or a file of `gemstream bench`.",
    )
    prices: Prices | None = Field(None, description="What things cost, for plans and reports.")
    seed: int = Field(0, description="Of sampling above temperature 0, and of the fault engine.")

    @field_validator("input", "include", "exclude", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str | os.PathLike) else value

    @field_validator("tasks", mode="before")
    @classmethod
    def _made(cls, value: Any) -> tuple[Task, ...]:
        entries = [value] if isinstance(value, str | Mapping) else list(value)
        tasks = tuple(make_task(entry) for one in entries for entry in spread(one))
        names = [task.name for task in tasks]
        double = sorted({name for name in names if names.count(name) > 1})
        if double:
            raise JobError(f"two tasks are named {double[0]!r}: give one of them another name", key="tasks")
        if not tasks:
            raise JobError("no task: name at least one", key="tasks")
        return tasks

    @field_validator("rates", mode="before")
    @classmethod
    def _found(cls, value: Any) -> Any:
        return find_rates(str(value)) if isinstance(value, str | os.PathLike) else value

    @model_validator(mode="after")
    def _one_source(self) -> JobSpec:
        if sum(map(bool, (self.input, self.manifest, self.table))) != 1:
            raise JobError("a job reads input, manifest or table, and one of them", key="input")
        return self

    @property
    def asked(self) -> tuple[Task, ...]:
        """The tasks, each with the language it is to answer in."""
        return tuple(
            task
            if task.language or not self.language
            else task.model_copy(update={"language": self.language})
            for task in self.tasks
        )

    def plain(self) -> dict[str, Any]:
        """The job as JSON values, as they were given but for passwords."""
        values: dict[str, Any] = self.model_dump(mode="json", exclude={"tasks"})
        values["tasks"] = [
            {"task": task.kind, **task.model_dump(mode="json", by_alias=True, exclude_defaults=True)}
            for task in self.tasks
        ]
        return values

    def public(self) -> dict[str, Any]:
        """The same, all that looks like a secret masked: what a run writes down about itself."""
        values = self.plain()
        return values | {name: masked(values[name]) for name in ("engine", "storage", "sink", "table")}


def make_job(values: Mapping[str, Any]) -> JobSpec:
    """A job from plain values.

    Raises:
        JobError: every fault in one message, each with its key, its value and what was meant.
    """
    try:
        return JobSpec.model_validate(dict(values))
    except ValidationError as error:
        faults = "\n".join(f"  {line}" for line in _faults(error))
        first = error.errors()[0]["loc"]
        raise JobError(f"the job does not hold:\n{faults}", key=".".join(map(str, first))) from error


def load_job(path: str | Path, overrides: Mapping[str, Any] | None = None) -> JobSpec:
    """A job from a YAML file, with overrides by dotted key on top (`limits.failed_share`).

    Raises:
        JobError: unreadable, not a mapping, or it does not hold.
    """
    try:
        values = read_yaml(Path(path).read_text())
    except (OSError, yaml.YAMLError, ValueError) as error:  # no text, or a date that there is not
        raise JobError(f"job {path}: {error}", key="job") from error
    if not isinstance(values, dict):
        raise JobError(f"job {path}: must be a mapping of settings", key="job")
    return make_job(overlay(values, overrides or {}))


def overlay(values: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """`values` with each dotted key of `overrides` set."""
    result = dict(values)
    for dotted, value in overrides.items():
        head, _, rest = dotted.partition(".")
        if rest:
            inner = result.get(head)
            result[head] = overlay(inner if isinstance(inner, Mapping) else {}, {rest: value})
        else:
            result[head] = value
    return result


def _faults(error: ValidationError) -> Iterator[str]:
    for fault in error.errors():
        key = ".".join(str(step) for step in fault["loc"]) or "job"
        if fault["type"] == "extra_forbidden":
            yield f"{key}: unknown setting{_meant(fault['loc'])}"
        elif fault["type"] == "missing":
            yield f"{key}: required"
        else:
            yield f"{key}: {fault['msg']}, got {_shown(fault['input'])}"


def _shown(value: Any) -> str:
    return "a value of its own" if isinstance(value, SecretStr) else repr(value)[:120]


def _meant(location: tuple[Any, ...]) -> str:
    """The known key nearest to the unknown one, among its siblings."""
    known = _known_keys(location[:-1])
    guess = get_close_matches(str(location[-1]), known, 1)
    return f", did you mean {guess[0]!r}?" if guess else f" (known: {', '.join(known)})"


def _known_keys(parents: tuple[Any, ...]) -> list[str]:
    model: type[BaseModel] = JobSpec
    for step in parents:
        field = model.model_fields.get(str(step))
        if field is None:
            return []
        candidates = [field.annotation, *get_args(field.annotation)]
        models = [kind for kind in candidates if isinstance(kind, type) and issubclass(kind, BaseModel)]
        if not models:
            return []
        model = models[0]
    return [field.alias or name for name, field in model.model_fields.items()]


PartPool = Pool
"""The engine pools, which are also the lanes of a run."""
