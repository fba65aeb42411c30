"""What the design promises of the tree itself."""

from __future__ import annotations

import inspect
import subprocess
from pathlib import Path
from typing import get_type_hints

import pytest

from schemas.errors import categories
from schemas.rows import PartKind
from schemas.tasks import TASKS, task_class
from tests.conftest import ROOT
from workers.registry import ENGINES, EXPANDERS, STORAGES, TABLES, resolve

FAMILIES = {"expander": EXPANDERS, "engine": ENGINES, "table format": TABLES, "storage": STORAGES}
LINES = 360


@pytest.mark.parametrize(
    ("what", "kind"), [(what, kind) for what, family in FAMILIES.items() for kind in family]
)
def test_every_line_of_a_registry_resolves(what: str, kind: str) -> None:
    assert inspect.isclass(resolve(FAMILIES[what], kind, what))


@pytest.mark.parametrize("kind", TASKS)
def test_every_task_asks_something_of_some_part(kind: str) -> None:
    made = task_class(kind)
    assert made.kind == kind
    assert made.parts and made.parts <= set(PartKind)
    assert get_type_hints(made.question)["return"] is str


@pytest.mark.parametrize("kind", EXPANDERS)
def test_every_expander_makes_one_kind_of_part(kind: str) -> None:
    expander = resolve(EXPANDERS, kind, "expander")
    assert expander.part_kind in set(PartKind)
    assert expander.media_types and expander.chunk > 0


NEVER_WRITTEN = set(
    "job internal answer engine_unavailable draining interrupted lease_lost cluster_lost "
    "cluster_unavailable page snapshot_gone".split()
)
"""Categories of what ends a run or never leaves it; the rest may stand in `errors/`."""


def test_the_readme_says_what_every_category_means() -> None:
    operate = (ROOT / "README.md").read_text().partition("What an error's category says.")[2]
    assert [name for name in sorted(categories() - NEVER_WRITTEN) if f"`{name}`" not in operate] == []


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [ROOT / name for name in listed.stdout.split() if (ROOT / name).is_file()]


def test_files_stay_readable() -> None:
    long = {str(path): count for path in tracked() if (count := len(path.read_text().splitlines())) > LINES}
    assert long == {}
