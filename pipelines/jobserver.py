"""The job server of a Ray cluster, as its own client reaches it, with a timeout on every request and errors
that say what to do next."""

from __future__ import annotations

import json
import logging
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import requests
from ray.dashboard.modules.job.common import JobStatus
from ray.exceptions import AuthenticationError
from ray.job_submission import JobDetails, JobSubmissionClient
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from schemas.errors import ClusterUnavailable, JobError

if TYPE_CHECKING:
    from collections.abc import Iterator

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 30.0
"""A head under load was seen to take 4 s for what it does in 20 ms."""
OUTAGE_SECONDS = 60.0
"""For how long one that has answered before may be away: a head's restart, a port that is forwarded anew."""
SIGNALLED = 128
"""What a shell adds to the number of the signal that ended a process."""
EXIT_STOPPED = 5
"""Of a job that was stopped, of which Ray keeps no exit code: what the run itself exits with then."""
TOKEN_ASKED = "authentication token"
"""In what a Ray dashboard says to a request without one, or with a wrong one."""
VARIABLES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
HINT = "http://127.0.0.1:8265 is that of a Ray head on this machine, or of a port that kubectl forwards"


class IdTaken(JobError):
    """The cluster has a submission of this id already."""


class JobServer(JobSubmissionClient):  # type: ignore[misc]
    """One cluster's job server.

    Args:
        address: of its dashboard, http or https; of RAY_API_SERVER_ADDRESS or RAY_ADDRESS if not given.

    Raises:
        JobError: no address, or one of another kind.
        ClusterUnavailable: nobody answers there, or somebody who is no Ray dashboard.
    """

    def __init__(self, address: str | None) -> None:
        self.ray_version = ""
        url = address_of(address)
        parts = urlsplit(url)
        self.place = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"  # a password is not for messages
        for chatty in ("ray.dashboard.modules.dashboard_sdk", "ray._private.runtime_env.packaging"):
            logging.getLogger(chatty).setLevel(logging.WARNING)
        with _unset(VARIABLES):  # which the client would take rather than what it is given
            super().__init__(url, headers=_headers())

    def patient(self, seconds: float = OUTAGE_SECONDS) -> Retrying:
        """Tries a call for so long while the server is away."""
        return Retrying(
            retry=retry_if_exception_type(ClusterUnavailable),
            stop=stop_after_delay(seconds),
            wait=wait_fixed(1),
            reraise=True,
        )

    def details(self, submission: str) -> JobDetails:
        """What the cluster knows of a submission.

        Raises:
            JobError: nothing.
            ClusterUnavailable: it does not answer.
        """
        return self.get_job_info(quote(submission, safe=""))

    def _check_connection_and_version(self, *args: Any, **kwargs: Any) -> None:
        # The client's own takes any answer for one of Ray's, and asks again for each feature.
        if self.ray_version:
            return
        answer = self._do_request("GET", "/api/version")
        try:
            self.ray_version = self._server_ray_version = str(answer.json()["ray_version"])
        except (ValueError, KeyError, TypeError) as error:
            raise ClusterUnavailable(
                f"{self.place} answers, but is no Ray dashboard (status {answer.status_code} to "
                f"/api/version); look at the port: {HINT}"
            ) from error

    def _do_request(self, method: str, endpoint: str, **kwargs: Any) -> requests.Response:
        try:
            return super()._do_request(method, endpoint, timeout=(CONNECT_SECONDS, ANSWER_SECONDS), **kwargs)
        except requests.exceptions.ConnectTimeout as error:
            raise ClusterUnavailable(
                f"{self.place} takes no connection within {CONNECT_SECONDS:g} s; is it reached from here, "
                "or only from inside the cluster?"
            ) from error
        except requests.exceptions.Timeout as error:
            raise ClusterUnavailable(
                f"{self.place} took the connection and has said nothing for {ANSWER_SECONDS:g} s; is that "
                "the port of the dashboard (8265)?"
            ) from error
        except requests.exceptions.RequestException as error:
            raise ClusterUnavailable(
                f"{self.place} cannot be reached ({_reason(error)}); is the head up, and its port 8265 open "
                f"or forwarded? {HINT}"
            ) from error
        except AuthenticationError as error:
            if TOKEN_ASKED not in str(error).partition("\n\n")[0]:
                raise ClusterUnavailable(
                    f"{self.place} lets nobody in, and not as a Ray dashboard does; look at the port "
                    f"({HINT}), or name what a proxy before it asks for in RAY_JOB_HEADERS"
                ) from error
            raise JobError(
                f"{self.place} asks for a token and got none that it knows: set RAY_AUTH_MODE=token, and "
                "RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH if it is not in ~/.ray/auth_token",
                key="address",
            ) from error

    def _raise_error(self, r: requests.Response) -> None:
        text = r.text.strip()
        if r.status_code == requests.codes.not_found:
            raise JobError(
                f"{self.place} knows no such submission; `gemstream status --address {self.place}` lists "
                "those that it knows. A head that is restarted forgets them; outputs keep what was done",
                key="submission",
            )
        if "already exists" in text:
            raise IdTaken(text.splitlines()[-1], key="submission")
        raise ClusterUnavailable(
            f"{self.place} failed with status {r.status_code}: {(text.splitlines() or [''])[-1][:300]}"
        )


def exit_code(details: JobDetails) -> int | None:
    """What a submission ended with, as `gemstream run` would have; None while it goes on."""
    if not details.status.is_terminal():
        return None
    if details.driver_exit_code is not None:
        code: int = details.driver_exit_code
        return code if code >= 0 else SIGNALLED - code
    if details.status == JobStatus.SUCCEEDED:
        return 0
    return EXIT_STOPPED if details.status == JobStatus.STOPPED else 1


def address_of(address: str | None) -> str:
    """The dashboard's address that is meant.

    Raises:
        JobError: none is named, or one of another of Ray's protocols.
    """
    variable = next((name for name in VARIABLES if os.environ.get(name)), None)
    said = f"--address {address}" if address else f"{variable}={os.environ.get(variable or '')}"
    url = address or (os.environ[variable] if variable else "")
    if not url:
        raise JobError(f"which cluster? --address URL, or {VARIABLES[0]}: {HINT}", key="address")
    try:
        parts = urlsplit(url)
        holds = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        holds = False
    if not holds:
        raise JobError(
            f"{said} is not the http:// address of a dashboard, whose port is 8265 unless changed: {HINT}",
            key="address",
        )
    return url.rstrip("/")


def _headers() -> dict[str, Any] | None:
    """RAY_JOB_HEADERS, as Ray's own command has it."""
    said = os.environ.get("RAY_JOB_HEADERS")
    if not said:
        return None
    try:
        headers: dict[str, Any] = json.loads(said)
    except ValueError as error:
        raise JobError("RAY_JOB_HEADERS is no JSON object", key="address") from error
    return headers


def _reason(error: BaseException) -> str:
    """The system's own words, out of what two libraries wrap around them."""
    while True:
        inner = getattr(error, "reason", None) or next(
            (part for part in error.args if isinstance(part, BaseException)), None
        )
        if not isinstance(inner, BaseException):
            return str(error).rpartition(": ")[2].rstrip(")'\"")
        error = inner


@contextmanager
def _unset(names: tuple[str, ...]) -> Iterator[None]:
    kept = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(kept)
