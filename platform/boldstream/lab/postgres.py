"""A PostgreSQL of one's own: its programs found, its cluster folder made, its databases made."""

import os
import shutil
import signal
import stat
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from boldstream.errors import LabError
from boldstream.lab.service import Service

DEBIAN = Path("/usr/lib/postgresql")
OWNER = "postgres"
"""Debian's user; PostgreSQL refuses root."""
USER = "boldstream"


def find_programs() -> Path:
    """Return the folder of ``initdb`` and ``postgres``: of PATH, else Debian's newest.

    Raises
    ------
    LabError
        If PostgreSQL is not installed.
    """
    if (found := shutil.which("initdb")) and shutil.which("postgres"):
        return Path(found).resolve().parent
    newest = sorted(DEBIAN.glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    if not newest:
        raise LabError(
            f"PostgreSQL is not installed (no initdb in PATH, nor in {DEBIAN}/*/bin); install it with: "
            "apt-get install postgresql"
        )
    return newest[-1].parent


def owner_for(folder: Path) -> str | None:
    """Return as whom the server is to run: as this user, or for root, whom it refuses, as Debian's.

    Raises
    ------
    LabError
        If that user cannot get into the folder.
    """
    if os.geteuid() != 0:
        return None
    for parent in folder.resolve().parents:
        if not parent.stat().st_mode & stat.S_IXOTH:
            raise LabError(
                f"PostgreSQL refuses to run as root, and its user {OWNER} may not enter {parent}; run this as "
                "yourself, or name a folder elsewhere: boldstream lab --folder /srv/boldstream-lab"
            )
    return OWNER


def postgres(folder: Path, port: int, password: str, environment: Mapping[str, str], log: Path) -> Service:
    """Return the server of a cluster folder, made if it is not there.

    It listens on this machine only and asks everybody for a password.

    Raises
    ------
    LabError
        If it cannot be made.
    """
    programs, owner = find_programs(), owner_for(folder)
    if not (folder / "PG_VERSION").is_file():
        _make_cluster(folder, programs, owner, password, log)
    options = {"port": str(port), "listen_addresses": "127.0.0.1", "unix_socket_directories": ""}
    settings = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
    return Service(
        "PostgreSQL",
        [str(programs / "postgres"), "-D", str(folder), *settings],
        environment,
        log,
        lambda: _answers(port, password),
        folder,
        owner,
        signal.SIGINT,  # ends connections instead of waiting for them
    )


def _make_cluster(folder: Path, programs: Path, owner: str | None, password: str, log: Path) -> None:
    draft = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(draft, ignore_errors=True)  # of a start that was interrupted
    draft.mkdir(mode=0o700)
    told = folder.with_name("initdb-password")
    told.touch(mode=0o600)
    told.write_text(password)
    if owner:
        shutil.chown(draft, owner, owner)
        shutil.chown(told, owner, owner)
    extra = {"user": owner, "group": owner, "extra_groups": []} if owner else {}
    options = [f"--username={USER}", f"--pwfile={told}", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8"]
    try:
        with log.open("ab") as out:
            subprocess.run(
                [str(programs / "initdb"), f"--pgdata={draft}", *options],
                stdout=out,
                stderr=out,
                cwd=draft,
                check=True,
                **extra,  # type: ignore[call-overload]
            )
    except subprocess.CalledProcessError as error:
        raise LabError(f"initdb ended with status {error.returncode}; its log is {log}") from None
    finally:
        told.unlink()
    draft.rename(folder)


def _answers(port: int, password: str) -> bool:
    import psycopg2

    try:
        _connect(port, password).close()
    except psycopg2.OperationalError:
        return False
    return True


def make_databases(statements: Path, port: int, password: str) -> None:
    """Run the statements that compose.yaml's PostgreSQL runs when it starts for the first time."""
    import psycopg2.errors

    connection = _connect(port, password)
    connection.autocommit = True
    lines = [line for line in statements.read_text().splitlines() if line and not line.startswith("--")]
    with connection.cursor() as cursor:
        for line in lines:
            try:
                cursor.execute(line)
            except psycopg2.errors.DuplicateDatabase:
                continue  # of an earlier start
    connection.close()


def _connect(port: int, password: str) -> Any:
    import psycopg2

    return psycopg2.connect(
        host="127.0.0.1", port=port, user=USER, password=password, dbname="postgres", connect_timeout=5
    )
