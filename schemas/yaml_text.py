"""YAML as people write it by hand, in which a key that comes twice is a mistake."""

from __future__ import annotations

from typing import Any

import yaml

MERGE = "tag:yaml.org,2002:merge"


class _Once(yaml.SafeLoader):
    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Here and not where values are made: a merge (`<<`) has doubles of its own by then."""
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != MERGE:
                if key.value in seen:
                    raise yaml.MarkedYAMLError(None, None, f"{key.value!r} is there twice", key.start_mark)
                seen.add(key.value)
        return node


def read_yaml(text: str) -> Any:
    """Values; of a key that comes twice YAML itself would keep the last.

    Raises:
        yaml.YAMLError: no YAML, or a key twice.
        ValueError: a date that there is not.
    """
    return yaml.load(text, _Once)
