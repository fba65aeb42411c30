"""This machine's clock beside the store's, which is on every answer of its (Date)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.doctor import failed, ok, warning
from pipelines.doctor.storage import quick
from pipelines.lease import TTL_SECONDS
from schemas.errors import GemstreamError
from workers.storage.factory import normalise, scheme

if TYPE_CHECKING:
    from pipelines.doctor import Findings, Patient

LEASE_SECONDS = TTL_SECONDS / 3
"""By which clocks may differ for the lease of an output to keep a second run away in time."""
SIGNED_SECONDS = 15 * 60
"""By which S3 lets the time of a signature differ."""


def clock(patient: Patient) -> Findings:
    """How far it is off."""
    from workers.storage.s3_probe import clock_ahead

    stores = [uri for uri in (patient.output, *patient.sources) if uri and scheme(uri) == "s3"]
    if not stores:
        yield ok("clock", "nothing to hold it against: no store was named")
        return
    try:
        ahead = clock_ahead(normalise(stores[0]), quick(patient.job.storage))
    except GemstreamError:
        yield warning("clock", "the store did not answer, so nobody says what time it is", "see storage")
        return
    if ahead is None:
        yield ok("clock", "the store does not say what time it is")
        return
    off = abs(ahead)
    told = f"it is {off:.0f} s {'ahead of' if ahead > 0 else 'behind'} the store's"
    todo = "set it, and keep it set: chronyc makestep, or timedatectl set-ntp true, here and on every machine"
    if off >= SIGNED_SECONDS:
        yield failed("clock", f"{told}; S3 refuses requests from {SIGNED_SECONDS // 60} minutes on", todo)
    elif off >= TTL_SECONDS:
        told = f"{told}; a lease lasts {TTL_SECONDS:.0f} s, so another run may take the output from this one"
        yield failed("clock", told, todo)
    elif off > LEASE_SECONDS:
        told = f"{told}; beyond {LEASE_SECONDS:.0f} s two runs are not kept from one output in time"
        yield warning("clock", told, todo)
    else:
        yield ok("clock", f"{told}; up to {LEASE_SECONDS:.0f} s is fine")
