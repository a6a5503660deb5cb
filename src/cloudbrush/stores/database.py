"""Opening a database: connection rules of each dialect, transactions, migrations to the newest shape."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, event
from sqlalchemy.engine import Engine
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import ConnectionPoolEntry

from cloudbrush.domain.errors import Unavailable

CONNECTIONS = 64  # at most; as many as threads may ask at once
LOCK_WAIT = 30.0  # seconds a writer waits for another before giving up


class Database:
    """A migrated SQL database; `reading` and `writing` are its two kinds of transaction."""

    def __init__(self, url: str) -> None:
        """Open and migrate the database at `url`: `sqlite:///file` or `postgresql+psycopg://...`."""
        self.engine = create_engine(url, pool_size=CONNECTIONS, max_overflow=0)
        if self.engine.dialect.name == "sqlite":
            event.listen(self.engine, "connect", _prepare_sqlite)
            event.listen(self.engine, "begin", _begin_sqlite)
        _migrate(self.engine)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """One consistent view."""
        with _translated(), self.engine.connect().execution_options(reading=True) as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """All or nothing, on disk at the end."""
        with _translated(), self.engine.begin() as connection:
            yield connection

    def close(self) -> None:
        """Let go of the connections."""
        self.engine.dispose()


def _prepare_sqlite(connection: object, _record: ConnectionPoolEntry) -> None:
    connection.isolation_level = None  # type: ignore[attr-defined]  # BEGIN is ours, see _begin_sqlite
    for pragma in (
        "journal_mode = WAL",
        "synchronous = FULL",  # a commit is on disk when it returns
        "foreign_keys = ON",
        f"busy_timeout = {int(LOCK_WAIT * 1000)}",
    ):
        connection.execute(f"PRAGMA {pragma}")  # type: ignore[attr-defined]


def _begin_sqlite(connection: Connection) -> None:
    """Writers take the lock at once: upgrading a read lock later would fail with SQLITE_BUSY."""
    reading = connection.get_execution_options().get("reading", False)
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (OperationalError, InterfaceError, PoolTimeout) as error:
        raise Unavailable(
            "the database does not answer", hint="Is its disk full, or is another program holding it?"
        ) from error


def _migrate(engine: Engine) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    head = ScriptDirectory.from_config(config).get_current_head()
    with _translated(), engine.begin() as connection:
        if not _is_at(connection, head):
            config.attributes["connection"] = connection
            command.upgrade(config, "head")


def _is_at(connection: Connection, head: str | None) -> bool:
    from alembic.runtime.migration import MigrationContext

    return MigrationContext.configure(connection).get_current_revision() == head
