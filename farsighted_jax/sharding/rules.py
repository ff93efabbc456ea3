"""Which parameter lies how on the mesh: an ordered table of regular expressions.

The first rule whose pattern is found in a leaf's path decides. A leaf that no
rule matches is an error, so that a new module cannot silently stay replicated.
Scalars need no rule: they are always replicated.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Sequence
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from farsighted_jax.core import tree


class ShardingError(ValueError):
    """A leaf fits no rule, or not the one it matched; the message names the path."""


@dataclasses.dataclass(frozen=True)
class Rule:
    """One row of a table.

    Attributes:
      pattern: regular expression, searched in the "/"-joined path.
      spec: mesh axes of the trailing axes; leading ones (scanned layers) stay whole.
      replicate_indivisible: whether an axis whose size the mesh does not divide
        stays whole; otherwise it is an error.
    """

    pattern: str
    spec: PartitionSpec
    replicate_indivisible: bool = False


# For modules with Flax's usual names. A kernel's input axis is spread over both axes. Input over
# fsdp and output over tensor, for every kernel alike, must not be: with data, fsdp and tensor all
# above 1, XLA leaves out a sum and gradients are silently wrong (openxla/xla issue 40034). A model's
# own table may pair layers (output over tensor, then input over tensor), which is right; whatever it
# says, compare a step on such a mesh with one device. Layers with an input or output of odd size (a
# patch's 3 channels, 7 action dimensions) share the name `kernel`, hence the fallback.
DEFAULT_RULES = (
    Rule(r"model_state/", PartitionSpec()),
    Rule(r"kernel$", PartitionSpec(("fsdp", "tensor"), None), replicate_indivisible=True),
    Rule(r"embedding$", PartitionSpec(("fsdp", "tensor"), None), replicate_indivisible=True),
    # The two factors of a low-rank adapter.
    Rule(r"adapters/.*/[ab]$", PartitionSpec()),
    # Small: latent slots, their queries, a codebook, convolutions and gates a channel.
    Rule(r"(bias|scale|queries|slots|codebook|taps|gate)$", PartitionSpec()),
)


def spec_for(mesh: Mesh, rules: Sequence[Rule], path: str, shape: Sequence[int]) -> PartitionSpec:
    """The partition of one leaf.

    Raises:
      ShardingError: no rule matches the path, the rule names more axes than the
        leaf has, or an axis is not divisible and the rule does not allow that.
    """
    if not shape:
        return PartitionSpec()
    rule = next((rule for rule in rules if re.search(rule.pattern, path)), None)
    if rule is None:
        raise ShardingError(
            f"no sharding rule matches {path!r}, shape {list(shape)}; patterns: {[r.pattern for r in rules]}"
        )
    if len(rule.spec) > len(shape):
        raise ShardingError(
            f"{path!r}, shape {list(shape)}: rule {rule.pattern!r} names {len(rule.spec)} axes"
        )
    entries = [None] * (len(shape) - len(rule.spec)) + list(rule.spec)
    for index, (entry, size) in enumerate(zip(entries, shape, strict=True)):
        names = () if entry is None else (entry,) if isinstance(entry, str) else entry
        shards = math.prod(mesh.shape[name] for name in names)
        if size % shards == 0:
            continue
        if not rule.replicate_indivisible:
            raise ShardingError(
                f"{path!r}, shape {list(shape)}: axis {index} of size {size} is not divisible by "
                f"{shards} = mesh axes {names} (rule {rule.pattern!r})"
            )
        entries[index] = None
    return PartitionSpec(*entries)


def state_shardings(mesh: Mesh, rules: Sequence[Rule], abstract_state: Any) -> Any:
    """A NamedSharding for each leaf of a tree of shapes.

    Paths are those of `core.tree.flat_paths`. The moments of an optimizer carry
    the name of their parameter at the end of their path, so that they lie like it.
    """
    return tree.map_with_path(
        lambda path, leaf: NamedSharding(mesh, spec_for(mesh, rules, path, leaf.shape)), abstract_state
    )


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding of what every device holds in full."""
    return NamedSharding(mesh, PartitionSpec())


def with_shardings(abstract: Any, shardings: Any) -> Any:
    """Shapes with their shardings, as restore wants them."""
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        abstract,
        shardings,
    )
