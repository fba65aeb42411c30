"""What a run does once everything is written: say what became of each document, sweep, assemble.

It does so share by share of its documents, so that the driver's memory does not grow with the output.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pyarrow as pa

from pipelines.assemble import assemble
from pipelines.audit import Audit, audit
from pipelines.feed import close_list
from pipelines.holdings import read_holdings, settled_down, slices
from pipelines.sweep import sweep

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipelines.plan import Plan


def settle(plan: Plan, listed: pa.Table, check: Callable[[], None]) -> Audit:
    """Settle all that a run listed. Runs on the connected Ray.

    Args:
        plan: the run.
        listed: its list: document_id, version, uri, skipped.
        check: raises if this run may not write any more; called before anything is taken out or replaced.

    Raises:
        LeaseLost: another run may write to the output now.
        GemstreamError: the output cannot be read or written; the next run makes up for it.
    """
    found = [settled_down()(_settle, *share, check) for share in slices(plan, listed)]
    close_list(plan)
    return Audit(
        counts=sum((share.counts for share in found), Counter()),
        settled=pa.concat_tables([share.settled for share in found]),
        missing=tuple(sorted(uri for share in found for uri in share.missing)),
    )


def _settle(plan: Plan, listed: pa.Table, check: Callable[[], None]) -> Audit:
    holdings = read_holdings(plan)
    found = audit(plan, holdings, listed)
    if sweep(plan, holdings, listed, found.settled["document_id"].combine_chunks(), check):
        holdings = read_holdings(plan)
    assemble(plan, holdings, listed, found.settled, check)
    return found
