"""The training step of the LAM in torch, as a process that `bench.beside_torch` measures."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from farsighted_jax.bench import rounds, torch_objective
from farsighted_jax.bench.torch_lam import Sizes
from farsighted_jax.bench.torch_weights import converted, named_leaves

# What `beside_torch` hands over, arrays by path.
BATCH, PARAMS, FROZEN, STATE = "batch.npz", "params.npz", "frozen.npz", "state.npz"
CONFIG = "config.json"


def tree_of(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Nested dicts of arrays whose names are paths."""
    tree: dict[str, Any] = {}
    for path, array in arrays.items():
        *parents, name = path.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[name] = array
    return tree


def adamw(weights: Any, config: Mapping[str, Any]) -> Any:
    """AdamW over all parameters; decay as `train.optimizer.decay_mask` has it, a constant rate."""
    import torch

    decayed, others = [], []
    for path, leaf in named_leaves(weights):
        kept = leaf.ndim < 2 or any(re.search(pattern, path) for pattern in config["no_decay"])
        (others if kept else decayed).append(leaf.requires_grad_())
    groups = [
        {"params": decayed, "weight_decay": config["weight_decay"]},
        {"params": others, "weight_decay": 0.0},
    ]
    betas = config["b1"], config["b2"]
    return torch.optim.AdamW(groups, lr=config["learning_rate"], betas=betas, eps=1e-8, fused=True)


def make_step(
    config: Mapping[str, Any], sizes: Sizes, weights: Any, frozen: Any, state: dict[str, Any], compiled: bool
) -> Callable[[Mapping[str, Any]], float]:
    """A training step that changes `weights` and `state`.

    Args:
      config: of the run.
      sizes: of the model.
      weights: learned parameters.
      frozen: pretrained networks.
      state: of the quantiser, see `torch_objective.loss`.
      compiled: whether loss and gradient go through torch.compile.

    Returns:
      batch -> loss before the step.
    """
    import torch

    optimizer = adamw(weights, config["optimizer"])
    parameters = [leaf for _, leaf in named_leaves(weights)]
    loss_of = torch_objective.loss
    if compiled:
        loss_of = torch.compile(loss_of, fullgraph=True)

    def step(batch):
        loss, (vector_BtZU, code_BtZ) = loss_of(weights, frozen, state, batch, sizes, config)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, config["optimizer"]["clip_norm"])
        optimizer.step()
        optimizer.zero_grad()
        valid_Bt, priority_BtZ = torch_objective.transition_valid(batch), torch.rand(code_BtZ.shape)
        state.update(
            torch_objective.next_codebook(
                state, vector_BtZU, code_BtZ, valid_Bt, priority_BtZ, config["quantizer"]
            )
        )
        return float(loss.detach())

    return step


def prepare(folder: str, sizes: Mapping[str, Any], threads: int, warm_up: int) -> tuple[dict, Callable]:
    """For `rounds.serve`; says the mode, the loss of the first step and how long that took.

    Args:
      folder: with the files named above.
      sizes: of `Sizes`.
      threads: for a single operation.
      warm_up: steps before it is ready, at least one.
    """
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    config = json.loads((Path(folder) / CONFIG).read_text(encoding="utf-8"))
    sizes = Sizes(**{**sizes, "pyramid": tuple(sizes["pyramid"])})
    begin = time.perf_counter()
    try:
        advance, loss = _first_step(Path(folder), config, sizes, compiled=True)
        mode = {"mode": "compile"}
    except Exception as error:  # of a compiler: whatever else is wrong is wrong without it, too
        advance, loss = _first_step(Path(folder), config, sizes, compiled=False)
        reason = next(iter(str(error).strip().splitlines()), "")
        mode = {"mode": "eager", "mode_note": f"torch.compile: {type(error).__name__}: {reason}"}
    compile_s = time.perf_counter() - begin

    def timed(steps: int) -> Sequence[float]:
        times = []
        for _ in range(steps):
            begin = time.perf_counter()
            advance()
            times.append(time.perf_counter() - begin)
        return times

    timed(warm_up - 1)
    about = {"version": torch.__version__, "threads": torch.get_num_threads()}
    return {**mode, **about, "loss": round(loss, 6), "compile_s": round(compile_s, 2)}, timed


def _first_step(folder, config, sizes, compiled):
    import torch

    def arrays(name):
        with np.load(folder / name) as found:
            return dict(found)

    weights, frozen = (converted(tree_of(arrays(name))) for name in (PARAMS, FROZEN))
    state, batch = (
        {name: torch.tensor(array) for name, array in arrays(file).items()} for file in (STATE, BATCH)
    )
    step = make_step(config, sizes, weights, frozen, state, compiled)
    loss = step(batch)
    return lambda: step(batch), loss


if __name__ == "__main__":
    rounds.serve(prepare)
