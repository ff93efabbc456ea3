"""Architecture as a test: which package may import which.

`LEVELS` is the table. A package may import packages of a strictly lower level,
its own modules, and what `SIDEWAYS` names; `ONLY` narrows that further.
"""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest
from source_tree import PACKAGES, ROOT, imports, module_name, project_sources

LEVELS = {
    "farsighted_jax": 0,
    "farsighted_jax.core": 0,
    "data_pipelines": 0,
    "farsighted_jax.layers": 1,
    "farsighted_jax.losses": 1,
    "farsighted_jax.sharding": 1,
    "farsighted_jax.checkpoint": 1,
    "farsighted_jax.encoders": 2,
    "farsighted_jax.pretrained": 2,
    "farsighted_jax.lam": 3,
    "farsighted_jax.policy": 3,
    "farsighted_jax.train": 4,
    "farsighted_jax.evaluators": 4,
    "farsighted_jax.rollout": 4,
    "farsighted_jax.serving": 4,
    "farsighted_jax.viz": 4,
    "data_pipelines.builders": 4,
    "farsighted_jax.cli": 5,
    "farsighted_jax.bench": 5,
    "farsighted_jax.plan": 5,
}

# Importer -> packages of its own level that it may import.
SIDEWAYS = {
    "data_pipelines": {"farsighted_jax.core"},
    # A table of names belongs to a network and asks it for its shapes.
    "farsighted_jax.pretrained": {"farsighted_jax.encoders"},
    "farsighted_jax.evaluators": {"farsighted_jax.rollout"},
    "farsighted_jax.rollout": {"farsighted_jax.serving"},
    "farsighted_jax.plan": {"farsighted_jax.bench"},
    "farsighted_jax.cli": {"farsighted_jax.bench", "farsighted_jax.plan"},
}

# Importer -> the only other packages it may import, where the level alone would allow more.
ONLY = {
    "farsighted_jax.layers": {"farsighted_jax.core"},
    "farsighted_jax.losses": {"farsighted_jax.core"},
    "farsighted_jax.sharding": {"farsighted_jax.core"},
    "farsighted_jax.checkpoint": {"farsighted_jax.core"},
    "data_pipelines.builders": {"farsighted_jax.core", "data_pipelines"},
}

# The loop is handed a Task; it knows no model.
NEVER = {
    "farsighted_jax.train": {
        "farsighted_jax.encoders",
        "farsighted_jax.pretrained",
        "farsighted_jax.lam",
        "farsighted_jax.policy",
        "data_pipelines",
    },
}

# What data_pipelines may see of core, and what these may import of the project: numpy only, no jax.
NUMPY_ONLY = {
    "farsighted_jax.core.batch",
    "farsighted_jax.core.spec",
    "farsighted_jax.core.normalization",
    "farsighted_jax.core.config",
    "farsighted_jax.core.rotations",
    "farsighted_jax.core.dims",
}
VISIBLE_TO_DATA = NUMPY_ONLY - {"farsighted_jax.core.dims"}

JAX = {"jax", "jaxlib", "flax", "optax", "orbax", "chex"}
INSIDE_FUNCTIONS = set(
    "tensorflow torch transformers tokenizers matplotlib metaworld mujoco gymnasium gymnasium_robotics "
    "libero websockets msgpack safetensors huggingface_hub tensorboardX tensorboard rlds h5py "
    "apache_beam".split()
)


def package_of(module):
    """The entry of LEVELS that a module belongs to, or None for one of another project."""
    if module.partition(".")[0] not in PACKAGES:
        return None
    parts = module.split(".")
    for length in (2, 1):
        name = ".".join(parts[:length])
        # A file such as data_pipelines/frame.py belongs to the package above it.
        if name in LEVELS:
            return name
    return None


def layer_faults(relative, source):
    """Every forbidden import in one source file, as readable lines."""
    module, is_package = module_name(relative), Path(relative).name == "__init__.py"
    package = package_of(module)
    faults = []
    for target, line, top in imports(ast.parse(source), module, is_package):
        fault = _project_fault(module, package, target) or _foreign_fault(module, target, top)
        if fault:
            faults.append(f"{relative}:{line}: {fault}")
    return faults


def _project_fault(module, package, target):
    other = package_of(target)
    if other is None:
        return None
    if package is None:
        return f"{module} stands in no package of LEVELS"
    if module in NUMPY_ONLY and not any(_within(target, name) for name in NUMPY_ONLY):
        return f"{module} is for numpy-only readers and may not import {target}"
    if package.startswith("data_pipelines") and other.startswith("farsighted_jax"):
        if not any(_within(target, name) for name in VISIBLE_TO_DATA):
            return f"data_pipelines may import only {sorted(VISIBLE_TO_DATA)}, not {target}"
        return None
    if other == package or target.partition(".")[2] == "__version__":
        return None
    allowed = LEVELS[other] < LEVELS[package] or other in SIDEWAYS.get(package, ())
    if not allowed:
        return f"{package} (level {LEVELS[package]}) may not import {target} (level {LEVELS[other]})"
    if other not in ONLY.get(package, {other}) or other in NEVER.get(package, ()):
        return f"{package} may not import {target}"
    return None


def _foreign_fault(module, target, top):
    root = target.partition(".")[0]
    if root == "tensorflow" and module.startswith("farsighted_jax"):
        return "farsighted_jax never imports tensorflow"
    if root in JAX and (module.startswith("data_pipelines") or module in NUMPY_ONLY):
        return f"{module} never imports {root}"
    if root in INSIDE_FUNCTIONS and top:
        return f"{root} is optional: import it inside the function that needs it"
    return None


def _within(target, module):
    """Whether `target` is the module, or a name inside it."""
    return target == module or target.rpartition(".")[0] == module


def import_cycle(sources):
    """Modules of one import cycle among {relative path: source}, or []. Only import-time edges count."""
    modules = {module_name(relative): relative for relative in sources}
    graph = {}
    for module, relative in modules.items():
        is_package = relative.endswith("__init__.py")
        edges = set()
        for target, _, top in imports(ast.parse(sources[relative]), module, is_package):
            found = target if target in modules else target.rpartition(".")[0]
            if top and found in modules and found != module:
                edges.add(found)
        graph[module] = edges
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return []


def test_imports_go_downward():
    faults = [fault for path, source in project_sources().items() for fault in layer_faults(path, source)]
    assert not faults, "\n".join(faults)


def test_every_package_has_a_level():
    found = {package_of(module_name(path)) for path in project_sources()}
    folders = {
        f"farsighted_jax.{child.name}"
        for child in (ROOT / "farsighted_jax").iterdir()
        if child.is_dir() and (child / "__init__.py").exists()
    }
    assert None not in found
    assert folders <= set(LEVELS)


def test_no_import_cycle():
    assert import_cycle(project_sources()) == []


@pytest.mark.parametrize(
    ("package", "forbidden"),
    [
        ("data_pipelines", sorted(JAX | {"tensorflow", "torch", "matplotlib"})),
        ("farsighted_jax", ["tensorflow", "torch", "matplotlib", "websockets", "metaworld"]),
    ],
)
def test_importing_everything_stays_light(package, forbidden):
    modules = [module_name(path) for path in project_sources() if path.startswith(package)]
    code = (
        f"import importlib, sys\nfor name in {modules}: importlib.import_module(name)\n"
        f"print(sorted(set({forbidden}) & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("farsighted_jax/layers/a.py", "import farsighted_jax.lam.model"),
        ("farsighted_jax/layers/a.py", "from farsighted_jax import losses"),
        ("farsighted_jax/layers/a.py", "from ..checkpoint import manager"),
        ("farsighted_jax/core/a.py", "from farsighted_jax.layers import mlp"),
        ("farsighted_jax/core/a.py", "import data_pipelines.frame"),
        ("farsighted_jax/core/batch.py", "from farsighted_jax.core import tree"),
        ("farsighted_jax/core/batch.py", "import chex"),
        ("farsighted_jax/lam/a.py", "from farsighted_jax.policy.plan_head import PlanHead"),
        ("farsighted_jax/policy/a.py", "def f():\n    import farsighted_jax.lam"),
        ("farsighted_jax/encoders/a.py", "from farsighted_jax.pretrained import rename"),
        ("farsighted_jax/train/a.py", "from farsighted_jax.lam import task"),
        ("farsighted_jax/train/a.py", "from farsighted_jax.evaluators import base"),
        ("farsighted_jax/rollout/a.py", "from farsighted_jax.evaluators import base"),
        ("farsighted_jax/viz/a.py", "from farsighted_jax.cli import train"),
        ("farsighted_jax/lam/a.py", "from data_pipelines.builders import hard"),
        ("farsighted_jax/unheard/a.py", "from farsighted_jax.core import tree"),
        ("data_pipelines/a.py", "from farsighted_jax.core import rng"),
        ("data_pipelines/a.py", "from farsighted_jax.layers import mlp"),
        ("data_pipelines/a.py", "from data_pipelines.builders import hard"),
        ("data_pipelines/a.py", "def f():\n    import jax"),
        ("data_pipelines/a.py", "import chex"),
        ("data_pipelines/builders/a.py", "from farsighted_jax.lam import label"),
        ("data_pipelines/a.py", "import tensorflow as tf"),
        ("data_pipelines/a.py", "try:\n    import torch\nexcept ImportError:\n    pass"),
        ("farsighted_jax/cli/a.py", "def f():\n    import tensorflow"),
        ("farsighted_jax/viz/a.py", "from matplotlib import pyplot"),
        ("farsighted_jax/rollout/a.py", "import metaworld"),
        ("farsighted_jax/serving/a.py", "class Server:\n    import websockets"),
    ],
)
def test_a_forbidden_import_is_caught(path, source):
    assert len(layer_faults(path, source)) == 1


@pytest.mark.parametrize(
    ("path", "source"),
    [
        (
            "farsighted_jax/cli/a.py",
            "from farsighted_jax import __version__\nimport farsighted_jax.bench",
        ),
        ("farsighted_jax/lam/a.py", "from farsighted_jax.layers.mlp import Mlp\nfrom . import model"),
        ("farsighted_jax/viz/a.py", "def f():\n    from matplotlib import pyplot"),
        ("farsighted_jax/evaluators/a.py", "from farsighted_jax.rollout import runner"),
        ("farsighted_jax/core/batch.py", "import numpy as np\nfrom farsighted_jax.core.dims import LETTERS"),
        (
            "data_pipelines/a.py",
            "from farsighted_jax.core import batch, config, normalization, spec",
        ),
        ("data_pipelines/a.py", "def f():\n    import tensorflow as tf"),
        ("data_pipelines/builders/a.py", "from data_pipelines import synthetic"),
    ],
)
def test_an_allowed_import_passes(path, source):
    assert layer_faults(path, source) == []


def test_an_import_cycle_is_caught():
    sources = {
        "farsighted_jax/core/a.py": "from farsighted_jax.core import b",
        "farsighted_jax/core/b.py": "from .c import name",
        "farsighted_jax/core/c.py": "import farsighted_jax.core.a",
    }
    assert {"farsighted_jax.core.a", "farsighted_jax.core.b"} <= set(import_cycle(sources))
    sources["farsighted_jax/core/c.py"] = "def f():\n    import farsighted_jax.core.a"
    assert import_cycle(sources) == []
