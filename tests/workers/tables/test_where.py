"""A filter means what SQL says it means: DuckDB answers the same, nulls and all."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import JobError
from workers.tables.where import expression, named

SCHEMA = pa.schema(
    [
        ("n", pa.int64()),
        ("x", pa.float64()),
        ("s", pa.string()),
        ("b", pa.bool_()),
        ("d", pa.date32()),
        ("t", pa.timestamp("us")),
    ]
)
DUCKDB = duckdb.connect(config={"threads": 1})
DAYS = [date(2024, 1, day) for day in (1, 2, 3)]
TIMES = [datetime(2024, 1, day, 12) for day in (1, 2, 3)]
VALUES: dict[str, list[Any]] = {
    "n": [-1, 0, 1, 2],
    "x": [-0.5, 0.0, 1.5],
    "s": ["", "a", "ab", "b%", "it's", "a\\", "a\\b"],
    "b": [True, False],
    "d": DAYS,
    "t": TIMES,
}
PATTERNS = ["a%", "%b%", "_", "", "it%s", "a\\%", "%\\"]
TABLES = st.lists(
    st.fixed_dictionaries({name: st.none() | st.sampled_from(values) for name, values in VALUES.items()}),
    max_size=12,
).map(lambda rows: pa.Table.from_pylist(rows, SCHEMA))


def sql(value: Any) -> str:
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    if isinstance(value, datetime):
        return f"TIMESTAMP '{value}'"
    if isinstance(value, date):
        return f"DATE '{value}'"
    return str(value)


@st.composite
def conditions(draw: st.DrawFn) -> str:
    name = draw(st.sampled_from(sorted(VALUES)))
    one = st.sampled_from(VALUES[name]).map(sql)
    kinds = ["compare", "turned", "in", "between", "null"] + (["like"] if name == "s" else [])
    kind = draw(st.sampled_from(kinds))
    compare = draw(st.sampled_from(["=", "<>", "<", "<=", ">", ">="]))
    if kind == "compare":
        return f"{name} {compare} {draw(one)}"
    if kind == "turned":
        return f"{draw(one)} {compare} {name}"
    no = draw(st.sampled_from(["", "NOT "]))
    if kind == "in":
        return f"{name} {no}IN ({', '.join(draw(st.lists(one | st.just('NULL'), min_size=1, max_size=3)))})"
    if kind == "between":
        return f"{name} {no}BETWEEN {draw(one)} AND {draw(one)}"
    if kind == "like":
        return f"{name} {no}LIKE {sql(draw(st.sampled_from(PATTERNS)))}"
    return f"{name} IS {no}NULL"


FILTERS = st.recursive(
    conditions(),
    lambda inner: (
        st.tuples(inner, st.sampled_from(["AND", "OR"]), inner).map(lambda parts: f"({' '.join(parts)})")
        | inner.map(lambda each: f"NOT ({each})")
    ),
    max_leaves=4,
)


@settings(deadline=None, max_examples=100)
@given(TABLES, FILTERS)
def test_the_same_rows_as_duckdb(table: pa.Table, where: str) -> None:
    rows = table.append_column("place", pa.array(range(len(table)), pa.int64()))
    said = DUCKDB.from_arrow(rows).filter(where).order("place").project("place").fetchall()
    assert rows.filter(expression(where, SCHEMA))["place"].to_pylist() == [place for (place,) in said], where


@pytest.mark.parametrize(
    ("where", "told"),
    [
        ("m = 1", "'m'"),
        ("ss = 'a'", "did you mean 's'"),
        ("n + 1 = 2", "n + 1"),
        ("lower(s) = 'a'", "LOWER(s)"),
        ("n = s", "s"),
        ("n BETWEEN SYMMETRIC 2 AND 1", "SYMMETRIC"),
        ("s LIKE NULL", "LIKE NULL"),
        ("n LIKE '1%'", "n LIKE"),
        ("d NOT LIKE '2024%'", "d NOT LIKE"),
        ("x = CAST(1.7 AS INTEGER)", "CAST(1.7"),
        ("x = TRY_CAST('1.7' AS INTEGER)", "TRY_CAST('1.7'"),
        ("t >= CAST('2024-01-02 12:00:00' AS DATE)", "no day"),
        ("s = DATE '2024-01-02'", "CAST('2024-01-02' AS DATE)"),
        ("n = 'many'", "int64"),
        ("n IN (SELECT 1)", "SELECT 1"),
        ("n = = 1", "SQL"),
        ("DROP TABLE rows", "DROP TABLE rows"),
        ("", "SQL"),
    ],
)
def test_what_is_not_taken_is_told(where: str, told: str) -> None:
    with pytest.raises(JobError) as caught:
        expression(where, SCHEMA)
    assert caught.value.fields["key"] == "table.filter"
    assert told in caught.value.message


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ("price < -1.5", [0]),
        ("price = 1.50", [2]),
        ("at >= '2024-01-02'", [1, 2]),
        ("at = '2024-01-02T01:00:00+01:00'", [1]),
        ("n >= 1.0", [1, 2]),
    ],
)
def test_a_constant_is_a_value_of_its_column(where: str, found: list[int]) -> None:
    schema = pa.schema([("n", pa.int8()), ("price", pa.decimal128(9, 2)), ("at", pa.timestamp("us", "UTC"))])
    rows = pa.Table.from_pylist(
        [
            {"n": n, "price": price, "at": datetime(2024, 1, 1 + n, tzinfo=UTC)}
            for n, price in enumerate(map(Decimal, ("-2", "-1.5", "1.5")))
        ],
        schema,
    )
    assert rows.filter(expression(where, schema))["n"].to_pylist() == found


def test_no_part_of_a_constant_is_cut_off() -> None:
    with pytest.raises(JobError, match="0.5 against a column of int64"):
        expression("n >= 0.5", SCHEMA)


@pytest.mark.parametrize(
    ("where", "columns"), [("n >= 1", ["n"]), ('"a""b" = 1 OR nn = 2', ["nn", 'a"b']), ("nn = 'n'", ["nn"])]
)
def test_a_filter_looks_at_the_columns_that_it_names(where: str, columns: list[str]) -> None:
    schema = pa.schema([(name, pa.int64()) for name in ("n", "nn", 'a"b')])
    assert named(where, schema) == columns


@pytest.mark.parametrize("count", [101, 20_000])
def test_many_conditions_are_as_few(count: int) -> None:
    table = pa.table({"n": [5, count, None], "x": [1.0, float("nan"), None]})
    numbers = ", ".join(map(str, range(count)))
    joined = " OR ".join(f"n = {number}" for number in range(min(count, 400)))

    for where, places in (
        (f"n IN ({numbers})", [5]),
        (f"n NOT IN ({numbers})", [count]),
        (f"n NOT IN ({numbers}, NULL)", []),
        (f"x NOT IN ({numbers})", [count]),
        (joined, [5]),
    ):
        assert table.filter(expression(where, table.schema))["n"].to_pylist() == places, where[:20]


@pytest.mark.parametrize("where", ["NOT " * 3_000 + "b", "(" * 3_000 + "b" + ")" * 3_000])
def test_too_many_within_each_other_are_refused(where: str) -> None:
    with pytest.raises(JobError, match="within each other"):
        expression(where, SCHEMA)
