"""The demo desk's SQLite database: a file that is created and filled on first use."""

import sqlite3
import weakref
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

SEED = "desk.sql"


class Database:
    """`path` is a file in the state directory; the first transaction creates and fills it.

    Calls come from the threads of the tool executor: every transaction has a connection to itself. Opening
    one takes ten times as long as most transactions, so they are kept, and closed when nobody uses the
    object any more.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._ready = False
        self._idle: deque[sqlite3.Connection] = deque()
        weakref.finalize(self, _close, self._idle)

    @contextmanager
    def transaction(self, *, write: bool = False) -> Iterator[sqlite3.Connection]:
        """A connection inside a transaction: committed at the end, rolled back by an exception."""
        if not self._ready:
            self._prepare()
        with self._connect() as connection:
            connection.execute("BEGIN IMMEDIATE" if write else "BEGIN")
            try:
                yield connection
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")

    def _prepare(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._connect() as connection:
            # Threads, or two daemons, may find the same empty file: one of them fills it.
            connection.execute("BEGIN EXCLUSIVE")
            if connection.execute("PRAGMA user_version").fetchone()[0] == 0:
                seed = resources.files("daemon.demo").joinpath(SEED).read_text(encoding="utf-8")
                for statement in _statements(seed):
                    connection.execute(statement)
                connection.execute("PRAGMA user_version = 1")
            connection.execute("COMMIT")
        self._ready = True

    @contextmanager
    def _connect(self) -> Iterator[sqlite3.Connection]:
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = self._open()
        try:
            yield connection
        finally:
            if connection.in_transaction:  # who has it next could not begin one
                connection.close()
            else:
                self._idle.append(connection)

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=5.0, isolation_level=None, check_same_thread=False)
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA foreign_keys = ON")
        return connection


def _close(connections: deque[sqlite3.Connection]) -> None:
    for connection in connections:
        connection.close()


def _statements(script: str) -> Iterator[str]:
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
