"""What is written down of settings that are free text: without what looks like a secret."""

from __future__ import annotations

import re
from typing import Any

MASK = "**********"
"""As pydantic writes a SecretStr."""
_NAMED = re.compile(
    r"(token|(api|access|account|sas|secret|private)[_.-]?key|secret|password|passwd|pwd|passphrase|credential"
    r"|authorization|signature|\bsig|cookie|connection[_.-]?string)s?$",
    re.IGNORECASE,
)
_USER_INFO = re.compile(r"(?<=://)[^/\s]+@")
"""Up to the last @: one may stand in a password."""
_QUERY = re.compile(r"(?<=[?&])([^=&#\s]+)=([^&#\s]+)")
"""A setting in an address, as drivers of databases take passwords, and signed addresses their signature."""
_HEADER = re.compile(r"\b(authorization:\s*\w+)\s+[^\s'\"]+", re.IGNORECASE)
"""A header as one string."""


def masked(value: Any, name: str = "") -> Any:
    """JSON values with the mask in place of strings whose name says that they are secret, such as vLLM's
    `hf_token`, and of names and passwords in addresses."""
    if isinstance(value, dict):
        return {key: masked(inner, str(key)) for key, inner in value.items()}
    if isinstance(value, list):
        return [masked(inner, name) for inner in value]
    if isinstance(value, str):
        if _NAMED.search(name):
            return MASK
        return _HEADER.sub(rf"\1 {MASK}", _QUERY.sub(_setting, _USER_INFO.sub(f"{MASK}@", value)))
    return value


def _setting(found: re.Match[str]) -> str:
    return f"{found[1]}={MASK}" if _NAMED.search(found[1]) else found[0]
