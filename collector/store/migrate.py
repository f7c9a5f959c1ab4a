"""Brings the tables to the newest version, at every start, from the migrations in this package. There is no
way back.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, inspect, text

# Several collectors may start on one PostgreSQL at once; any number will do that nobody else uses.
LOCK = 0x616E646F6E
MIGRATIONS = Path(__file__).with_name("migrations")


def migrate(connection: Connection, to: str | None = None, *, upgrade: bool = True) -> None:
    """``to`` the newest version when none is named. Without ``upgrade`` only where there are no tables yet.
    Raises ValueError when that cannot be.
    """
    with connection.begin():
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
        found, newest = _version(connection), max(known_versions())
        if found is not None and found not in known_versions():
            raise ValueError(
                f"a newer collector made it ({found}; this one knows up to {newest}): "
                "install that one, or restore a backup from before"
            )
        if to is None and found == newest:
            return
        if found is not None and not upgrade:
            raise ValueError(
                f"it is of an older collector ({found}; this one's is {newest}): "
                "start the collector, which upgrades it"
            )
        _upgrade(connection, to or "head")


def known_versions() -> frozenset[str]:
    """Of tables that can be brought to the newest: the file of a migration begins with its version."""
    return frozenset(file.name.partition("_")[0] for file in (MIGRATIONS / "versions").glob("[0-9]*.py"))


def _version(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return found


def _upgrade(connection: Connection, to: str) -> None:
    # 11 MB for as long as the process lives, and most starts have nothing to upgrade.
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, to)
    except CommandError as error:
        raise ValueError(str(error)) from error
