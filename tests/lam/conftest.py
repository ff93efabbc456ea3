"""A tiny LAM and a random batch."""

import jax
import pytest
from lam_cases import lam_task, loss_function, random_batch


@pytest.fixture(scope="session")
def batch():
    return random_batch()


@pytest.fixture(scope="session", params=["pixels", "layers"])
def trained(request, batch):
    """(task, params, model_state) after the codebook has seen its first batch."""
    task = lam_task(request.param)
    params, state = jax.jit(task.init)(jax.random.key(0), batch)
    # A head that starts at zero motion would hide faults behind it.
    params = jax.tree.map(lambda leaf: leaf + 0.1 * jax.random.normal(jax.random.key(1), leaf.shape), params)
    _, (_, updates) = loss_function(task)(params, state, batch)
    state, _ = task.next_model_state(state, updates)
    return task, params, state
