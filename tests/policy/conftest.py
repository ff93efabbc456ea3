"""What the tests of the policy compile once."""

import jax
import pytest
from policy_cases import backbone, random_codes, random_context, visible_params


@pytest.fixture(scope="session")
def model():
    return backbone()


@pytest.fixture(scope="session")
def params(model):
    return visible_params(jax.jit(model.init)(jax.random.key(0), random_context(), random_codes()))


@pytest.fixture(scope="session")
def run(model, params):
    """All groups in one pass, compiled: (context, codes, code_valid, plan_hidden) -> hidden states."""
    return jax.jit(lambda *inputs: model.apply(params, *inputs))
