"""The job server of a Ray cluster: ask it, submit to it, stop what runs there."""

import datetime
import json
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from boldstream.errors import AlreadySubmittedError, ClusterError, ConfigError, first_line
from boldstream.remote.answer import Answer, ask
from boldstream.remote.token import PLACES, Token, find_token

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

ADDRESS_VARIABLES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
EXAMPLE = "http://head:8265"
ANSWER_S = 10.0
SILENCE_S = 60.0
"""A request without one byte of an answer for so long is given up; Ray's client would wait for ever."""
STOPPED_STATUS = 130
"""Of a job that was stopped, as of a command that Ctrl-C ended."""

T = TypeVar("T")


@dataclass(frozen=True)
class Job:
    """A submitted job, as its cluster tells of it.

    Attributes
    ----------
    name : str
        Submission id.
    state : str
        PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED.
    code : int or None
        Exit status of its command, where it ended by itself.
    message : str
        What Ray has to say.
    """

    name: str
    state: str
    code: int | None
    started: datetime.datetime | None
    ended: datetime.datetime | None
    command: str
    message: str

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.state in ("SUCCEEDED", "FAILED", "STOPPED")

    @property
    def status(self) -> int:
        """The exit status to pass on: its command's; 130 if it was stopped; 1 if the command never began.

        A command that signal n ended has 128 + n, as shells have it.
        """
        if self.state == "STOPPED":
            return STOPPED_STATUS
        if self.code is None:
            return int(self.state != "SUCCEEDED")
        return self.code if self.code >= 0 else 128 - self.code

    def fate(self) -> str:
        """Return what became of it, in a few words."""
        if not self.over:
            state = "is running" if self.state == "RUNNING" else "waits to be started"
            return f"{state} since {_said(self.started)}"
        how = {"SUCCEEDED": "succeeded", "STOPPED": "was stopped", "FAILED": f"failed with exit status {self.status}"}
        return f"{how[self.state]} at {_said(self.ended)}"


def _said(moment: datetime.datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC" if moment else "an unknown time"


def choose_address(address: str | None) -> str:
    """Return the job server's address: the one that is named, else the environment's.

    Raises
    ------
    ConfigError
        If there is none, or it is no HTTP address.
    """
    found = address or next(filter(None, map(os.environ.get, ADDRESS_VARIABLES)), None)
    if not found:
        raise ConfigError(f"no cluster is named: give --address {EXAMPLE}, or set {ADDRESS_VARIABLES[0]}")
    if not found.startswith(("http://", "https://")):
        raise ConfigError(f"{found!r} is no address of a job server; it is the dashboard's, such as {EXAMPLE}")
    return found.rstrip("/")


def greet(address: str, token: Token | None, timeout_s: float = ANSWER_S) -> tuple[str, Answer]:
    """Return the cluster's Ray version, once it has answered and taken the token.

    Raises
    ------
    ClusterError
        If nobody answers, what answers is no Ray cluster, or it does not take the token.
    """
    try:
        answer = ask(f"{address}/api/version", timeout_s, token.headers if token else None)
    except OSError as error:
        port = address.rpartition(":")[2]
        raise ClusterError(
            f"no Ray cluster answers at {address} ({error}); is its head running, and can this machine reach it? "
            f"Through a login node: ssh -L {port}:localhost:{port} HEAD, then --address http://localhost:{port}"
        ) from None
    if answer.status == 401:
        raise ClusterError(f"the cluster at {address} wants a token and none was found (looked into {PLACES})")
    if answer.status == 403 and token:
        raise ClusterError(f"the cluster at {address} refuses the token of {token.place}; it is another cluster's")
    try:
        return str(json.loads(answer.text)["ray_version"]), answer
    except (ValueError, KeyError, TypeError):
        raise ClusterError(
            f"what answers at {address} is no Ray dashboard (HTTP status {answer.status}); its port is 8265 usually"
        ) from None


class JobServer:
    """The job server at an address.

    Parameters
    ----------
    address : str
        As `choose_address` gives it.

    Raises
    ------
    ClusterError
        As `greet` does.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.token = find_token()
        self.ray_version, self.answer = greet(address, self.token)
        self.client = self._open()

    def _open(self) -> "JobSubmissionClient":
        # Ray lets these variables win over the address that it is told
        os.environ[ADDRESS_VARIABLES[0]] = self.address
        from ray.job_submission import JobSubmissionClient

        for name in ("modules.dashboard_sdk", "modules.job.sdk"):
            logging.getLogger(f"ray.dashboard.{name}").setLevel(logging.WARNING)
        logging.getLogger("ray._private.runtime_env.packaging").setLevel(logging.WARNING)

        class PatientClient(JobSubmissionClient):
            def _do_request(self, *words: Any, **kwargs: Any) -> Any:
                return super()._do_request(*words, timeout=SILENCE_S, **kwargs)

        return self._asked(PatientClient, self.address, headers=self.token.headers if self.token else None)

    def _asked(self, call: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Call the client; what Ray raises becomes one line."""
        try:
            return call(*args, **kwargs)
        except OSError as error:
            raise ClusterError(
                f"the cluster at {self.address} does not answer any more ({first_line(error)})"
            ) from None
        except RuntimeError as error:
            told = [line for line in str(error).splitlines() if line.strip(" .")]
            raise ClusterError(f"the cluster at {self.address} refuses: {told[-1] if told else error}") from None

    def submit(self, name: str, command: str, environment: Mapping[str, Any], metadata: Mapping[str, str]) -> None:
        """Submit a job under a name that no other has had on this cluster.

        Raises
        ------
        AlreadySubmittedError
            If another had it, even if it came at the same moment.
        ClusterError
            If the cluster does not take it.
        """
        try:
            self._asked(
                self.client.submit_job,
                entrypoint=command,
                submission_id=name,
                runtime_env=dict(environment),
                metadata=dict(metadata),
            )
        except ClusterError as error:
            if "already exists" in str(error):
                raise AlreadySubmittedError(f"{name} was submitted before") from None
            raise

    def find(self, name: str) -> Job | None:
        """Return a job, None if the cluster knows none of that name."""
        try:
            return _job(self._asked(self.client.get_job_info, name))
        except ClusterError as error:
            if "status code 404" in str(error):
                return None
            raise

    def job(self, name: str) -> Job:
        """Return a job.

        Raises
        ------
        ClusterError
            If the cluster knows none of that name; the message says which it knows.
        """
        found = self.find(name)
        if found is None:
            known = ", ".join(job.name for job in self.jobs()[:5]) or "none"
            raise ClusterError(f"the cluster at {self.address} has no job {name!r} (newest jobs there: {known})")
        return found

    def jobs(self) -> list[Job]:
        """Return all submitted jobs that the cluster remembers, the newest first."""
        found = [_job(job) for job in self._asked(self.client.list_jobs) if job.submission_id]
        oldest = datetime.datetime.min.replace(tzinfo=datetime.UTC)
        return sorted(found, key=lambda job: job.started or oldest, reverse=True)

    def log(self, name: str) -> str:
        """Return what a job has written so far."""
        return self._asked(self.client.get_job_logs, name)

    def stop(self, name: str) -> bool:
        """Ask a job to stop; say whether it ran."""
        return self._asked(self.client.stop_job, name)


def _job(found: Any) -> Job:
    return Job(
        name=found.submission_id,
        state=str(found.status.value),
        code=found.driver_exit_code,
        started=_moment(found.start_time),
        ended=_moment(found.end_time),
        command=found.entrypoint,
        message=found.message or "",
    )


def _moment(milliseconds: int | None) -> datetime.datetime | None:
    return datetime.datetime.fromtimestamp(milliseconds / 1000, datetime.UTC) if milliseconds else None
