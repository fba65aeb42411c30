"""How fast the parts of a run are on some hardware: measured (`gemstream bench`) or derived (`schemas.gpus`).

Nothing here is part of a fingerprint: how fast a machine is changes no answer.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from schemas.errors import JobError

if TYPE_CHECKING:
    from schemas.models import Model


class EngineRates(BaseModel):
    """One engine with all its places taken. What a request takes of it is the sum of its parts: the tokens of
    its prompt that no cache has, the encoding of its media once a part, the tokens of its answer."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prefill_tokens_per_second: float = Field(gt=0)
    decode_tokens_per_second: float = Field(gt=0)
    media_seconds: dict[str, float] = Field(
        description="Part kind -> seconds of engine time to encode one part's media; 0 if that is in prefill."
    )
    start_seconds: float = Field(ge=0)


class Rates(BaseModel):
    """What a prediction is made of. CPU seconds are of one core."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    hardware: str = Field(description="What it is true of.")
    source: str = Field(description="When it was measured, or what it is derived from.")
    expand_seconds: dict[str, float] = Field(description="Part kind -> CPU seconds a part.")
    record_seconds: float = Field(
        ge=0, description="CPU seconds a record outside expand and outside the engine's own processes."
    )
    engines: dict[str, EngineRates] = Field(description="Model, as `name_of` has it -> its rates.")
    list_keys_per_second: float = Field(gt=0, description="Of the source, one lister.")
    get_bytes_per_second: float = Field(gt=0, description="Of one worker, one object after the other.")

    def of(self, model: Model) -> EngineRates | None:
        """The rates of the engine that hosts a model, if they are here."""
        return self.engines.get(name_of(model))

    def dump(self) -> str:
        """As a file that `find_rates` reads again."""
        text: str = yaml.safe_dump(
            self.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=100
        )
        return text


def name_of(model: Model) -> str:
    """What rates call a model: a folder by its own name, wherever it lies."""
    return Path(model.source).name if model.is_folder else model.source


def find_rates(value: str) -> Rates:
    """Rates by the name of a GPU, or from a file of YAML or JSON.

    Raises:
        JobError: no such GPU, or the file is none that `gemstream bench` wrote.
    """
    from schemas.gpus import DEFAULTS

    known = next((name for name in DEFAULTS if name.lower() == value.lower()), None)
    if known is not None:
        return DEFAULTS[known]()
    try:
        values: Any = yaml.safe_load(Path(value).read_text())
        return Rates.model_validate(values)
    except OSError as error:
        raise JobError(
            f"rates: {value!r} is neither a file ({error.strerror}) nor one of {', '.join(DEFAULTS)}; "
            "`gemstream bench --save rates.yaml` measures this machine's",
            key="rates",
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise JobError(f"rates {value}: {error}", key="rates") from error
    except ValidationError as error:
        faults = "\n".join(
            f"  {'.'.join(map(str, fault['loc'])) or 'rates'}: {fault['msg']}" for fault in error.errors()
        )
        raise JobError(f"rates {value} do not hold:\n{faults}", key="rates") from error
