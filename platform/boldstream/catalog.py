"""An Iceberg catalog in a database server that outlasts the server's restart."""

import re
import time
from collections.abc import Callable
from typing import Any, TypeVar

from pyiceberg.catalog.sql import SqlCatalog
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError

from boldstream.errors import StorageError, first_line

AWAY = re.compile(
    r"[Cc]onnection refused|[Cc]onnection reset|[Cc]onnection timed out|closed the connection|connection already closed"
    r"|starting up|shutting down|in recovery mode|terminating connection"
)
"""What libpq and PostgreSQL say while the server is gone for a moment; a wrong password or host is no such thing."""
PAUSE_S = 0.5

T = TypeVar("T")


class PatientSqlCatalog(SqlCatalog):
    """pyiceberg's catalog, whose reads wait for a server that is being started again.

    Commits are not repeated here: nobody knows whether one landed, so `until_committed` looks first.

    Parameters
    ----------
    name : str
    patience_s : float
        A server that is away for longer is given up.
    properties
        As pyiceberg has them.

    Raises
    ------
    StorageError
        If the server stays away.
    """

    def __init__(self, name: str, patience_s: float, **properties: str) -> None:
        self._patience_s = patience_s
        # pre-ping: a connection of before the restart is found dead when it is taken up, not in the middle of work
        known = properties | {"pool_pre_ping": "true"}
        self._waiting(lambda: super(PatientSqlCatalog, self).__init__(name, **known))
        event.listen(self.engine, "do_connect", self._connect)

    def _connect(self, dialect: Any, _record: Any, words: Any, settings: Any) -> Any:
        """Connect, for reads and commits, and wait where nobody is there to connect to."""
        return self._patiently(lambda: dialect.connect(*words, **settings), dialect.loaded_dbapi.OperationalError)

    def load_table(self, identifier: Any) -> Any:
        """Load a table, as pyiceberg does."""
        return self._waiting(lambda: super(PatientSqlCatalog, self).load_table(identifier))

    def list_tables(self, namespace: Any) -> Any:
        """List tables, as pyiceberg does."""
        return self._waiting(lambda: super(PatientSqlCatalog, self).list_tables(namespace))

    def _waiting(self, call: Callable[[], T]) -> T:
        try:
            return self._patiently(call, DBAPIError)
        except DBAPIError as error:
            if not AWAY.search(str(error)):
                raise
            raise StorageError(
                f"the catalog's server is away, and has been for {self._patience_s:g} s ({first_line(error)}); what is "
                "committed is kept, so run the same command again"
            ) from None

    def _patiently(self, call: Callable[[], T], kind: type[Exception]) -> T:
        deadline = time.monotonic() + self._patience_s
        while True:
            try:
                return call()
            except kind as error:
                if not AWAY.search(str(error)) or time.monotonic() > deadline:
                    raise
            time.sleep(PAUSE_S)
