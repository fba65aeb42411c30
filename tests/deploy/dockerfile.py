"""deploy/Dockerfile and .dockerignore, read as far as the tests look at them."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pathspec

from tests.conftest import ROOT

DOCKERFILE = ROOT / "deploy" / "Dockerfile"


@dataclass
class Stage:
    """One stage: what it is made from, and its instructions in order."""

    name: str
    base: str
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def of(self, keyword: str) -> list[str]:
        """The arguments of its instructions of a kind."""
        return [text for word, text in self.instructions if word == keyword]

    @property
    def commands(self) -> list[str]:
        """What its RUN instructions run, without Docker's own flags."""
        return [re.sub(r"^(--\S+\s+)+", "", text) for text in self.of("RUN")]


def _lines(text: str) -> Iterator[str]:
    whole = re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE)
    yield from (line.strip() for line in re.sub(r"\\\n\s*", "", whole).splitlines() if line.strip())


def read_stages() -> tuple[dict[str, str], dict[str, Stage]]:
    """The arguments before the first stage, and the stages by name."""
    arguments: dict[str, str] = {}
    stages: dict[str, Stage] = {}
    for line in _lines(DOCKERFILE.read_text()):
        keyword, text = line.split(maxsplit=1)
        if keyword == "FROM":
            base, name = text.split(" AS ")
            stage = stages[name] = Stage(name, base)
        elif not stages:
            key, _, value = text.partition("=")
            arguments[key] = value
        else:
            stage.instructions.append((keyword, text))
    return arguments, stages


def lineage(stages: dict[str, Stage], name: str) -> list[Stage]:
    """A stage and those that it is made from, the first one first."""
    stage = stages.get(name)
    return [] if stage is None else [*lineage(stages, stage.base), stage]


def lay_out(line: list[Stage], root: Path) -> Path:
    """What the COPY instructions of a stage, and of those that it is made from, bring from a checkout.

    Args:
        line: the stages, the first one first.
        root: stands for the image's root.

    Returns:
        The folder that commands run in.
    """
    here, seen = root, context()
    for keyword, text in (instruction for stage in line for instruction in stage.instructions):
        if keyword == "WORKDIR":
            here = root / text.lstrip("/")
        if keyword != "COPY" or text.startswith("--from"):
            continue
        *sources, target = text.split()
        place = root / target.lstrip("/") if target.startswith("/") else here / target
        for source in sources:
            below = [path for path in seen if path == source or path.startswith(f"{source}/")]
            assert below, f"COPY {source}: a build does not see it"
            for path in below:
                # A folder's content is copied, and a file into what is, or ends as, a folder.
                inner = Path(path).relative_to(source) if path != source else Path(Path(source).name)
                (place / inner).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(ROOT / path, place / inner)
    return here


def packages(stage: Stage) -> set[str]:
    """Debian's packages that a stage installs."""
    found = re.findall(r"apt-get install ((?:--\S+ )*)([^&]+)", " ".join(stage.commands))
    return {name for _, names in found for name in names.split()}


def in_context(paths: list[str], text: str) -> set[str]:
    """Those of the paths that a build may see, by a .dockerignore.

    Docker's patterns are git's but for two things: each is rooted, and what lies in a folder that is left out
    may be taken back. So each is given its root and said of what lies below as well, and the last one that
    matches decides.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    rooted = [re.sub(r"^(!?)/?", r"\1/", line) for line in lines]
    patterns = [pattern for line in rooted for pattern in (line, f"{line}/**")]
    return set(paths) - set(pathspec.PathSpec.from_lines("gitignore", patterns).match_files(paths))


def context(root: Path = ROOT) -> set[str]:
    """The files of a checkout that a build may see."""
    skipped = {".git", ".venv"}
    walked = [
        str(path.relative_to(root))
        for top in root.iterdir()
        if top.name not in skipped
        for path in ([top] if top.is_file() else top.rglob("*"))
        if path.is_file()
    ]
    return in_context(walked, (root / ".dockerignore").read_text())
