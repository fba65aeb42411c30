"""The little of Kustomize that `pipelines/k8s` is written in, so that it is rendered without kubectl.

A test holds what this makes of every overlay against what `kubectl kustomize` makes of it. A kustomization
that asks for anything else is refused rather than read in part.
"""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from schemas.errors import GemstreamError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    Resource = dict[str, Any]

TREE = Path(__file__).resolve().parents[1] / "k8s"
"""The sources. They lie within the package, so a wheel has them; `deploy/k8s` leads here."""
_HEAD = {"apiVersion", "kind"}
_IMAGE = re.compile(r"(?P<name>[^@]*?[^@:/]+)(?::[^@:/]+)?(?:@.+)?")


def build(*folders: str) -> list[Resource]:
    """What the overlay makes, with components on top of it.

    Args:
        *folders: below `TREE`; the first is an overlay, the others are components.

    Raises:
        GemstreamError: the tree asks for what this cannot do.
    """
    made: list[Resource] = []
    for folder in folders:
        made = _kustomize(TREE / folder, made)
    return made


def _kustomize(folder: Path, made: list[Resource]) -> list[Resource]:
    asked: dict[str, Any] = yaml.safe_load((folder / "kustomization.yaml").read_text())
    unknown = asked.keys() - _HEAD - STEPS.keys()
    if unknown:
        raise GemstreamError(f"{folder}: {sorted(unknown)[0]} of Kustomize is not done here")
    # In Kustomize's own order, whatever theirs is in the file.
    for step, work in STEPS.items():
        if step in asked:
            made = work(folder, made, asked[step])
    return made


def _resources(folder: Path, made: list[Resource], paths: list[str]) -> list[Resource]:
    found = list(made)
    for path in paths:
        source = (folder / path).resolve()
        if source.is_dir():
            found += _kustomize(source, [])
        else:
            # What an anchor shares is several things from here on, which a patch changes one by one.
            found += [json.loads(json.dumps(one)) for one in yaml.safe_load_all(source.read_text()) if one]
    return found


def _config_maps(folder: Path, made: list[Resource], maps: list[Resource]) -> list[Resource]:
    for one in maps:
        texts = {path: (folder / path).read_text() for path in one["files"]}
        new = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": one["name"]}, "data": texts}
        if one.get("behavior") == "replace":
            made = [other for other in made if (other["kind"], _name(other)) != ("ConfigMap", one["name"])]
        made = [*made, new]
    return made


def _components(folder: Path, made: list[Resource], paths: list[str]) -> list[Resource]:
    for path in paths:
        made = _kustomize((folder / path).resolve(), made)
    return made


def _patches(folder: Path, made: list[Resource], patches: list[Resource]) -> list[Resource]:
    for patch in patches:
        text = (folder / patch["path"]).read_text() if "path" in patch else patch["patch"]
        operations = yaml.safe_load(text)
        if not isinstance(operations, list):
            raise GemstreamError(f"{folder}: of patches only those by JSON pointer are done here")
        target = patch["target"]
        for one in made:
            if (one["kind"], _name(one)) == (target["kind"], target["name"]):
                apply(one, operations)
    return made


def _namespace(folder: Path, made: list[Resource], namespace: str) -> list[Resource]:
    for one in made:
        one["metadata"]["namespace"] = namespace
        for subject in one.get("subjects", ()):
            subject["namespace"] = namespace
    return made


def _images(folder: Path, made: list[Resource], images: list[Resource]) -> list[Resource]:
    for image in images:
        new = str(image.get("newName") or image["name"])
        if "newTag" in image:
            new += f":{image['newTag']}"
        if "digest" in image:
            new += f"@{image['digest']}"
        for container in (container for one in made for container in containers(one)):
            named = _IMAGE.fullmatch(container["image"])
            if named and named["name"] == image["name"]:
                container["image"] = new
    return made


def _options(folder: Path, made: list[Resource], options: Mapping[str, Any]) -> list[Resource]:
    if options != {"disableNameSuffixHash": True}:
        raise GemstreamError(f"{folder}: names without a hash are the only generatorOptions done here")
    return made


STEPS: dict[str, Callable[[Path, list[Any], Any], list[Any]]] = {
    "resources": _resources,
    "generatorOptions": _options,
    "configMapGenerator": _config_maps,
    "components": _components,
    "patches": _patches,
    "namespace": _namespace,
    "images": _images,
}


def apply(resource: Resource, operations: list[dict[str, Any]]) -> None:
    """Add, replace and remove by JSON pointer (RFC 6902), in place.

    Raises:
        GemstreamError: a pointer leads nowhere, or another operation.
    """
    for operation in operations:
        *steps, last = (
            step.replace("~1", "/").replace("~0", "~") for step in operation["path"].split("/")[1:]
        )
        at: Any = resource
        try:
            for step in steps:
                at = at[int(step)] if isinstance(at, list) else at[step]
            _change(at, last, operation["op"], operation.get("value"))
        except (KeyError, IndexError, ValueError) as error:
            raise GemstreamError(f"a patch leads nowhere: {operation['op']} {operation['path']}") from error


def _change(at: Any, last: str, change: str, value: Any) -> None:
    key: Any = last if isinstance(at, dict) else len(at) if last == "-" else int(last)
    if change not in ("add", "replace", "remove"):
        raise ValueError(change)
    if change != "add":
        at[key]  # it has to be there
    if change == "remove":
        del at[key]
    elif isinstance(at, list) and change == "add":
        at.insert(key, copy.deepcopy(value))
    else:
        at[key] = copy.deepcopy(value)


def containers(node: Any) -> Iterator[dict[str, Any]]:
    """The containers within a manifest, wherever they are."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key in ("containers", "initContainers"):
                yield from value
            else:
                yield from containers(value)
    elif isinstance(node, list):
        for value in node:
            yield from containers(value)


def _name(resource: Resource) -> str:
    return str(resource["metadata"]["name"])
