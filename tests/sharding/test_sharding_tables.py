"""How every parameter of the base models lies on several meshes, as text that changes with the rules."""

import math
from pathlib import Path

import jax
import pytest
from jax.sharding import AbstractMesh, AxisType

from farsighted_jax.cli.untrained import sample_batch, untrained_task
from farsighted_jax.core import config as config_lib
from farsighted_jax.core import tree
from farsighted_jax.core.task import PRETRAINED
from farsighted_jax.sharding.mesh import AXES
from farsighted_jax.sharding.rules import DEFAULT_RULES, spec_for

ROOT = Path(__file__).resolve().parents[2]
MODELS = {"lam": "configs/lam_pretrain.py:base", "policy": "configs/policy_finetune.py:base"}
# Sizes of data, fsdp and tensor; the last as two slices of 64 chips have it.
MESHES = {
    "data": (256, 1, 1),
    "fsdp": (1, 256, 1),
    "tensor": (32, 1, 8),
    "mixed": (16, 8, 2),
    "slices": (8, 16, 1),
}


def table(reference):
    """A line a parameter: path, shape, and on each mesh the axes that cut it ("-": none)."""
    config = config_lib.load(str(ROOT / reference))
    task = untrained_task(config, str(ROOT / reference))
    params, model_state = jax.eval_shape(task.init, jax.random.key(0), sample_batch(config, task))
    frozen = {PRETRAINED: task.pretrained_shapes()}
    leaves = tree.flat_paths({"params": params, "model_state": model_state, "frozen": frozen})
    rows = [["parameter", "shape", *MESHES]]
    for path, leaf in leaves.items():
        specs = [cut(mesh_of(sizes), path, leaf.shape) for sizes in MESHES.values()]
        rows.append([path, "x".join(map(str, leaf.shape)) or "scalar", *specs])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def mesh_of(sizes):
    return AbstractMesh(sizes, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def cut(mesh, path, shape):
    """Axes of more than one chip alone: "-,fsdp+tensor"."""
    entries = []
    for entry in spec_for(mesh, DEFAULT_RULES, path, shape):
        names = () if entry is None else (entry,) if isinstance(entry, str) else entry
        entries.append("+".join(name for name in names if mesh.shape[name] > 1) or "-")
    return ",".join(entries) if set(entries) - {"-"} else "-"


@pytest.mark.parametrize("model", MODELS)
def test_parameters_lie_as_the_table_says(model, update_golden):
    path = ROOT / "tests" / "golden" / f"sharding_{model}_base.txt"
    found = table(MODELS[model])
    if update_golden:
        path.write_text(found, encoding="utf-8")
    assert found.splitlines() == path.read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("model", MODELS)
def test_what_is_trained_is_spread_over_all_chips_of_fsdp(model):
    path = ROOT / "tests" / "golden" / f"sharding_{model}_base.txt"
    rows = [line.split() for line in path.read_text(encoding="utf-8").splitlines()[1:]]
    sizes = [(math.prod(map(int, row[1].split("x"))), row[3]) for row in rows if row[0].startswith("params/")]
    assert sum(size for size, spec in sizes if spec == "-") < 0.02 * sum(size for size, _ in sizes)
