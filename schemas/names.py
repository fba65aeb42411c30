"""Names of people, which no pattern finds: what the model that gave an answer is asked about it."""

from __future__ import annotations

from typing import Any, ClassVar

import pyarrow as pa

from schemas.errors import OffSchemaAnswer, TruncatedAnswer
from schemas.rows import PartKind, Shown
from schemas.tasks.base import Said, Task, as_data

MOST = 200
"""More than `workers.names` ever asks about at once could hold, of ten characters each."""
LONGEST = 100


class Names(Task):
    """The names in a text. No job asks it by itself: `privacy.redact` does, of each answer."""

    kind = "names"
    parts: ClassVar[frozenset[PartKind]] = frozenset(PartKind)

    def question(self, shown: Shown) -> str:
        """The same whatever is asked about, which is text always."""
        return (
            "List the names of people in this document: each as it is written there, first names, last names "
            "and initials included, titles such as Dr or Mrs left out. Do not list companies, places or "
            "products. Answer with one JSON object; its list is empty where nobody is named. "
            f"{as_data(shown)}"
        )

    def json_schema(self) -> dict[str, Any]:
        """A list of strings, bounded."""
        name = {"type": "string", "maxLength": LONGEST}
        return {
            "type": "object",
            "properties": {"names": {"type": "array", "items": name, "maxItems": MOST}},
            "required": ["names"],
            "additionalProperties": False,
        }

    def data_type(self) -> pa.DataType:
        """Never written: what is found is what must not be seen."""
        return pa.struct([("names", pa.list_(pa.string()))])

    def data(self, said: Said) -> Any:
        """See `Task.data`; not where something is no name, or where they may not be all."""
        names = said.value["names"]
        if names is None or None in names:
            raise OffSchemaAnswer("something in its list is no name")
        if len(names) >= MOST:
            raise TruncatedAnswer(f"{MOST} names and maybe more")
        return said.value


NAMES = Names()
