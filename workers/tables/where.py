"""A filter as SQL writes it, for formats whose files Arrow reads: `year >= 2024 AND kind IN ('a', 'b')`."""

from __future__ import annotations

from decimal import Decimal
from difflib import get_close_matches
from functools import reduce
from operator import and_, or_
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from schemas.errors import JobError

if TYPE_CHECKING:
    from collections.abc import Callable

ONE_BY_ONE = 100
"""Values of an IN that are compared each by itself, which statistics leave more files out by."""


def expression(where: str, schema: pa.Schema) -> pc.Expression:
    """The filter as Arrow takes it. A row in which it comes to null is left out, as SQL has it.

    Args:
        where: comparisons of a column with a constant, IN, BETWEEN, LIKE and IS NULL, joined by AND, OR, NOT.
        schema: of the table; constants are taken as values of their column's type.

    Raises:
        JobError: it is no such filter, or names a column that is not there.
    """
    try:
        return _Translation(where, schema).of(_parsed(where))
    except RecursionError as error:
        raise _fault(where, "has too many conditions within each other") from error


def named_in(where: str) -> set[str]:
    """The columns that a filter names, whether they are there or not.

    Raises:
        JobError: see `expression`.
    """
    from sqlglot import exp

    return {node.name for node in _parsed(where).find_all(exp.Column)}


def named(where: str, schema: pa.Schema) -> list[str]:
    """Those that are there, in the order of the table."""
    names = named_in(where)
    return [name for name in schema.names if name in names]


def likes_in(where: str) -> list[str]:
    """The patterns of its LIKEs."""
    from sqlglot import exp

    return [node.expression.name for node in _parsed(where).find_all(exp.Like)]


def _parsed(where: str) -> Any:
    import sqlglot
    from sqlglot.errors import SqlglotError

    try:
        return sqlglot.parse_one(where, read="duckdb")
    except SqlglotError as error:
        raise _fault(where, "is no condition that SQL knows") from error
    except RecursionError as error:
        raise _fault(where, "has too many conditions within each other") from error


class _Translation:
    def __init__(self, where: str, schema: pa.Schema) -> None:
        from sqlglot import exp

        self._where, self._schema = where, schema
        self._comparisons: dict[Any, Callable[[Any, Any], Any]] = {
            exp.EQ: lambda a, b: a == b,
            exp.NEQ: lambda a, b: a != b,
            exp.LT: lambda a, b: a < b,
            exp.LTE: lambda a, b: a <= b,
            exp.GT: lambda a, b: a > b,
            exp.GTE: lambda a, b: a >= b,
        }

    def of(self, node: Any) -> pc.Expression:
        """One condition."""
        from sqlglot import exp

        if isinstance(node, exp.Paren):
            return self.of(node.this)
        if isinstance(node, exp.And | exp.Or):
            join = and_ if isinstance(node, exp.And) else or_
            return _joined([self.of(each) for each in node.flatten()], join)
        if isinstance(node, exp.Not):
            return ~self.of(node.this)
        if type(node) in self._comparisons:
            return self._compared(node)
        if isinstance(node, exp.Is) and isinstance(node.expression, exp.Null):
            return self._column(node.this)[0].is_null()
        if isinstance(node, exp.In) and node.expressions:
            return self._among(node)
        if isinstance(node, exp.Between) and not node.args.get("symmetric"):
            column, kind = self._column(node.this)
            low, high = (self._value(node.args[end], kind) for end in ("low", "high"))
            return (column >= low) & (column <= high)
        if isinstance(node, exp.Like):
            column, kind = self._column(node.this)
            pattern = self._value(node.expression, pa.string()).as_py()
            if pattern is None or not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
                raise self._not_taken(node)
            # A backslash is a letter to SQL; to Arrow it says that the next one is. NOT LIKE is no Not around
            # a Like, as NOT IN is one around an In.
            alike = pc.match_like(column, pattern.replace("\\", "\\\\"))
            return ~alike if node.args.get("negate") else alike
        if isinstance(node, exp.Column):
            column, kind = self._column(node)
            if pa.types.is_boolean(kind):
                return column
        raise self._not_taken(node)

    def _compared(self, node: Any) -> pc.Expression:
        from sqlglot import exp

        compare = self._comparisons[type(node)]
        if isinstance(node.left, exp.Column):
            column, kind = self._column(node.left)
            return compare(column, self._value(node.right, kind))
        if not isinstance(node.right, exp.Column):
            raise self._not_taken(node.left)
        column, kind = self._column(node.right)
        return compare(self._value(node.left, kind), column)

    def _among(self, node: Any) -> pc.Expression:
        """As SQL has it, null is in no list, and nothing is known of a value outside one with a null."""
        column, kind = self._column(node.this)
        values = [self._value(value, kind) for value in node.expressions]
        known = [value for value in values if value.is_valid]
        if len(known) <= ONE_BY_ONE:
            return _joined([column == value for value in values], or_)
        null = [pa.scalar(None, kind)] if len(known) < len(values) else []
        # Arrow says no of null, of which nothing is known: by what holds for no value and is null for null.
        told = [column.isin(pa.array(known, kind))]
        told.append((column < known[0]) & (column > known[0]))
        return _joined([*told, *(column == value for value in null)], or_)

    def _column(self, node: Any) -> tuple[pc.Expression, pa.DataType]:
        from sqlglot import exp

        if not isinstance(node, exp.Column) or node.table:
            raise self._not_taken(node)
        name = node.name
        if name not in self._schema.names:
            guess = get_close_matches(name, self._schema.names, 1)
            hint = (
                f", did you mean {guess[0]!r}?" if guess else f" (there are {', '.join(self._schema.names)})"
            )
            raise _fault(self._where, f"names no column of the table: {name!r}{hint}")
        return pc.field(name), self._schema.field(name).type

    def _value(self, node: Any, kind: pa.DataType) -> pa.Scalar:
        from sqlglot import exp

        constant = self._constant(node)
        if isinstance(node, exp.Cast) and not pa.types.is_temporal(kind):
            raise self._not_taken(node)
        try:
            if isinstance(constant, str) and not pa.types.is_string(kind):
                return _read(constant, kind)
            if isinstance(constant, Decimal):
                # Arrow would cut what does not fit a column of whole numbers, and other rows would be found.
                exact = constant == constant.to_integral_value() or not pa.types.is_integer(kind)
                if not exact:
                    raise pa.ArrowInvalid("not a whole number")
                constant = constant if pa.types.is_decimal(kind) else _plain(constant, kind)
            return pa.scalar(constant, kind)
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError) as error:
            raise _fault(self._where, f"holds {node.sql()} against a column of {kind}") from error

    def _constant(self, node: Any) -> Any:
        from sqlglot import exp

        if isinstance(node, exp.Null):
            return None
        if isinstance(node, exp.Boolean):
            return bool(node.this)
        if isinstance(node, exp.Neg) and isinstance(node.this, exp.Literal) and not node.this.is_string:
            return Decimal("-" + node.this.this)
        if isinstance(node, exp.Literal):
            return node.this if node.is_string else Decimal(node.this)
        if type(node) is exp.Cast and isinstance(node.this, exp.Literal) and node.this.is_string:
            return self._moment(node)
        raise self._not_taken(node)

    def _moment(self, node: Any) -> str:
        """What is written in DATE '2024-01-31' or TIMESTAMP '2024-01-31 12:00'. Any other type might make
        another value of it."""
        from sqlglot import exp

        kinds, text = exp.DataType.Type, str(node.this.this)
        if node.to.this is kinds.DATE:
            try:
                pa.scalar(text).cast(pa.date32())
            except pa.ArrowInvalid as error:
                raise _fault(self._where, f"holds {text!r}, which is no day") from error
        elif node.to.this not in (kinds.TIMESTAMP, kinds.TIMESTAMPNTZ, kinds.TIMESTAMPTZ):
            raise self._not_taken(node)
        return text

    def _not_taken(self, node: Any) -> JobError:
        return _fault(
            self._where,
            f"has {node.sql()!r}: what is taken is a column against a constant (=, <>, <, <=, >, >=, IN, "
            "BETWEEN, LIKE, IS NULL), and these with AND, OR and NOT",
        )


def _joined(terms: list[pc.Expression], join: Callable[[Any, Any], Any]) -> pc.Expression:
    """All of them, halves within halves: Arrow ends the process over some thousand within each other."""
    while len(terms) > 1:
        pairs = [terms[place : place + 2] for place in range(0, len(terms), 2)]
        terms = [reduce(join, pair) for pair in pairs]
    return terms[0]


def _plain(number: Decimal, kind: pa.DataType) -> int | float:
    return int(number) if pa.types.is_integer(kind) else float(number)


def _read(text: str, kind: pa.DataType) -> pa.Scalar:
    """What is written in quotes, as a value of its column; a time without a zone is UTC."""
    if pa.types.is_timestamp(kind) and kind.tz is not None:
        try:
            return pa.scalar(text).cast(kind)
        except pa.ArrowInvalid:
            return pc.assume_timezone(pa.scalar(text).cast(pa.timestamp(kind.unit)), "UTC").cast(kind)
    return pa.scalar(text).cast(kind)


def _fault(where: str, what: str) -> JobError:
    return JobError(f"table.filter: {where!r} {what}", key="table.filter")
