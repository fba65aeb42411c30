"""Call: which of the job's functions a part asks for, if any, with typed arguments."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, field_validator

from schemas.json_schema import arrow_type, bounded, bounds, load_schema
from schemas.rows import PartKind, Shown
from schemas.tasks.base import NOUN, Said, Task, as_data

NONE = "none"
"""What stands for no function."""


class Function(BaseModel):
    """One function, as the model is told of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$", description="How it is called.")
    description: str = Field(min_length=1, description="When it is to be called, in a sentence.")
    parameters: dict[str, Any] = Field(description="JSON Schema of its arguments: an object.")

    @field_validator("parameters", mode="before")
    @classmethod
    def _loaded(cls, value: Any) -> dict[str, Any]:
        """Raises JobError with the pointer of what cannot be held."""
        schema = load_schema(value)
        arrow_type(schema)
        return schema


class Call(Task):
    """One call or none. Decoding is held to the functions' names and to the schema of each.

    The form of the prompt is the one Google describes for Gemma 3, which has no tokens of its own for tools
    (ai.google.dev/gemma/docs/capabilities/function-calling).
    """

    kind = "call"
    parts = frozenset(PartKind)
    usual = frozenset({PartKind.PAGE, PartKind.IMAGE})

    max_tokens: int = 512
    functions: tuple[Function, ...] = Field(min_length=1, description="The functions there are.")

    @field_validator("functions")
    @classmethod
    def _distinct(cls, functions: tuple[Function, ...]) -> tuple[Function, ...]:
        # DuckDB and Spark cannot tell Pay from pay, which are columns.
        names = [function.name.lower() for function in functions]
        if len({*names, NONE}) <= len(names):
            raise ValueError(f"names must differ in more than capitals, and none of them be {NONE!r}")
        return functions

    def question(self, shown: Shown) -> str:
        """The functions as JSON, and what to do about them."""
        if self.prompt:
            return self.prompt
        known = json.dumps([function.model_dump(mode="json") for function in self.functions])
        return (
            f"You have access to these functions: {known}\nIf this {NOUN[shown]} asks for one of them, "
            'answer with one JSON object: {"name": the function, "arguments": its arguments}. If it asks for '
            f'none, answer {{"name": "{NONE}"}}. Never make up an argument. {as_data(shown)} Answer with the '
            "object only."
        )

    def json_schema(self) -> dict[str, Any]:
        """One alternative for each function, and one for none."""
        calls = [
            _object({"name": {"const": function.name}, "arguments": bounded(function.parameters)})
            for function in self.functions
        ]
        return {"anyOf": [*calls, _object({"name": {"const": NONE}})]}

    def bounds(self) -> dict[str, str]:
        """Of the arguments, with the function's name before each pointer."""
        return {
            f"{function.name}: {pointer}": words
            for function in self.functions
            for pointer, words in bounds(function.parameters)
        }

    def data_type(self) -> pa.DataType:
        """The function's name, null for none, and its arguments under its name: each has its own columns."""
        arguments = [pa.field(f.name, arrow_type(f.parameters)) for f in self.functions]
        return pa.struct([pa.field("name", pa.string()), pa.field("arguments", pa.struct(arguments))])

    def data(self, said: Said) -> dict[str, Any]:
        """See `data_type`."""
        name = said.value["name"]
        if name == NONE:
            return {"name": None, "arguments": None}
        return {"name": name, "arguments": {name: said.value["arguments"]}}


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
