"""All checks at once: each in a thread, with its time, and none of them able to hang or break the rest."""

from __future__ import annotations

import os
import re
import threading
import time
from contextlib import closing
from importlib import import_module
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, ConfigDict, Field, computed_field

from pipelines.doctor import (
    CHECKS,
    OF_THIS_MACHINE,
    SECONDS,
    USUAL_SECONDS,
    Check,
    Finding,
    Patient,
    Status,
    failed,
)
from schemas.errors import JobError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import RenderableType

PARTING_SECONDS = 10.0
"""For what is late, or interrupted, to take its probe object out of the store again."""
MASK = "***"
USERINFO = re.compile(r"(?<=://)[^/\s?#'\"]*@")
SECRET_NAME = re.compile(r"SECRET|TOKEN|PASSW|CREDENTIAL|API_?KEY|ACCESS_KEY", re.I)
SECRET_LENGTH = 6
"""Shorter ones would be found inside words that are no secret."""
STYLES = {Status.OK: "green", Status.WARNING: "yellow", Status.FAILED: "bold red"}


class Diagnosis(BaseModel):
    """All that was found."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    findings: tuple[Finding, ...]
    seconds: float = Field(description="Wall seconds that it took.")

    @computed_field(description="Whether nothing was found that would stop a run.")  # type: ignore[prop-decorator]
    @property
    def healthy(self) -> bool:
        """Whether nothing was found that would stop a run."""
        return not self.of(Status.FAILED)

    @property
    def exit_code(self) -> int:
        """0 if healthy, warnings or not, else 1."""
        return 0 if self.healthy else 1

    def of(self, status: Status) -> list[Finding]:
        """The findings of one status."""
        return [finding for finding in self.findings if finding.status is status]

    def table(self) -> RenderableType:
        """As a terminal shows it."""
        from rich import box
        from rich.table import Table
        from rich.text import Text

        rows = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for column in ("check", "status"):
            rows.add_column(column, no_wrap=True)
        rows.add_column("what", overflow="fold", ratio=1)
        rows.add_column("is so, and what to do", overflow="fold", ratio=3)
        last = ""
        for finding in self.findings:
            told = finding.told + (f"\n-> {finding.todo}" if finding.todo else "")
            name, last = finding.check if finding.check != last else "", finding.check
            status = Text(finding.status.value, STYLES[finding.status])
            # Text, for an address may hold what rich would take for a style.
            rows.add_row(name, status, Text(finding.subject), Text(told))
        return rows

    @property
    def verdict(self) -> str:
        """The last line."""
        count, warnings = len(self.of(Status.FAILED)), len(self.of(Status.WARNING))
        said = f"{count} to mend before a run" if count else "nothing that would stop a run"
        return f"{said}, {warnings} {'warning' if warnings == 1 else 'warnings'}; {self.seconds:.1f} s"


def examine(patient: Patient, names: Iterable[str] = CHECKS) -> Diagnosis:
    """Run the checks, side by side.

    Args:
        patient: what is to be well.
        names: of the checks, as in `CHECKS`.

    Raises:
        JobError: there is no such check.
    """
    began = time.monotonic()
    names = list(names)
    if unknown := [name for name in names if name not in CHECKS]:
        raise JobError(f"--check {unknown[0]!r}: one of {', '.join(CHECKS)}", key="check")
    masks = secrets(patient)
    visits = [
        _Visit(name, _function(name), SECONDS.get(name, USUAL_SECONDS)) for name in CHECKS if name in names
    ]
    try:
        for visit in visits:
            visit.begin(patient)
        for visit in visits:
            visit.wait(began + visit.seconds)
    finally:
        late = [visit for visit in visits if visit.is_late]
        for visit in late:
            visit.leaving.set()
        parting = time.monotonic() + PARTING_SECONDS
        for visit in late:
            visit.wait(parting)
    elsewhere = patient.address is not None
    findings = tuple(
        _masked(_elsewhere(finding) if elsewhere else finding, masks)
        for visit in visits
        for finding in visit.told()
    )
    return Diagnosis(findings=findings, seconds=round(time.monotonic() - began, 2))


class _Visit:
    """One check at work. A daemon: what hangs for good must not keep the command from ending."""

    def __init__(self, name: str, check: Check, seconds: float) -> None:
        self.name, self.seconds = name, seconds
        self.leaving = threading.Event()
        self._check = check
        self._found: list[Finding] = []
        self._ended = threading.Event()
        self._late = False

    def begin(self, patient: Patient) -> None:
        threading.Thread(target=self._work, args=(patient,), name=f"check {self.name}", daemon=True).start()

    def wait(self, until: float) -> None:
        self._ended.wait(max(0.0, until - time.monotonic()))
        self._late = self._late or not self._ended.is_set()

    @property
    def is_late(self) -> bool:
        return not self._ended.is_set()

    def told(self) -> list[Finding]:
        found = list(self._found)
        if self._late:
            told = f"no answer within {self.seconds:g} s"
            found.append(failed(self.name, told, "look at what it asks for; the other lines may say why"))
        return [finding.model_copy(update={"check": self.name}) for finding in found]

    def _work(self, patient: Patient) -> None:
        try:
            with closing(self._check(patient)) as findings:
                for finding in findings:
                    self._found.append(finding)
                    if self.leaving.is_set():
                        return
        except Exception as error:
            # A defect of a check is a line like the others, which it must not take down.
            told = f"the check itself broke: {type(error).__name__}: {error}"
            self._found.append(failed(self.name, told, "please report it; the other lines hold"))
        finally:
            self._ended.set()


def _elsewhere(finding: Finding) -> Finding:
    """What a lack on this machine is to a run on a cluster."""
    if finding.status is not Status.FAILED or finding.check not in OF_THIS_MACHINE:
        return finding
    told = f"{finding.told} (on this machine; the run goes to a cluster)"
    return finding.model_copy(update={"status": Status.WARNING, "told": told})


def _function(name: str) -> Check:
    module, _, function = CHECKS[name].partition(":")
    check: Check = getattr(import_module(module), function)
    return check


def secrets(patient: Patient) -> list[str]:
    """What must be in no line, the longest first: credentials of the environment, addresses and the job."""
    options = patient.job.storage
    values = {value for name, value in os.environ.items() if SECRET_NAME.search(name)}
    values |= {password.get_secret_value() for password in patient.job.expand.passwords}
    for address in (*os.environ.values(), options.endpoint_url, patient.address):
        values |= _passwords(address or "")
    return sorted((value for value in values if len(value) >= SECRET_LENGTH), key=len, reverse=True)


def _passwords(address: str) -> set[str]:
    """User and password that an address carries, as they are written and as they are meant."""
    if "://" not in address or "@" not in address:
        return set()
    try:
        userinfo = urlsplit(address).netloc.rpartition("@")[0]
    except ValueError:  # no address after all
        return set()
    parts = {userinfo, *userinfo.partition(":")[::2]}
    return parts | {unquote(part) for part in parts}


def _masked(finding: Finding, masks: list[str]) -> Finding:
    return finding.model_copy(
        update={name: mask(getattr(finding, name), masks) for name in ("subject", "told", "todo")}
    )


def mask(text: str, masks: list[str]) -> str:
    """The text without these, and without what an address in it carries before its host."""
    for secret in masks:
        text = text.replace(secret, MASK)
    return USERINFO.sub(f"{MASK}@", text)
