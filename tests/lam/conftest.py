"""A tiny LAM and a random batch."""

import jax
import numpy as np
import pytest
from lam_cases import jitted, lam_task, loss_and_aux, random_batch


@pytest.fixture(scope="session")
def batch():
    return random_batch()


@pytest.fixture(scope="session", params=["pixels", "layers"])
def trained(request, batch):
    """(task, params, model_state) after the codebook has seen its first batch."""
    task = lam_task(request.param)
    params, state = jitted(task, "init")(jax.random.key(0), batch)
    # A head that starts at zero motion would hide faults behind it.
    rng = np.random.default_rng(1)
    params = jax.tree.map(lambda leaf: leaf + 0.1 * rng.normal(size=leaf.shape).astype(leaf.dtype), params)
    _, (_, updates) = loss_and_aux(task, params, state, batch)
    state, _ = jitted(task, "next_model_state")(state, updates)
    return task, params, state
