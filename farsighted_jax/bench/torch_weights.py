"""Parameters of the flax model as `torch_lam` takes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

# Stacked on a leading axis by a scan.
STACKS = ("blocks", "groups")
PROJECTIONS = ("query", "key", "value")


def converted(params: Mapping[str, Any]) -> dict[str, Any]:
    """A tree of numpy arrays -> the same in torch's layout.

    Kernels are turned round and called weight, like the scales of norms; stacks become lists;
    queries, keys and values get one projection.
    """
    return _converted({name: _unstacked(name, node) for name, node in params.items()})


def _converted(node):
    import torch

    if isinstance(node, list):
        return [_converted(part) for part in node]
    if not isinstance(node, Mapping):
        return torch.tensor(np.ascontiguousarray(node))
    if set(PROJECTIONS) <= node.keys():
        parts = [node[name] for name in PROJECTIONS]
        fused = {key: np.concatenate([part[key] for part in parts], -1) for key in parts[0]}
        node = {name: part for name, part in node.items() if name not in PROJECTIONS} | {"qkv": fused}
    if "kernel" in node:
        # Dense [in, out] and Conv [height, width, in, out], to [out, in] and [out, in, height, width].
        kernel = node["kernel"]
        turned = kernel.T if kernel.ndim == 2 else kernel.transpose(3, 2, 0, 1)
        node = {"weight": turned} | {name: part for name, part in node.items() if name != "kernel"}
    if node.keys() == {"scale", "bias"}:
        node = {"weight": node["scale"], "bias": node["bias"]}
    return {name: _converted(part) for name, part in node.items()}


def _unstacked(name, node):
    """A list where the name is that of a stack; a stack within a stack is one of its parts."""
    if not isinstance(node, Mapping):
        return node
    if name not in STACKS:
        return {child: _unstacked(child, part) for child, part in node.items()}
    length = len(next(_leaves(node)))
    parts = [_each(node, index) for index in range(length)]
    return [{child: _unstacked(child, part) for child, part in each.items()} for each in parts]


def _each(node, index):
    if isinstance(node, Mapping):
        return {name: _each(part, index) for name, part in node.items()}
    return node[index]


def _leaves(node) -> Iterator[np.ndarray]:
    if isinstance(node, Mapping):
        for part in node.values():
            yield from _leaves(part)
    else:
        yield node


def named_leaves(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """(path, tensor) of a tree of dicts and lists, names joined by "/"."""
    if isinstance(node, Mapping | list):
        pairs = node.items() if isinstance(node, Mapping) else enumerate(node)
        for name, part in pairs:
            yield from named_leaves(part, f"{path}/{name}" if path else str(name))
    else:
        yield path, node
