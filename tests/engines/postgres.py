"""A real PostgreSQL for tests: the one that `TUNEMILL_TEST_POSTGRES_URL` names, else Debian's binaries in a temporary folder."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

from engines.absent import skip_or_fail
from engines.process import free_port
from tunemill.schemas.ids import new_id

_INSTALLED = Path("/usr/lib/postgresql")


@contextmanager
def postgres() -> Iterator[str]:
    """The SQLAlchemy URL of a server, for as long as the context lasts; without one the test is skipped, or fails where `CI=true`."""
    url = os.environ.get("TUNEMILL_TEST_POSTGRES_URL")
    if url:
        yield url
        return
    versions = sorted(_INSTALLED.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if not versions:
        _not_tested("no PostgreSQL: set TUNEMILL_TEST_POSTGRES_URL or install Debian's postgresql package")
    with _started(versions[-1].parent) as url:
        yield url


@contextmanager
def empty_database(server_url: str) -> Iterator[str]:
    """The URL of a database of its own on this server, dropped afterwards."""
    name = f"test_{new_id().lower()}"
    admin = create_engine(server_url, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    try:
        yield make_url(server_url).set(database=name).render_as_string(hide_password=False)
    finally:
        with admin.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
        admin.dispose()


@contextmanager
def _started(binaries: Path) -> Iterator[str]:
    folder = Path(tempfile.mkdtemp(prefix="tunemill-pg-", dir="/tmp"))
    user = _unprivileged_user()
    if user is not None:
        shutil.chown(folder, user)
    data, port = folder / "data", free_port()

    def run(*command: str) -> None:
        subprocess.run(
            command, check=True, user=user, cwd=folder, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL, timeout=120
        )

    try:
        run(str(binaries / "initdb"), "-D", str(data), "-U", "tunemill", "--auth=trust", "--no-sync", "-E", "UTF8")
        options = f"-c listen_addresses=127.0.0.1 -p {port} -k {folder} -c fsync=off"
        control = (str(binaries / "pg_ctl"), "-D", str(data), "-w")
        run(*control, "-l", str(folder / "log"), "-o", options, "start")
        try:
            yield f"postgresql+psycopg://tunemill@127.0.0.1:{port}/postgres"
        finally:
            run(*control, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _unprivileged_user() -> str | None:
    """Whom to run the server as: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in known else "nobody"


def _not_tested(why: str) -> None:
    skip_or_fail(f"NOT TESTED on PostgreSQL: {why}")
