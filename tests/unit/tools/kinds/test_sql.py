import sqlite3
import time

import psycopg
import pytest
import sqlalchemy

from daemon.tools.errors import ToolDeclarationError
from tests import servers

SELECT = "SELECT id, total FROM orders WHERE id = :id"
ID = {"id": {"type": "string"}}
NASTY = ["' OR 1=1 --", "A1'; DROP TABLE orders; --", ":id", "%(id)s", "{id}", "\\' OR 1=1", "?", "$1"]
SCHEMA = ["CREATE TABLE orders (id TEXT PRIMARY KEY, total NUMERIC)",
          "INSERT INTO orders VALUES ('A1', 5), ('A2', 7.5), ('A3', 9)"]  # fmt: skip


@pytest.fixture(scope="module")
def postgres():
    """URL of a server of our own."""
    with servers.postgres() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request, tmp_path):
    url = f"sqlite:///{tmp_path}/shop.db"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres")
    engine = sqlalchemy.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("DROP TABLE IF EXISTS orders"))
        for statement in SCHEMA:
            connection.execute(sqlalchemy.text(statement))
    yield url
    engine.dispose()


@pytest.fixture
def count(database):
    def count_():
        engine = sqlalchemy.create_engine(database)
        with engine.connect() as connection:
            result = connection.execute(sqlalchemy.text("SELECT count(*) FROM orders")).scalar()
        engine.dispose()
        return result

    return count_


async def test_rows(declare, call, database):
    tool = declare(kind="sql", database=database, statement=SELECT, arguments=ID)
    assert tool.read_only and tool.idempotent
    found = await call(tool, {"id": "A2"})
    assert found.outcome == "ok" and found.result["rows"][0]["id"] == "A2"
    assert float(found.result["rows"][0]["total"]) == 7.5
    assert (await call(tool, {"id": "B"})).result == {"rows": []}


async def test_columns_of_one_name_are_told(declare, call, database, count):
    """The second would stand for both."""
    both = "SELECT a.id, b.id FROM orders a JOIN orders b ON a.id < b.id"
    assert (
        "'id'; name them"
        in (await call(declare(kind="sql", database=database, statement=both))).result["error"]
    )
    acting = "INSERT INTO orders (id) VALUES ('A9') RETURNING id, id"
    tool = declare(kind="sql", database=database, statement=acting, read_only=False)
    assert (await call(tool)).outcome == "error"
    assert count() == 3  # nothing was done


@pytest.mark.parametrize("where", ["CAST(:id AS text) IS NULL OR id = :id", "id = COALESCE(:id, id)"])
async def test_an_optional_argument_filters_or_not(declare, call, database, where):
    optional = {"id": {"type": "string", "optional": True}}
    tool = declare(
        kind="sql", database=database, statement=f"SELECT id FROM orders WHERE {where}", arguments=optional
    )
    assert (await call(tool, {"id": "A2"})).result == {"rows": [{"id": "A2"}]}
    assert len((await call(tool, {})).result["rows"]) == 3


@pytest.mark.parametrize("value", [*NASTY, "\0", "\ud800"])
async def test_values_are_never_code(declare, call, database, count, value):
    tool = declare(kind="sql", database=database, statement=SELECT, arguments=ID)
    execution = await call(tool, {"id": value})
    assert execution.result in ({"rows": []},) or set(execution.result) == {"error"}
    assert "rows" in execution.result or value in "\0\ud800"
    assert count() == 3


async def test_values_are_written_as_they_are(declare, call, database, count):
    tool = declare(kind="sql", database=database, statement="INSERT INTO orders (id) VALUES (:id)",
                   arguments=ID, read_only=False)  # fmt: skip
    assert not tool.read_only and not tool.idempotent
    for value in NASTY:
        assert (await call(tool, {"id": value})).result == {"rows_affected": 1}
    assert count() == 3 + len(NASTY)


@pytest.mark.parametrize(
    "statement",
    ["DELETE FROM orders", "UPDATE orders SET total = 0", "CREATE TABLE other (x INT)",
     "WITH gone AS (DELETE FROM orders RETURNING *) SELECT * FROM gone"],
)  # fmt: skip
async def test_a_tool_reads_only_unless_it_says_otherwise(declare, call, database, count, statement):
    execution = await call(declare(kind="sql", database=database, statement=statement))
    assert execution.outcome == "error", execution
    assert count() == 3


async def test_leaving_the_transaction_is_no_way_out(declare, call, postgres):
    statement = "COMMIT; CREATE TABLE escaped (x INT)"
    execution = await call(declare(kind="sql", database=postgres, statement=statement))
    assert execution.outcome == "error"
    engine = sqlalchemy.create_engine(postgres)
    assert not sqlalchemy.inspect(engine).has_table("escaped")
    engine.dispose()


async def test_rows_are_bounded_and_lists_expand(declare, call, database):
    bounded = declare(
        kind="sql", database=database, statement="SELECT id FROM orders ORDER BY id", max_rows=2
    )
    assert (await call(bounded)).result == {"rows": [{"id": "A1"}, {"id": "A2"}], "truncated": True}
    ids = {"ids": {"type": "array", "items": {"type": "string"}}}
    several = declare(kind="sql", database=database, arguments=ids, pick="rows[].id",
                      statement="SELECT id FROM orders WHERE id IN :ids ORDER BY id")  # fmt: skip
    assert (await call(several, {"ids": ["A3", "A1", "'); DROP TABLE orders; --"]})).result == ["A1", "A3"]
    assert (await call(several, {"ids": []})).result == []


async def test_the_database_itself_stops_in_time(declare, call, database):
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
    tool = declare(kind="sql", database=database, statement=endless, timeout_seconds=0.4, concurrency=1)
    started = time.monotonic()
    assert (await call(tool)).outcome in ("timeout", "error")
    # The only connection is free again soon: the query was stopped, not just left behind.
    assert (await call(tool)).outcome in ("timeout", "error")
    assert time.monotonic() - started < 10


async def test_a_write_that_waits_too_long_for_a_lock_is_known_not_to_have_been_made(
    declare, call, database, count
):
    tool = declare(kind="sql", database=database, statement="INSERT INTO orders (id) VALUES ('A9')",
                   read_only=False, timeout_seconds=2.4)  # fmt: skip
    holder = sqlalchemy.create_engine(database)
    with holder.connect() as connection:
        sqlite = holder.dialect.name == "sqlite"
        connection.execute(sqlalchemy.text("UPDATE orders SET total = 0" if sqlite else "LOCK TABLE orders"))
        execution = await call(tool)
        assert execution.outcome == "error", execution
        connection.rollback()
    holder.dispose()
    assert count() == 3


async def test_binary_data_is_told_of(declare, call, database):
    kind = "BLOB" if database.startswith("sqlite") else "BYTEA"
    literal = "x'ff00'" if kind == "BLOB" else "decode('ff00', 'hex')"
    statement = f"SELECT CAST('text' AS {kind}) AS t, {literal} AS b"
    tool = declare(kind="sql", database=database, statement=statement)
    assert (await call(tool)).result == {"rows": [{"t": "text", "b": "(2 bytes)"}]}


async def test_a_write_whose_connection_was_lost_is_in_doubt(declare, call, postgres):
    dies = {"kind": "sql", "database": postgres, "statement": "SELECT pg_terminate_backend(pg_backend_pid())"}
    assert (await call(declare(**dies, read_only=False))).outcome == "unknown"
    assert (await call(declare(**dies))).outcome == "error"


@pytest.mark.parametrize("address", ["sqlite:////nowhere/shop.db", "postgresql://u@127.0.0.1:9/x"])
async def test_a_database_that_cannot_be_reached_is_tried_again(declare, call, address):
    tool = declare(kind="sql", database=address, statement="SELECT 1", retries=1)
    away = await call(tool)
    assert away.outcome == "error" and away.attempts == 2
    assert "the database cannot be reached" in away.result["error"]


@pytest.mark.parametrize("seconds", [4, 10, 60])
async def test_a_host_that_vanished_is_noticed(declare, call, monkeypatch, seconds):
    given = {}

    def refuse(*_, **parameters):
        given.update(parameters)
        raise psycopg.OperationalError("refused")

    monkeypatch.setattr(psycopg, "connect", refuse)
    await call(declare(kind="sql", database="postgresql://u@host/x", statement="SELECT 1",
                       timeout_seconds=seconds))  # fmt: skip
    assert given["keepalives_idle"] + given["keepalives_interval"] * given["keepalives_count"] < 30
    assert given["tcp_user_timeout"] < 30_000
    # In time for the call to know that it sent nothing.
    assert given["connect_timeout"] + given["tcp_user_timeout"] / 1000 <= seconds - 0.5


async def test_numbers_that_no_column_holds_are_told(declare, call, database):
    number = {"n": {"type": "integer"}}
    tool = declare(kind="sql", database=database, statement="SELECT id FROM orders WHERE total = :n",
                   arguments=number)  # fmt: skip
    for value in (2**63, -(2**80), 10**400):
        execution = await call(tool, {"n": value})
        assert execution.result == {"rows": []} or execution.outcome == "error", execution


async def test_arguments_of_the_request_are_not_the_models(declare, call, database):
    tool = declare(kind="sql", database=database, statement="SELECT :owner AS owner, :note AS note",
                   arguments={"owner": {"source": "user_id"}, "note": {"optional": True}})  # fmt: skip
    assert list(tool.parameters["properties"]) == ["note"] and tool.parameters["required"] == []
    assert (await call(tool, {}, user_id="U7")).result == {"rows": [{"owner": "U7", "note": None}]}
    assert "owner" in (await call(tool, {"owner": "U1"}, user_id="U7")).result["error"]
    assert (await call(tool)).result["error"].startswith("this tool needs the request's user_id")


async def test_a_missing_database_is_not_created(declare, call, tmp_path):
    file = tmp_path / "none.db"
    tool = declare(kind="sql", database=f"sqlite:///{file}", statement="SELECT 1", read_only=False)
    assert (await call(tool)).outcome == "error" and not file.exists()
    sqlite3.connect(file).close()
    assert (await call(tool)).outcome == "ok"


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        ({"statement": "SELECT :a"}, "`statement` uses 'a', which is not under `arguments`"),
        ({"statement": "SELECT 1", "arguments": ID}, "argument 'id' is used nowhere in `statement`"),
        ({"statement": "SELECT '{id}'", "arguments": ID}, "write :id"),
        ({"statement": "SELECT %(id)s", "arguments": ID}, "write :id"),
        ({"statement": "SELECT 1", "database": "mysql://x/y"}, "sqlite:////PATH or postgresql://"),
        ({"statement": "SELECT 1", "database": "sqlite://"}, "names no file"),
        ({"statement": "SELECT 1", "database": "postgresql://x:port/y"}, "sqlite:////PATH or postgresql://"),
        ({"statement": "SELECT 1", "password": "{credential:none}"}, "credential 'none' cannot be read"),
    ],
)
async def test_what_is_wrong_is_told_when_it_is_declared(declare, table, complaint):
    with pytest.raises((ValueError, ToolDeclarationError), match="(?s)" + complaint.replace("(", r"\(")):
        declare(**{"kind": "sql", "database": "postgresql://x/y", **table})
