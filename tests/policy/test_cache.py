"""Group by group on a cache, and code by code, equals one pass over everything."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from policy_cases import LAYOUT, WIDTH, backbone, normal, random_codes, random_context, smaller

from farsighted_jax.policy.errors import PolicyError

LANGUAGE_VALID = np.array([[True, True, False], [True, False, False]])
FRAME_VALID = np.array([[[True, False], [True, False]], [[True, True], [False, True]]])
HIDDEN = np.array([False, True])
EMBODIMENT = normal(7, 2, 1, WIDTH)


def context():
    return random_context(language_valid=LANGUAGE_VALID, frame_valid=FRAME_VALID)


@pytest.fixture(scope="module")
def one_pass(run):
    return run(context(), random_codes(), None, HIDDEN, EMBODIMENT)


def both_ways(model, context, codes):
    """Hidden states and caches, with the plan in one go and, on the same cache, code by code."""
    hidden, caches = {}, {}
    hidden["context"], caches["context"] = model.encode_context(context)
    hidden["vision"], caches["vision"] = model.extend(caches["context"], "vision")
    plan, caches["plan"] = model.extend(caches["vision"], "plan", codes)
    code_by_code, caches["code by code"] = decoded(model, caches["vision"], codes)
    actions = [
        model.extend(caches[way], "action", EMBODIMENT, plan_hidden_B=HIDDEN)[0]
        for way in ("plan", "code by code")
    ]
    at_once = {**hidden, "plan": plan, "action": actions[0]}
    return {"at once": at_once, "code by code": {"plan": code_by_code, "action": actions[1]}}, caches


def decoded(model, cache, codes):
    """One token of the plan at a time, with an index that is traced; what stands at BOS is not read."""
    token_nBD = jnp.concatenate([jnp.full_like(codes[:, :1], jnp.nan), codes], axis=1).swapaxes(0, 1)

    def step(plan, token_and_index):
        hidden_BD, plan = model.plan_step(cache, plan, *token_and_index)
        return plan, hidden_BD

    indices = jnp.arange(LAYOUT.num_codes + 1)
    plan, hidden_nBD = jax.lax.scan(step, model.empty_plan(cache), (token_nBD, indices))
    return hidden_nBD.swapaxes(0, 1), model.with_plan(cache, plan)


@pytest.fixture(scope="module")
def cached(model, params):
    return jax.jit(lambda *inputs: model.apply(params, *inputs, method=both_ways))(context(), random_codes())


@pytest.mark.parametrize(
    ("way", "group"),
    [*(("at once", group) for group in LAYOUT.groups), ("code by code", "plan"), ("code by code", "action")],
)
def test_cached_equals_uncached(cached, one_pass, way, group):
    np.testing.assert_allclose(cached[0][way][group], one_pass[group], atol=1e-5, rtol=0)


def test_a_later_group_leaves_the_cache_of_an_earlier_one_as_it_is(cached):
    stages = cached[1]
    for earlier, later in (("context", "vision"), ("vision", "plan"), ("vision", "code by code")):
        size = stages[earlier].valid_BS.shape[1]
        for kept, extended in zip(stages[earlier].seen, stages[later].seen, strict=True):
            np.testing.assert_array_equal(kept, extended[:, :, :size])


def test_a_plan_decoded_code_by_code_fills_the_same_cache(cached):
    found, wanted = cached[1]["code by code"], cached[1]["plan"]
    assert found.groups == wanted.groups == ("context", "vision", "plan")
    for left, right in zip(found.seen, wanted.seen, strict=True):
        np.testing.assert_allclose(left, right, atol=1e-5)
    np.testing.assert_array_equal(found.valid_BS, wanted.valid_BS)


def test_embodiments_and_hidden_plans_reach_the_actions_alone(run, one_pass):
    for other in (
        run(context(), random_codes(), None, HIDDEN, -EMBODIMENT),
        run(context(), random_codes(), None, ~HIDDEN, EMBODIMENT),
    ):
        for group in ("context", "vision", "plan"):
            np.testing.assert_array_equal(other[group], one_pass[group])
        assert (np.abs(other["action"] - one_pass["action"]).max(axis=(1, 2)) > 1e-3).all()


def test_groups_out_of_turn_are_refused(model, params):
    def early(context):
        _, cache = model.bind(params).encode_context(context)
        return model.bind(params).extend(cache, "plan", random_codes())

    with pytest.raises(PolicyError, match=r"'plan' cannot follow \('context',\)"):
        jax.eval_shape(early, context())
    with pytest.raises(PolicyError, match=r"embedded codes of the plan: expected \[2, 4, 16\], found None"):
        jax.eval_shape(model.apply, params, context())
    none = backbone(smaller(transitions=0))
    with pytest.raises(PolicyError, match="'plan' cannot follow"):
        jax.eval_shape(
            lambda c: none.bind(params).extend(none.bind(params).encode_context(c)[1], "plan"), context()
        )
