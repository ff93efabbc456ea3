"""What the tests of the policy compile once."""

import jax
import numpy as np
import pytest
from policy_cases import (
    WIDTH,
    backbone,
    filled_context,
    output_sum,
    random_codes,
    random_context,
    visible_params,
)


@pytest.fixture(scope="session")
def model():
    return backbone()


@pytest.fixture(scope="session")
def initial_params(model):
    return jax.jit(model.init)(jax.random.key(0), random_context(), random_codes())


@pytest.fixture(scope="session")
def params(initial_params):
    return visible_params(initial_params)


@pytest.fixture(scope="session")
def run(model, params):
    """All groups in one pass. Whatever is not given is filled in, so that one program serves all tests."""
    apply = jax.jit(model.apply)

    def hidden(context, codes, code_valid=None, plan_hidden=None, action=None, params=params):
        B = len(codes)
        code_valid = np.ones(codes.shape[:2], bool) if code_valid is None else code_valid
        plan_hidden = np.zeros(B, bool) if plan_hidden is None else plan_hidden
        action = np.zeros((B, 1, WIDTH), np.float32) if action is None else action
        return apply(params, filled_context(context), codes, code_valid, plan_hidden, action)

    return hidden


@pytest.fixture(scope="session")
def gradients(model, params):
    """Gradients of `output_sum` by parameters, context and codes: (group weights, context, ...)."""
    gradient = jax.jit(jax.grad(lambda *inputs: output_sum(model, *inputs), argnums=(0, 1, 2)))

    def by_inputs(parts, codes, weights, valid, code_valid, plan_hidden):
        return gradient(params, parts, codes, weights, valid, code_valid, plan_hidden)

    return by_inputs
