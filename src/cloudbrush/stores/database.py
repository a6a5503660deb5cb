"""Opening a database: connection rules of each dialect, transactions, migrations to the newest shape."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Table, create_engine, event, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Engine, make_url
from sqlalchemy.exc import DataError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import ConnectionPoolEntry

from cloudbrush.domain.errors import Conflict, InvalidInput, Unavailable

CONNECTIONS = {"sqlite": 64, "postgresql": 20}  # at most; a PostgreSQL server has 100 for all who use it
CONNECT_WAIT = 10  # seconds for a server to answer
LOCK_WAIT = 30.0  # seconds a writer waits for another before giving up
MIGRATING, WORKING = 0x436C6F75, 0x64627275  # advisory locks: on a database's shape, on its jobs


class Database:
    """A migrated SQL database; `reading` and `writing` are its two kinds of transaction."""

    def __init__(self, url: str) -> None:
        """Open and migrate the database at `url`: `sqlite:///file` or `postgresql://user:password@host/name`.

        Raises `Unavailable` when it does not answer or its driver is not installed.
        """
        self.engine = _engine(url)
        self._holding: Connection | None = None
        if self._is_sqlite:
            event.listen(self.engine, "connect", _prepare_sqlite)
            event.listen(self.engine, "begin", _begin_sqlite)
        else:
            event.listen(self.engine, "connect", _prepare_postgresql)
        _migrate(self.engine)

    @property
    def _is_sqlite(self) -> bool:
        return self.engine.dialect.name == "sqlite"

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """One consistent view."""
        options = {"reading": True} if self._is_sqlite else {"isolation_level": "REPEATABLE READ"}
        with _translated(), self.engine.connect().execution_options(**options) as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """All or nothing, on disk at the end."""
        with _translated(), self.engine.begin() as connection:
            yield connection

    def hold(self) -> None:
        """Keep other control planes from working on the same database until `close`. Raises `Conflict`.

        A file is held with its data directory already.
        """
        if self._is_sqlite:
            return
        with _translated():
            self._holding = self.engine.connect()
            held = self._holding.execute(select(func.pg_try_advisory_lock(*_lock(WORKING)))).scalar_one()
            self._holding.commit()
        if not held:
            self.close()
            raise Conflict(
                "another Cloudbrush is working on this database",
                field="CLOUDBRUSH_DATABASE_URL",
                hint="Use that one, or stop it first.",
            )

    def close(self) -> None:
        """Let go of the connections, and with them of what they hold."""
        if self._holding:
            with suppress(SQLAlchemyError):  # a server that went away holds nothing
                self._holding.execute(select(func.pg_advisory_unlock_all()))
            self._holding.close()
        self.engine.dispose()


def insert_missing(tx: Connection, table: Table, row: dict[str, Any]) -> None:
    """Insert a row unless there is one of its key, also when another writer does so at the same time."""
    dialect = sqlite if tx.dialect.name == "sqlite" else postgresql
    tx.execute(dialect.insert(table).values(row).on_conflict_do_nothing())


def _engine(url: str) -> Engine:
    place = make_url(url)
    if place.get_backend_name() == "sqlite":
        return create_engine(place, pool_size=CONNECTIONS["sqlite"], max_overflow=0)
    try:
        return create_engine(
            place.set(drivername="postgresql+psycopg"),
            pool_size=CONNECTIONS["postgresql"],
            max_overflow=0,
            pool_pre_ping=True,  # a server that was restarted in between is not noticed
            connect_args={"connect_timeout": CONNECT_WAIT},
        )
    except ImportError as error:
        raise Unavailable(
            "a PostgreSQL database needs its driver",
            field="CLOUDBRUSH_DATABASE_URL",
            hint="Install it: pip install 'cloudbrush[postgres]'",
        ) from error


def _lock(number: int) -> tuple[int, Any]:
    """An advisory lock of one schema; databases have their own anyway."""
    return number, func.hashtext(func.current_schema())


def _prepare_postgresql(connection: Any, _record: ConnectionPoolEntry) -> None:
    for statement in (
        f"SET lock_timeout = {int(LOCK_WAIT * 1000)}",
        # What a machine held that went away without a word is free again after a minute.
        "SET tcp_keepalives_idle = 30",
        "SET tcp_keepalives_interval = 10",
        "SET tcp_keepalives_count = 3",
        # A commit is on disk when it returns, also where the server is set up to be faster than that.
        "SELECT set_config('synchronous_commit', 'on', false)"
        " WHERE current_setting('synchronous_commit') = 'off'",
    ):
        connection.execute(statement)
    connection.commit()


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
            "the database does not answer",
            hint="Is it running and its disk not full? CLOUDBRUSH_DATABASE_URL says where it is.",
        ) from error
    except DataError as error:
        raise InvalidInput("a value is too long, or holds characters that cannot be stored") from error


def _migrate(engine: Engine) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    head = ScriptDirectory.from_config(config).get_current_head()
    with _translated(), engine.begin() as connection:
        if engine.dialect.name == "postgresql":  # others may be starting too
            connection.execute(select(func.pg_advisory_xact_lock(*_lock(MIGRATING))))
        if not _is_at(connection, head):
            config.attributes["connection"] = connection
            command.upgrade(config, "head")


def _is_at(connection: Connection, head: str | None) -> bool:
    from alembic.runtime.migration import MigrationContext

    return MigrationContext.configure(connection).get_current_revision() == head
