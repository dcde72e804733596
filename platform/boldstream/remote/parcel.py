"""Send a command to a cluster with what it needs: the working directory, the code, its variables."""

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from boldstream.remote.package import copy_code, list_files, pack
from boldstream.remote.server import JobServer

LARGEST_MB = 100.0
"""Every node fetches the package before the job begins; Ray's own limit is 512 MiB."""


@dataclass(frozen=True)
class Parcel:
    """What goes to the cluster with a command.

    Attributes
    ----------
    variables : mapping of str to str
        Of `boldstream.remote.environment.job_variables`.
    folder : Path or None
        The working directory, none where the command needs none.
    exclude : sequence of str
        What of it stays here, beside what always does.
    with_code : bool
        Send this machine's boldstream along; else the cluster's own is used.
    most_mb : float
        Of the working directory, in MB; more is refused.
    """

    variables: Mapping[str, str]
    folder: Path | None = None
    exclude: Sequence[str] = ()
    with_code: bool = True
    most_mb: float = LARGEST_MB

    def files(self) -> list[Path]:
        """Return the files of the working directory that go along."""
        return list_files(self.folder, self.exclude) if self.folder else []

    def send(self, server: JobServer, name: str, command: str, metadata: Mapping[str, str] | None = None) -> None:
        """Submit a command with all this.

        Raises
        ------
        ConfigError
            If the working directory is too large.
        ClusterError
            As `JobServer.submit`.
        """
        environment: dict[str, Any] = {"env_vars": dict(self.variables)}
        with tempfile.TemporaryDirectory(prefix="boldstream-") as made:
            draft = Path(made)
            if self.folder:
                package = draft / "working_dir.zip"
                pack(self.folder, self.files(), package, self.most_mb)
                environment["working_dir"] = os.fspath(package)
            if self.with_code:
                environment["py_modules"] = [os.fspath(copy_code(draft))]
            server.submit(name, command, environment, metadata or {})
