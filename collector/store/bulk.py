"""Many rows in one statement: what SQLAlchemy does for each value of each row would be most of the cost.

SQLite's driver takes tuples and loops itself; PostgreSQL takes one JSON document for all of them.
Rows are mappings of column names to values as the database keeps them: a document is text already.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import islice
from operator import itemgetter
from typing import Any

import orjson
from sqlalchemy import (
    ARRAY,
    Boolean,
    Connection,
    Dialect,
    FunctionElement,
    Row,
    Table,
    Text,
    TypeDecorator,
    bindparam,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler

Rows = Sequence[Mapping[str, Any]]
# What one statement takes: of a message of 500 rows no second and third copy is needed as a whole.
AT_ONCE = 100


class RacedError(Exception):
    """Somebody else has written one of these rows at the same moment: the unit is to be done again."""


def insert(
    connection: Connection,
    table: Table,
    names: tuple[str, ...],
    rows: Iterable[Mapping[str, Any]],
    *,
    key: str = "",
    change: tuple[str, ...] = (),
    owner: str = "",
) -> None:
    """``key``: the column by which a row may be there already; ``change`` are the columns that then take what
    is new. In the order of ``rows``, and so are the locks. Raises RacedError where a row is there although
    nothing of it may change, or where it has another ``owner``, the name of a column.
    """
    statement = _insert(connection.dialect.name, table, names, key, change, owner)
    for part in _parts(rows):
        if _execute(connection, statement, names, part) < len(part):
            raise RacedError(f"a row of {table.name} is there already")


def update(
    connection: Connection,
    table: Table,
    key: str,
    names: tuple[str, ...],
    rows: Iterable[Mapping[str, Any]],
) -> None:
    """``names`` of the rows whose ``key`` is there."""
    statement = _update(connection.dialect.name, table, key, names)
    for part in _parts(rows):
        _execute(connection, statement, (*names, key), part)


def insert_least(
    connection: Connection, table: Table, keys: tuple[str, ...], least: str, rows: Rows
) -> set[tuple[Any, ...]]:
    """Of each key the least value is kept. The keys of those that were not known, or known to be more."""
    if not rows:
        return set()
    statement = _insert_least(connection.dialect.name, table, keys, least)
    found = connection.exec_driver_sql(statement, (orjson.dumps(list(rows)).decode(),)).all()
    return {tuple(row) for row in found}


def matching(
    connection: Connection, table: Table, keys: tuple[str, ...], names: tuple[str, ...], rows: Rows
) -> Sequence[Row[*tuple[Any, ...]]]:
    """``names`` of those whose ``keys`` are those of one of ``rows``."""
    if not rows:
        return []
    statement = _matching(connection.dialect.name, table, keys, names)
    return connection.exec_driver_sql(statement, (orjson.dumps(list(rows)).decode(),)).all()


def least(
    connection: Connection, table: Table, keys: tuple[str, ...], value: str, rows: Rows
) -> Sequence[Row[*tuple[Any, ...]]]:
    """Of each of ``rows`` its ``keys`` and the least ``value`` there is for them, None where there is none.
    An index of the keys and the value finds it at once.
    """
    if not rows:
        return []
    statement = _least(connection.dialect.name, table, keys, value)
    return connection.exec_driver_sql(statement, (orjson.dumps(list(rows)).decode(),)).all()


class Texts(TypeDecorator[Any]):
    """Any number of texts in one parameter."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> Any:
        return dialect.type_descriptor(ARRAY(Text()) if dialect.name == "postgresql" else Text())

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        return list(value) if dialect.name == "postgresql" else orjson.dumps(list(value)).decode()


class among(FunctionElement[bool]):  # noqa: N801  reads as SQL
    """``column IN (...)`` for a parameter of that name: one statement however many there are."""

    type = Boolean()
    inherit_cache = True

    def __init__(self, column: Any, name: str) -> None:
        super().__init__(column, bindparam(name, type_=Texts()))

    def self_group(self, against: object = None) -> among:
        """As it is: SQLAlchemy would ask SQLite for ``(...) = 1``, and that for every row of the table."""
        return self


@compiles(among)
def _among(element: among, compiler: SQLCompiler, **more: Any) -> str:
    column, wanted = (compiler.process(one, **more) for one in element.clauses)
    return f"{column} IN (SELECT value FROM json_each({wanted}))"  # noqa: S608


@compiles(among, "postgresql")
def _among_postgresql(element: among, compiler: SQLCompiler, **more: Any) -> str:
    column, wanted = (compiler.process(one, **more) for one in element.clauses)
    return f"{column} = ANY({wanted})"


class unindexed(FunctionElement[str]):  # noqa: N801  reads as SQL
    """A text column by which no database is to look for rows: of ``site = ?`` they expect ten, and there may
    be a million.
    """

    type = Text()
    inherit_cache = True


@compiles(unindexed)
def _unindexed(element: unindexed, compiler: SQLCompiler, **more: Any) -> str:
    # sqlite.org/optoverview.html: "the unary + operator".
    return "+" + compiler.process(element.clauses, **more)


@compiles(unindexed, "postgresql")
def _unindexed_postgresql(element: unindexed, compiler: SQLCompiler, **more: Any) -> str:
    return f"({compiler.process(element.clauses, **more)} || '')"


def _parts(rows: Iterable[Mapping[str, Any]]) -> Iterator[Rows]:
    left = iter(rows)
    while part := list(islice(left, AT_ONCE)):
        yield part


def _execute(connection: Connection, statement: str, names: tuple[str, ...], rows: Rows) -> int:
    """How many rows it wrote."""
    if connection.dialect.name == "postgresql":
        told = [row if len(row) == len(names) else {name: row[name] for name in names} for row in rows]
        # The names of a row that was read are a kind of str of SQLAlchemy's own.
        document = orjson.dumps(told, option=orjson.OPT_NON_STR_KEYS).decode()
        return connection.exec_driver_sql(statement, (document,)).rowcount
    if len(names) == 1:
        return connection.exec_driver_sql(statement, [(row[names[0]],) for row in rows]).rowcount
    return connection.exec_driver_sql(statement, list(map(itemgetter(*names), rows))).rowcount


@cache
def _insert(
    dialect: str, table: Table, names: tuple[str, ...], key: str, change: tuple[str, ...], owner: str
) -> str:
    columns = ", ".join(map(_quoted, names))
    if dialect == "postgresql":
        source = f"SELECT {columns} FROM {_recordset(table)}"  # noqa: S608  names of our own, here and below
    else:
        source = f"VALUES ({', '.join('?' * len(names))})"
    conflict = f" ON CONFLICT ({_quoted(key)}) DO NOTHING" if key else ""
    if change:
        taken = ", ".join(f"{_quoted(name)} = excluded.{_quoted(name)}" for name in change)
        conflict = f" ON CONFLICT ({_quoted(key)}) DO UPDATE SET {taken}"
    if owner:
        conflict += f" WHERE {_quoted(table.name)}.{_quoted(owner)} = excluded.{_quoted(owner)}"
    return f"INSERT INTO {_quoted(table.name)} ({columns}) {source}{conflict}"


@cache
def _update(dialect: str, table: Table, key: str, names: tuple[str, ...]) -> str:
    name = _quoted(table.name)
    if dialect == "postgresql":
        taken = ", ".join(f"{_quoted(one)} = told.{_quoted(one)}" for one in names)
        same = f"{name}.{_quoted(key)} = told.{_quoted(key)}"
        return f"UPDATE {name} SET {taken} FROM {_recordset(table)} AS told WHERE {same}"  # noqa: S608
    taken = ", ".join(f"{_quoted(one)} = ?" for one in names)
    return f"UPDATE {name} SET {taken} WHERE {_quoted(key)} = ?"  # noqa: S608


@cache
def _insert_least(dialect: str, table: Table, keys: tuple[str, ...], least: str) -> str:
    name, value, owner = _quoted(table.name), _quoted(least), ", ".join(map(_quoted, keys))
    told = f"SELECT {owner}, {value} FROM {_told(dialect, table, (*keys, least))}"  # noqa: S608
    better = f"{value} = excluded.{value} WHERE excluded.{value} < {name}.{value}"
    conflict = f"ON CONFLICT ({owner}) DO UPDATE SET {better} RETURNING {owner}"
    # WHERE: else SQLite takes ON for that of a join.
    return f"INSERT INTO {name} ({owner}, {value}) {told} AS told WHERE true {conflict}"


@cache
def _matching(dialect: str, table: Table, keys: tuple[str, ...], names: tuple[str, ...]) -> str:
    name = _quoted(table.name)
    wanted = ", ".join(f"{name}.{_quoted(one)}" for one in names)
    same = " AND ".join(f"{name}.{_quoted(key)} = told.{_quoted(key)}" for key in keys)
    told = _told(dialect, table, keys)
    return f"SELECT {wanted} FROM {told} AS told CROSS JOIN {name} WHERE {same}"  # noqa: S608


@cache
def _least(dialect: str, table: Table, keys: tuple[str, ...], value: str) -> str:
    name = _quoted(table.name)
    owner = ", ".join(f"told.{_quoted(key)}" for key in keys)
    same = " AND ".join(f"{name}.{_quoted(key)} = told.{_quoted(key)}" for key in keys)
    found = f"SELECT min({_quoted(value)}) FROM {name} WHERE {same}"  # noqa: S608
    return f"SELECT {owner}, ({found}) FROM {_told(dialect, table, keys)} AS told"  # noqa: S608


def _told(dialect: str, table: Table, names: tuple[str, ...]) -> str:
    """What was handed in as one document, as rows."""
    if dialect == "postgresql":
        return _recordset(table)
    columns = ", ".join(f"json_extract(value, '$.{name}') AS {_quoted(name)}" for name in names)
    return f"(SELECT {columns} FROM json_each(?))"  # noqa: S608


def _recordset(table: Table) -> str:
    return f"json_populate_recordset(NULL::{_quoted(table.name)}, %s)"


def _quoted(name: str) -> str:
    return f'"{name}"'
