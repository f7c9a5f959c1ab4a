"""Where an order of the command line goes: to the collector that runs on the data directory, or into the
database itself.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from collector import admin, clock, local
from collector.config import LOCK_NAME, ConfigError, Settings
from collector.local import DataDirectory


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where orders go; ``name`` is for the person who gave one."""

    name: str
    perform: Callable[[admin.AnyOrder], admin.Answer]


@contextlib.contextmanager
def found(settings: Settings, *, makes: bool) -> Iterator[Place]:
    """``makes``: a database where there is none; any other order that lands in the wrong place must not seem
    done. Raises ConfigError, OSError; what it gives raises OrderError and UnreachableError too.
    """
    if not settings.one_writer:
        yield Place(name=f"the database {shown(settings)}", perform=partial(_directly, settings))
        return
    file, lock = settings.database_file, settings.data_dir / LOCK_NAME
    # A collector that keeps its data in a PostgreSQL has the lock alone here.
    if not makes and not file.exists() and not lock.exists():
        raise _no_database(settings)
    directory = DataDirectory(settings.data_dir)
    try:
        if not directory.holder:
            name = f"the collector that runs on {settings.data_dir}"
            yield Place(name=name, perform=partial(local.ask, settings.data_dir))
        elif elsewhere := local.noted(settings.data_dir):
            raise ConfigError(
                f"the collector of {settings.data_dir} keeps its data in {elsewhere}: "
                "give --database-url, or start it first"
            )
        elif file.exists():
            yield Place(name=f"the database {file}", perform=partial(_directly, settings))
        elif makes:
            yield Place(name=f"the new database {file}", perform=partial(_directly, settings))
        else:
            raise _no_database(settings)
    finally:
        directory.close()


def unusable(data_dir: Path, error: OSError) -> str:
    said = f"data_dir: {data_dir} cannot be used: {error.strerror}"
    with contextlib.suppress(OSError, KeyError):
        if isinstance(error, PermissionError):
            said += f"; run this as its owner, {data_dir.owner()}"
    return said


def postgresql(settings: Settings) -> str:
    """Which one it is, by the settings or by what is noted in the data directory; empty when it is SQLite.
    Raises OSError.
    """
    return local.noted(settings.data_dir) if settings.one_writer else shown(settings)


def shown(settings: Settings) -> str:
    """The address of a PostgreSQL, without what may be secret in it."""
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(settings.database_url).set(query={}).render_as_string(hide_password=True)
    except (ArgumentError, ValueError):
        return "database_url"


def _no_database(settings: Settings) -> ConfigError:
    return ConfigError(
        f"there is no database at {settings.database_file}; name it with --data-dir or --database-url"
    )


def _directly(settings: Settings, order: admin.AnyOrder) -> admin.Answer:
    """Upgrades nothing: until the newer collector starts, the older one can."""
    from collector.store import Store, UnusableError, moment

    try:
        store = Store.open(settings.database, upgrade=False)
    except UnusableError as error:
        raise ConfigError(f"{settings.database_name}: {error}") from error
    try:
        return store.write(
            lambda connection: admin.perform(
                connection,
                order,
                moment.now_ms(connection) or clock.now_ms(),
                enrolment_hours=settings.enrolment_hours,
            )
        )
    finally:
        store.close()
