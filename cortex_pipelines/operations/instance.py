"""The Dagster instance as operators keep it: its folder, its configuration, and where its runs are stored."""

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Of DAGSTER_HOME, what Dagster keeps there; whatever else lies there is not Dagster's.
HELD = ("dagster.yaml", "history", "schedules", "storage")


@dataclass(frozen=True)
class Instance:
    """Where the instance lies, if there is one in a folder; `fault` is what is wrong with its configuration.

    `named` is the folder that DAGSTER_HOME names, whether it is there or not.
    """

    home: Path | None
    config: Mapping[str, Any] = field(default_factory=dict)
    fault: str = ""
    named: Path | None = None

    @staticmethod
    def of_environment() -> "Instance":
        """The instance that DAGSTER_HOME names."""
        named = os.environ.get("DAGSTER_HOME", "").strip()
        if not named:
            return Instance(None)
        home = Path(named).expanduser()
        if not home.is_dir():
            return Instance(None, fault=f"DAGSTER_HOME={named} is no folder", named=home)
        try:
            return Instance(home, _read(home / "dagster.yaml"), named=home)
        except (OSError, ValueError) as error:
            told = " ".join(str(error).split())[:200]
            return Instance(home, fault=f"{home / 'dagster.yaml'} cannot be read: {told}", named=home)

    @property
    def postgres(self) -> bool:
        """Whether runs are kept in PostgreSQL."""
        return "postgres" in self._storage

    @property
    def address(self) -> tuple[str, int] | None:
        """Where PostgreSQL listens, its variables looked up; None where that is said in a way of its own."""
        given = self._given
        host, port = (_value(given.get(name)) for name in ("hostname", "port"))
        return (host, int(port or 5432)) if host and (port or "5432").isdecimal() else None

    @property
    def files(self) -> Path | None:
        """The folder that logs and what steps hand on are written to."""
        group = self.config.get("local_artifact_storage")
        config = group.get("config") if isinstance(group, dict) else None
        base = _value(config.get("base_dir")) if isinstance(config, dict) else ""
        return Path(base) if base else self.home

    @property
    def elsewhere(self) -> str:
        """A folder outside of DAGSTER_HOME that holds the SQLite databases; empty where there is none."""
        sqlite = self._storage.get("sqlite")
        return str(sqlite.get("base_dir", "")) if isinstance(sqlite, dict) else ""

    @property
    def notes(self) -> tuple[str, ...]:
        """What of the instance is not in its folder, and how that is backed up."""
        if self.fault:
            return (f"the Dagster instance may not be whole in it: {self.fault}",)
        if self.postgres:
            return (
                "the runs of Dagster are in PostgreSQL and not in it: keep them with "
                f"pg_dump --format=custom --file=dagster.dump {self._database()}, "
                f"bring them back with pg_restore --clean --if-exists {self._database()} dagster.dump",
            )
        if self.elsewhere:
            return (f"the runs of Dagster lie in {self.elsewhere} and are not in it: copy them while Dagster stands",)
        return ()

    @property
    def _storage(self) -> Mapping[str, Any]:
        found = self.config.get("storage")
        return found if isinstance(found, dict) else {}

    def _database(self) -> str:
        """How PostgreSQL's own programs are told of the database; never with the password."""
        if not self._given:
            return '--dbname "$DAGSTER_POSTGRES_URL"'
        options = {"host": "hostname", "port": "port", "username": "username", "dbname": "db_name"}
        return " ".join(
            f"--{option} {_word(self._given[name])}" for option, name in options.items() if self._given.get(name)
        )

    @property
    def _given(self) -> Mapping[str, Any]:
        """How the database is named, in parts; nothing where it is an address in one."""
        told = self._storage.get("postgres")
        given = told.get("postgres_db") if isinstance(told, dict) else None
        return given if isinstance(given, dict) else {}


def _word(value: Any) -> str:
    """A value of the configuration for a shell: as it is, or the variable that it is read from."""
    return f'"${value.get("env")}"' if isinstance(value, dict) else shlex.quote(str(value))


def _value(told: Any) -> str:
    """A value of the configuration: as it is, or that of the variable it is read from."""
    return os.environ.get(str(told.get("env")), "") if isinstance(told, dict) else str(told or "")


def _read(path: Path) -> Mapping[str, Any]:
    import yaml

    if not path.is_file():
        return {}
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None
    if found is not None and not isinstance(found, dict):
        raise ValueError("it is no list of settings")
    return found or {}
