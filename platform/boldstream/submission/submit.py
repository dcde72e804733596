"""Submit a room as a job: check here what can be checked here, and send it."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from boldstream.config import read_yaml
from boldstream.errors import AlreadySubmittedError, ConfigError
from boldstream.remote.environment import check_words
from boldstream.remote.parcel import Parcel
from boldstream.remote.server import Job, JobServer
from boldstream.submission.night import next_try


@dataclass(frozen=True)
class Order:
    """A room to be run on a cluster.

    Attributes
    ----------
    name : str
        Of `boldstream.submission.night.job_name`.
    job : str
        The room.
    config : Path
        Its configuration, in the working directory.
    overrides : sequence of str
        Options that override values of the configuration.
    again, follow : bool
        Try again what failed; follow what was submitted before.
    """

    name: str
    job: str
    config: Path
    overrides: Sequence[str]
    parcel: Parcel
    again: bool = False
    follow: bool = False


def check_order(order: Order, config: Any) -> str:
    """Return the command that the cluster is to run.

    Raises
    ------
    ConfigError
        If the cluster could not run it: a file that does not go along, a warehouse that would not outlast the job, a
        password in the command.
    """
    folder = order.parcel.folder or Path.cwd()
    path = _inside(order.config, folder)
    files = set(order.parcel.files())
    for needed, values in ((path, config.model_dump(mode="json")), *_named_by(config.model_dump(mode="json"), folder)):
        if needed not in files:
            raise ConfigError(
                f"{needed}: does not go to the cluster, because a .gitignore, a .rayignore, --exclude or boldstream's "
                "own list leaves it out (docs/submitting.md)"
            )
        warehouse = values.get("warehouse")
        if warehouse and "://" not in warehouse and not Path(warehouse).is_absolute():
            raise ConfigError(
                f"warehouse: {warehouse!r} of {needed} is relative, and on the cluster that is a folder that Ray "
                "removes with the job; give a path that every node has, or s3://…: boldstream submit … -- --warehouse "
                "s3://bucket/warehouse"
            )
    check_words(order.overrides)
    script = Path("jobs") / f"{order.job}.py"
    start = ["python", script.as_posix()] if script in files else ["python", "-m", "boldstream", order.job]
    return shlex.join([*start, "--config", path.as_posix(), *order.overrides])


def _inside(path: Path, folder: Path) -> Path:
    """Return a file's path relative to the working directory."""
    try:
        return (folder / path).resolve().relative_to(folder.resolve())
    except ValueError:
        raise ConfigError(f"{path}: is not in the working directory {folder}, which is what is sent") from None


def _named_by(values: Mapping[str, Any], folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield the files that a configuration names by relative paths, with what stands in those that are YAML too.

    A night's configuration names those of its rooms, and one of these a strategy.
    """
    for value in values.values():
        if not isinstance(value, str) or not Path(value).suffix or not (folder / value).is_file():
            continue
        path = _inside(Path(value), folder)
        inner = read_yaml(folder / path) if path.suffix in (".yaml", ".yml") else {}
        yield path, inner
        yield from _named_by(inner, folder)


def place_order(server: JobServer, order: Order, command: str) -> tuple[str, str]:
    """Submit, unless it was submitted before; return the job's name, and a line that tells which of the two.

    Raises
    ------
    AlreadySubmittedError
        If it was submitted before and is not to be followed; the message says what became of it.
    ClusterError
        As the server raises.
    """
    name, before = next_try(server, order.name, again=order.again)
    if before is None:
        try:
            order.parcel.send(server, name, command, {"boldstream.job": order.job})
        except AlreadySubmittedError:
            before = server.job(name)  # another submitter was quicker, in this moment
    if before is None:
        return name, f"{name} is submitted to {server.address}: {command}"
    told = f"{name} was submitted before and {before.fate()}"
    if not order.follow:
        raise AlreadySubmittedError(f"{told}; {_advice(order, before)}")
    return name, f"{told}; this is its log"


def _advice(order: Order, before: Job) -> str:
    if not before.over:
        return "--follow follows it"
    if before.state == "SUCCEEDED":
        return "--follow shows its log, --date now submits it once more"
    return "--again tries once more" if not order.again else "--date now submits it once more"
