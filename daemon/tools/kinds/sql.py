"""`kind = "sql"`: one statement with named parameters on SQLite or PostgreSQL."""

import sqlite3
import time
from contextlib import closing
from typing import Any, Literal
from urllib.parse import quote

import sqlalchemy
from pydantic import Field
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from daemon.tools.context import ToolContext
from daemon.tools.errors import CallInDoubt, RemoteUnavailable, ToolError
from daemon.tools.kinds.argument import Argument
from daemon.tools.kinds.credentials import Credentials
from daemon.tools.kinds.declaration import Declaration, Opened

_DRIVERS = {"sqlite": "sqlite+pysqlite", "postgresql": "postgresql+psycopg"}
_CONNECT_SECONDS = 5
_HEAD_START_SECONDS = 0.5
_UNHEARD_SECONDS = 15
# For libpq: a host that vanished without a word is noticed within half a minute instead of hours.
_LOST_HOST = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}


class SqlDeclaration(Declaration):
    """`database` is a SQLAlchemy URL. A tool is read-only unless `read_only = false`: the database itself
    then refuses to write. `max_rows` bounds what the model gets to read.

    An `optional` argument that is left out is NULL. PostgreSQL must be told the type of one that it meets
    alone first: `CAST(:id AS text) IS NULL OR id = :id`.
    """

    kind: Literal["sql"]
    database: str
    password: str | None = None
    statement: str = Field(min_length=1)
    max_rows: int = Field(default=50, ge=1, le=10_000)

    def open(self, name: str, origin: str, credentials: Credentials) -> Opened:
        """Raises ValueError naming what is wrong. Connects with the first call only."""
        database = _Database(self, credentials)
        read_only = self.read_only is not False
        return Opened(
            (self.tool(name, origin, database.call, credentials, read_only=read_only),), database.close
        )


class _Database:
    def __init__(self, declaration: SqlDeclaration, credentials: Credentials) -> None:
        self._declaration, self._credentials = declaration, credentials
        self._writes = declaration.read_only is False
        self._statement = _statement(declaration)
        self.engine = self._engine()
        self._closed = False
        self._is_sqlite = self.engine.dialect.name == "sqlite"

    def call(self, values: dict[str, Any], context: ToolContext) -> Any:
        """{"rows": […]}, with `truncated` when there are more; {"rows_affected": n} without rows.

        Raises ToolError with what the database says is wrong or for columns of one name, RemoteUnavailable
        when it cannot be reached, CallInDoubt when the connection of a tool that writes is lost on the way.
        """
        seconds = self._declaration.seconds(context, read_only=not self._writes)
        # A little before whoever waits gives up: then it is known that nothing was done.
        until = time.monotonic() + seconds - min(_HEAD_START_SECONDS, seconds / 4)
        try:
            with self._connection() as connection, connection.begin():
                self._limit(connection, until)
                with closing(connection.execute(self._statement, values)) as cursor:
                    return self._result(cursor)
        except DBAPIError as error:
            if error.connection_invalidated and self._writes:
                raise CallInDoubt("the connection to the database was lost on the way") from None
            if error.connection_invalidated or time.monotonic() >= until:
                raise  # another attempt may succeed
            raise ToolError(self._said(error.orig)) from None
        except SQLAlchemyError as error:
            raise ToolError(self._said(error)) from None
        finally:
            if self._closed:  # while this call was left behind
                self.engine.pool.dispose()

    async def close(self) -> None:
        self._closed = True
        self.engine.pool.dispose()

    def _connection(self) -> sqlalchemy.Connection:
        """Raises RemoteUnavailable."""
        try:
            return self.engine.connect()
        except DBAPIError as error:
            raise RemoteUnavailable(f"the database cannot be reached: {self._said(error.orig)}") from None

    def _said(self, error: BaseException | None) -> str:
        return self._credentials.hide((str(error).strip() or repr(error)).splitlines()[0])

    def _result(self, cursor: sqlalchemy.CursorResult[Any]) -> Any:
        if not cursor.returns_rows:
            return {"rows_affected": cursor.rowcount}
        names = list(cursor.keys())
        if twice := [name for name in names if names.count(name) > 1]:
            raise ToolError(f"two columns are called {twice[0]!r}; name them in `statement` with AS")
        found = cursor.mappings().fetchmany(self._declaration.max_rows + 1)
        rows = [{name: _readable(value) for name, value in row.items()} for row in found]
        if len(rows) <= self._declaration.max_rows:
            return {"rows": rows}
        return {"rows": rows[:-1], "truncated": True}

    def _limit(self, connection: sqlalchemy.Connection, until: float) -> None:
        """Let the database itself stop at `until`: nobody can stop the thread that waits for it."""
        if self._is_sqlite:
            raw = connection.connection.driver_connection
            assert isinstance(raw, sqlite3.Connection)
            raw.set_progress_handler(lambda: time.monotonic() > until, 10_000)
            # Waiting for a lock makes no progress.
            raw.execute(f"PRAGMA busy_timeout = {max(1, int((until - time.monotonic()) * 1000))}")
        else:
            milliseconds = max(1, int((until - time.monotonic()) * 1000))
            connection.execute(
                sqlalchemy.text("SELECT set_config('statement_timeout', :value, true)"),
                {"value": str(milliseconds)},
            )

    def _engine(self) -> sqlalchemy.Engine:
        declaration = self._declaration
        revealed = self._credentials.reveal(declaration.database)
        try:
            url = sqlalchemy.make_url(revealed)
            driver = _DRIVERS[url.get_backend_name()]
        except (ArgumentError, KeyError, ValueError):
            raise ValueError("`database` must be sqlite:////PATH or postgresql://USER@HOST/NAME") from None
        if declaration.password is not None:
            url = url.set(password=self._credentials.reveal(declaration.password))
        options: dict[str, Any] = {
            "pool_size": declaration.concurrency,
            "max_overflow": 0,
            "pool_pre_ping": True,
            "hide_parameters": True,
        }
        if driver == _DRIVERS["sqlite"]:
            if not url.database or url.database == ":memory:":
                raise ValueError("`database` names no file; write sqlite:////PATH")
            file, writes = url.database, self._writes
            return sqlalchemy.create_engine("sqlite://", creator=lambda: _sqlite(file, writes),
                                            poolclass=sqlalchemy.QueuePool, **options)  # fmt: skip
        # For the session, too: a statement that ends the transaction must not escape it.
        session = "" if self._writes else "-c default_transaction_read_only=on"
        try:
            return sqlalchemy.create_engine(
                url.set(drivername=driver),
                connect_args={"options": session, **_LOST_HOST, **_patience(declaration.timeout_seconds)},
                execution_options={} if self._writes else {"postgresql_readonly": True},
                **options,
            )
        except ModuleNotFoundError as error:
            raise ValueError(
                f"PostgreSQL needs {error.name}; pip install 'open-autoglm[postgresql]'"
            ) from None


def _patience(seconds: float) -> dict[str, int]:
    """For libpq: finding an old connection dead and a new one out of reach must both fit into a call of
    `seconds`, for then it is known that nothing was sent."""
    return {
        # Whole seconds, and never less than 2.
        "connect_timeout": max(2, min(_CONNECT_SECONDS, int(seconds / 2))),
        "tcp_user_timeout": int(1000 * min(_UNHEARD_SECONDS, seconds * 3 / 8)),
    }


def _readable(value: Any) -> Any:
    """Binary data as text if it is text; else the model is told that there is some."""
    if not isinstance(value, bytes | memoryview):
        return value
    try:
        return bytes(value).decode()
    except UnicodeDecodeError:
        return f"({len(value)} bytes)"


def _sqlite(file: str, writes: bool) -> sqlite3.Connection:
    # mode=rw: a missing file is an error rather than a new, empty database.
    connection = sqlite3.connect(
        f"file:{quote(file)}?mode=rw", uri=True, check_same_thread=False, timeout=_CONNECT_SECONDS
    )
    if not writes:
        connection.execute("PRAGMA query_only = ON")
    return connection


def _statement(declaration: SqlDeclaration) -> sqlalchemy.TextClause:
    """Raises ValueError for parameters that are not named ones or not declared."""
    for name, argument in declaration.arguments.items():
        if f"{{{name}}}" in declaration.statement or f"%({name})s" in declaration.statement:
            raise ValueError(f"`statement` would paste {name!r} into the text; write :{name}")
        if argument.type == "object":
            raise ValueError(f"argument {name!r} is an object; a parameter takes a single value or an array")
    text = sqlalchemy.text(declaration.statement)
    if declaration.read_only is not False:
        # A cursor of the server's: rows that nobody wants to see do not come over.
        text = text.execution_options(stream_results=True, max_row_buffer=declaration.max_rows + 1)
    declaration.check_names(set(text.compile().params), "`statement`")
    # `IN :ids`: as many parameters as the array has items; none at all need a type.
    arrays = {name: argument for name, argument in declaration.arguments.items() if argument.type == "array"}
    return text.bindparams(
        *(
            sqlalchemy.bindparam(name, type_=_item_type(array), expanding=True)
            for name, array in arrays.items()
        )
    )


def _item_type(array: Argument) -> sqlalchemy.types.TypeEngine[Any]:
    kind = array.items.type if array.items else "string"
    known: dict[str, sqlalchemy.types.TypeEngine[Any]] = {
        "integer": sqlalchemy.BigInteger(),
        "number": sqlalchemy.Double(),
        "boolean": sqlalchemy.Boolean(),
    }
    return known.get(kind, sqlalchemy.Text())
