"""Trees by path: names, selection by regular expression, readable differences."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

Tree = Any


class TreeError(ValueError):
    """Paths or patterns do not fit a tree; the message names them."""


def flat_paths(tree: Tree) -> dict[str, Any]:
    """Leaves by "/"-joined path, in tree order."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {path_name(path): leaf for path, leaf in leaves}


def path_name(path) -> str:
    """A JAX key path as "a/b/0"."""
    return "/".join(str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", key)))) for key in path)


def map_with_path(function, tree: Tree, *rest: Tree) -> Tree:
    """`jax.tree.map` whose function gets the "/"-joined path first."""
    return jax.tree_util.tree_map_with_path(
        lambda path, *leaves: function(path_name(path), *leaves), tree, *rest
    )


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Nested dicts from "/"-joined paths; inverse of `flat_paths` for trees of dicts.

    Raises:
      TreeError: a path is the beginning of another one.
    """
    tree: dict[str, Any] = {}
    branches = {path[:end] for path in flat for end, letter in enumerate(path) if letter == "/"}
    for path, leaf in flat.items():
        if path in branches:
            raise TreeError(f"{path!r} is a leaf and the beginning of another path")
        *parents, name = path.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[name] = leaf
    return tree


def matches(path: str, patterns: Sequence[str]) -> bool:
    """Whether any pattern is found in the path (`re.search`)."""
    return any(re.search(pattern, path) for pattern in patterns)


def partition(tree: Tree, patterns: Sequence[str]) -> tuple[dict, dict]:
    """Splits a tree of dicts into (leaves that match no pattern, leaves that match one).

    Raises:
      TreeError: a pattern that matches no leaf (a typo would freeze nothing).
    """
    flat = flat_paths(tree)
    for pattern in patterns:
        if not any(re.search(pattern, path) for path in flat):
            raise TreeError(f"pattern {pattern!r} matches no parameter; first paths: {list(flat)[:8]}")
    rest = {path: leaf for path, leaf in flat.items() if not matches(path, patterns)}
    chosen = {path: leaf for path, leaf in flat.items() if matches(path, patterns)}
    return nested(rest), nested(chosen)


def merged(*trees: Mapping[str, Any]) -> dict[str, Any]:
    """Union of trees of dicts; inverse of `partition`. A path in two of them is an error."""
    flat: dict[str, Any] = {}
    for tree in trees:
        for path, leaf in flat_paths(tree).items():
            if path in flat:
                raise TreeError(f"parameter {path!r} stands in two trees")
            flat[path] = leaf
    return nested(flat)


def num_elements(tree: Tree) -> int:
    """Number of array elements in a tree."""
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))


def num_bytes(tree: Tree) -> int:
    """Bytes of the arrays in a tree."""
    return sum(int(np.prod(leaf.shape)) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def structure_difference(expected: Tree, found: Tree) -> list[str]:
    """One readable line for each path whose presence, shape or dtype differs; [] if alike."""
    expected_flat, found_flat = flat_paths(expected), flat_paths(found)
    lines = []
    for path in sorted(expected_flat.keys() | found_flat.keys()):
        want, have = _kind(expected_flat.get(path)), _kind(found_flat.get(path))
        if want != have:
            lines.append(f"{path}: expected {want}, found {have}")
    return lines


def _kind(leaf):
    return "nothing" if leaf is None else f"{leaf.dtype}{list(leaf.shape)}"
