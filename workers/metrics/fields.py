"""Precision, recall and F1 of typed fields, each value right or wrong as a whole."""

from __future__ import annotations

import json
import math
import unicodedata
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime, time
from decimal import Context, Decimal, InvalidOperation
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, ClassVar

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from workers.metrics import Scores

Leaf = tuple[str, Any]
"""A dotted path and a value below it; None where there is none."""
BOOLEANS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
WIDE = Context(prec=76)
"""Python's own 28 digits are fewer than a column's 38."""


class Fields:
    """Values that are expected, that are answered, and that are both, over all fields.

    A value is one scalar: fields of nested objects count by their dotted path, and a list is the multiset
    of what is in it, so that neither order nor the pairing of a list's objects counts. Null is no value,
    and neither are an empty string and NaN. Values are compared as their column's type has them: `12.5` and
    `12.50` are one decimal, and white space in a string is one space.
    """

    expects: ClassVar[str] = "data"
    leads: ClassVar[str] = "f1"
    rising: ClassVar[bool] = True
    library: ClassVar[str] = ""

    def __init__(self, data_type: pa.DataType | None, fold: bool) -> None:
        if data_type is None:
            raise ValueError("there are no fields without a type")
        self._type = data_type
        self._fold = fold
        self.paths = dict(_paths(data_type))
        self.names = tuple(field.name for field in data_type)

    def expected(self, value: Any) -> tuple[frozenset[str], Counter[Leaf]]:
        """The fields it is about, and its values.

        Args:
            value: dotted path -> value, an object or list as itself or as JSON. What it does not name is not
                compared; in an object, what is not there is null.
        """
        leaves: list[Leaf] = []
        for path, below in value.items():
            if path not in self.paths:
                raise ValueError(f"there is no field {path!r}{meant(path, self.paths)}")
            if any(path.startswith(f"{other}.") for other in value):
                raise ValueError(f"{path} is there twice: it is part of another field")
            leaves += self._leaves(below, self.paths[path], path, strict=True)
        return frozenset(path for path, _ in leaves), _values(leaves)

    def whole(self, answers: Sequence[Any]) -> Any:
        """The first value of each field that is not null; lists one after another."""
        merged = answers[0]
        for answer in answers[1:]:
            merged = _merge(merged, answer)
        return merged

    def count(self, expected: tuple[frozenset[str], Counter[Leaf]], answer: Any) -> Counter[Any]:
        """By field: values expected, answered, and right."""
        about, wanted = expected
        found = self._leaves(answer, self._type, "", strict=False)
        said = _values(leaf for leaf in found if leaf[0] in about)
        counts: Counter[Any] = Counter()
        for what, leaves in {"expected": wanted, "answered": said, "right": wanted & said}.items():
            for (path, _), count in leaves.items():
                counts[path, what] += count
        return counts

    def scores(self, counts: Counter[Any]) -> Scores:
        """`precision`, `recall`, `f1`. Where nothing is expected and nothing answered, each is 1."""
        sums: Counter[str] = Counter()
        for (_, what), count in counts.items():
            sums[what] += count
        right, answered, wanted = sums["right"], sums["answered"], sums["expected"]
        if not answered + wanted:
            return {"precision": 1.0, "recall": 1.0, "f1": 1.0}
        return {
            "precision": right / max(1, answered),
            "recall": right / max(1, wanted),
            "f1": 2 * right / (answered + wanted),
        }

    def details(self, counts: Counter[Any]) -> dict[str, Scores]:
        """By field, those that have a value on either side."""
        fields = sorted({path for path, _ in counts})
        return {
            field: self.scores(Counter({key: n for key, n in counts.items() if key[0] == field}))
            for field in fields
        }

    def _leaves(self, value: Any, data_type: pa.DataType, path: str, *, strict: bool) -> Iterator[Leaf]:
        for below, leaf in _walk(value, data_type, path, strict):
            yield below, leaf.casefold() if self._fold and isinstance(leaf, str) else leaf


def meant(name: str, known: Iterable[str]) -> str:
    """The end of a message about a name that is not there."""
    guess = get_close_matches(name, known, 1)
    return f", did you mean {guess[0]!r}?" if guess else f" (known: {', '.join(known)})"


def _paths(data_type: pa.DataType, path: str = "", listed: bool = False) -> Iterator[tuple[str, pa.DataType]]:
    """Each field's dotted path and type; below a list, there is a list of each."""
    if pa.types.is_list(data_type):
        yield from _paths(data_type.value_type, path, True)
    elif pa.types.is_struct(data_type):
        for field in data_type:
            below = f"{path}.{field.name}" if path else field.name
            yield below, pa.list_(field.type) if listed else field.type
            yield from _paths(field.type, below, listed)


def _values(leaves: Iterable[Leaf]) -> Counter[Leaf]:
    return Counter(leaf for leaf in leaves if leaf[1] is not None)


def _merge(first: Any, second: Any) -> Any:
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        return {name: _merge(first[name], second.get(name)) for name in first}
    if isinstance(first, list) and isinstance(second, list):
        return first + second
    return second if first is None else first


def _walk(value: Any, data_type: pa.DataType, path: str, strict: bool) -> Iterator[Leaf]:
    """The scalars below a value. Where an object or a list is missing, so is each that would be in it.

    Args:
        value: of a reference or of an answer.
        data_type: what the answers are now.
        path: that leads to the value.
        strict: whether to refuse what is of another type. An answer may be: the job's schema was another
            one then. What it has in the wrong place is not there, and a scalar of another type is wrong.
    """
    if _nothing(value):
        value = None
    if pa.types.is_struct(data_type):
        yield from _fields(_container(value, dict, path, strict) or {}, data_type, path, strict)
    elif pa.types.is_list(data_type):
        for item in _container(value, list, path, strict) or (None,):
            yield from _walk(item, data_type.value_type, path, strict)
    elif value is None:
        yield path, None
    else:
        try:
            yield path, _typed(value, data_type)
        except (ValueError, InvalidOperation) as error:
            if strict:
                raise ValueError(f"{path} is {data_type}, {value!r} is not") from error
            yield path, repr(value)


def _container(value: Any, kind: type[Any], path: str, strict: bool) -> Any:
    """The object or list that a value is, as itself or as JSON; None for none."""
    if strict and isinstance(value, str):
        try:
            value = json.loads(value, parse_float=Decimal)
        except ValueError as error:
            raise ValueError(f"{path} is no JSON: {error}") from error
    if isinstance(value, kind) or value is None:
        return value
    if strict:
        raise ValueError(f"{path} is {'an object' if kind is dict else 'a list'}, {value!r} is none")
    return None


def _fields(value: dict[str, Any], data_type: pa.DataType, path: str, strict: bool) -> Iterator[Leaf]:
    known = [field.name for field in data_type]
    for name in value if strict else ():
        if name not in known:
            raise ValueError(f"{path} has no field {name!r}{meant(str(name), known)}")
    for field in data_type:
        below = f"{path}.{field.name}" if path else field.name
        yield from _walk(value.get(field.name), field.type, below, strict)


def _nothing(value: Any) -> bool:
    if isinstance(value, float | Decimal):
        return math.isnan(value)
    return value is None or (isinstance(value, str) and not value.strip())


def _typed(value: Any, data_type: pa.DataType) -> Any:
    """The value in the one spelling it has under its type. Raises ValueError or InvalidOperation."""
    text = " ".join(str(value).split())
    if pa.types.is_string(data_type) or pa.types.is_large_string(data_type):
        return unicodedata.normalize("NFC", text)
    if text.lower() == "nan":
        return None
    if pa.types.is_boolean(data_type):
        if text.lower() not in BOOLEANS:
            raise ValueError(f"one of {', '.join(BOOLEANS)}")
        return BOOLEANS[text.lower()]
    if pa.types.is_integer(data_type):
        number = Decimal(text)
        if number != number.to_integral_value():
            raise ValueError(f"{text} is between two integers")
        return int(number)
    if pa.types.is_decimal(data_type):
        return Decimal(text).quantize(Decimal(1).scaleb(-data_type.scale), context=WIDE)
    if pa.types.is_floating(data_type):
        return pa.scalar(float(text), data_type).as_py()
    if pa.types.is_date(data_type):
        moment = datetime.fromisoformat(text)
        if moment.time() != time():
            raise ValueError(f"{text} is a time of a day")
        return moment.date()
    moment = datetime.fromisoformat(text)
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
