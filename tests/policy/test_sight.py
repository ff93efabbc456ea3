"""Who sees whom, by derivative of the whole network: zero where the table says so and nowhere else."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from policy_cases import LAYOUT, normal, random_codes, random_context, split_context
from test_layout import mask_loop, names_and_positions

from farsighted_jax.policy.context import flat_context

# Tokens that are learned rows are differentiated as parameters, the others as inputs.
ROWS = {"vision": "vision_queries", "plan": "plan_embedding", "action": "action_queries"}


@pytest.fixture(scope="module")
def reach(model, params):
    """Absolute derivative of every token of every group by every token: hidden plan -> float[S, S]."""
    context, codes = random_context(1), random_codes(1)
    weight_D = normal(5, model.width)
    B, L, N = 1, LAYOUT.language, LAYOUT.grid[0] * LAYOUT.grid[1]

    def outputs(tokens, hidden):
        row = tokens["context"][None]
        embedded = context._replace(
            language=row[:, :L],
            frames=row[:, L : L + LAYOUT.frame_tokens].reshape(B, LAYOUT.frames, LAYOUT.views, N, -1),
            proprio=row[:, L + LAYOUT.frame_tokens :],
        )
        positions = params["params"]["positions"] | {ROWS[group]: tokens[group] for group in ROWS}
        changed = {"params": params["params"] | {"positions": positions}}
        groups = model.apply(changed, embedded, codes, None, hidden[None])
        return jnp.concatenate([groups[group][0] for group in LAYOUT.groups]) @ weight_D

    tokens = {group: params["params"]["positions"][name] for group, name in ROWS.items()}
    tokens["context"] = flat_context(context, LAYOUT, model.width)[0][0]
    jacobian = jax.jit(jax.jacrev(outputs))

    def by_token(hidden):
        found = jacobian(tokens, jnp.array(hidden))
        return np.concatenate([np.abs(found[group]).sum(axis=-1) for group in LAYOUT.groups], axis=1)

    return by_token


@pytest.mark.parametrize("hidden", [False, True])
def test_every_token_sees_what_the_table_says_and_nothing_else(reach, hidden):
    expected = mask_loop(*names_and_positions(), hidden=hidden)
    found = reach(hidden)
    assert found.shape == expected.shape
    assert (found[~expected] == 0).all()
    assert (found[expected] > 1e-5).all(), found[expected].min()


def test_the_actions_read_the_last_code_unless_the_plan_is_hidden(gradients):
    parts, valid = split_context(random_context())
    weights = {group: float(group == "action") for group in LAYOUT.groups}
    code_valid = np.ones((2, LAYOUT.num_codes), bool)
    _, _, by_code = gradients(parts, random_codes(), weights, valid, code_valid, np.array([False, True]))
    assert (np.abs(by_code[0]).max(axis=-1) > 1e-5).all()
    assert not np.any(by_code[1])


def test_the_last_code_is_for_the_actions_alone(run):
    codes = random_codes()
    changed = codes.copy()
    changed[:, -1] *= -1
    before, after = run(random_context(), codes), run(random_context(), changed)
    for group in ("context", "vision"):
        np.testing.assert_array_equal(before[group], after[group])
    np.testing.assert_array_equal(before["plan"][:, :-1], after["plan"][:, :-1])
    assert np.abs(before["plan"][:, -1] - after["plan"][:, -1]).max() > 1e-3
    assert np.abs(before["action"] - after["action"]).max() > 1e-3
