"""Optional libraries, by the extra that brings them."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from schemas.errors import JobError

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def needs(extra: str) -> Iterator[None]:
    """Around an import: what is missing is told by the extra that brings it.

    Raises:
        JobError: the library is not installed.
    """
    try:
        yield
    except ImportError as error:
        raise JobError(
            f"{error.name or extra} is not installed: pip install 'gemstream[{extra}]'", key=extra
        ) from error
