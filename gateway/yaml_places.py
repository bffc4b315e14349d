"""YAML that remembers where each value stands, so that an error can point at it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml


@dataclass(frozen=True)
class Place:
    """Where something begins in a file, counted from 1 as editors do."""

    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.line}:{self.column}"


@dataclass(frozen=True)
class PlacedDocument:
    """A decoded document and the nodes it was made from."""

    document: Any
    root: yaml.Node | None

    def place(self, path: Sequence[str | int], *, of_key: bool = False) -> Place | None:
        """The place of the value at ``path``, or of the deepest part of it that is there.

        With ``of_key`` the place of its key. None when the file is empty.
        """
        found = node = self.root
        for part in path:
            pair = _child(node, part)
            if pair is None:
                break
            key, node = pair
            found = key if of_key else node
        return None if found is None else _place(found)


def read_placed(text: str) -> PlacedDocument:
    """Decode one YAML document of plain types.

    Raises yaml.YAMLError, with its mark, for what is no YAML and for a key that is given twice.
    """
    loader = yaml.SafeLoader(text)
    try:
        root = loader.get_single_node()
        if root is None:
            return PlacedDocument(None, None)
        _refuse_twins(root, set())
        return PlacedDocument(loader.construct_document(root), root)
    finally:
        loader.dispose()


def _refuse_twins(node: yaml.Node, seen: set[int]) -> None:
    if id(node) in seen:  # an alias, perhaps of what it stands in
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _refuse_twins(item, seen)
    elif isinstance(node, yaml.MappingNode):
        known: dict[str, yaml.Node] = {}
        for key, value in node.value:
            name = str(key.value)
            if name in known and name != "<<":
                first = _place(known[name])
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {name} is given twice, first at {first}", key.start_mark
                )
            known[name] = key
            _refuse_twins(value, seen)


def _child(node: yaml.Node | None, part: str | int) -> tuple[yaml.Node, yaml.Node] | None:
    """Key and value at ``part``; an item of a list is its own key."""
    if isinstance(node, yaml.MappingNode):
        # What is merged in by << stands first and yields to what the mapping says itself.
        return next(
            ((key, value) for key, value in reversed(node.value) if key.value == str(part)), None
        )
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part], node.value[part]
    return None


def _place(node: yaml.Node) -> Place:
    return Place(node.start_mark.line + 1, node.start_mark.column + 1)
