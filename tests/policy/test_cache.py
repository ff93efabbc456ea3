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


def by_groups(model, context, codes):
    """Hidden states and the cache after each group."""
    hidden, caches = {}, {}
    hidden["context"], caches["context"] = model.encode_context(context)
    hidden["vision"], caches["vision"] = model.extend(caches["context"], "vision")
    hidden["plan"], caches["plan"] = model.extend(caches["vision"], "plan", codes)
    hidden["action"], _ = model.extend(caches["plan"], "action", EMBODIMENT, plan_hidden_B=HIDDEN)
    return hidden, caches


def by_codes(model, context, codes):
    """The same, the plan one token at a time, with an index that is traced."""
    hidden = {}
    hidden["context"], cache = model.encode_context(context)
    hidden["vision"], cache = model.extend(cache, "vision")
    token_nBD = jnp.concatenate([jnp.full_like(codes[:, :1], jnp.nan), codes], axis=1).swapaxes(0, 1)

    def step(plan, token_and_index):
        hidden_BD, plan = model.plan_step(cache, plan, *token_and_index)
        return plan, hidden_BD

    indices = jnp.arange(LAYOUT.num_codes + 1)
    plan, hidden_nBD = jax.lax.scan(step, model.empty_plan(cache), (token_nBD, indices))
    hidden["plan"] = hidden_nBD.swapaxes(0, 1)
    cache = model.with_plan(cache, plan)
    hidden["action"], _ = model.extend(cache, "action", EMBODIMENT, plan_hidden_B=HIDDEN)
    return hidden, {"plan": cache}


@pytest.fixture(scope="module")
def caches(model, params):
    return {
        way: jax.jit(lambda *inputs, way=way: model.apply(params, *inputs, method=way))(
            context(), random_codes()
        )
        for way in (by_groups, by_codes)
    }


@pytest.mark.parametrize("group", LAYOUT.groups)
@pytest.mark.parametrize("way", [by_groups, by_codes])
def test_cached_equals_uncached(caches, one_pass, way, group):
    np.testing.assert_allclose(caches[way][0][group], one_pass[group], atol=1e-5, rtol=0)


def test_a_later_group_leaves_the_cache_of_an_earlier_one_as_it_is(caches):
    stages = caches[by_groups][1]
    for earlier, later in (("context", "vision"), ("vision", "plan")):
        size = stages[earlier].valid_BS.shape[1]
        for kept, extended in zip(stages[earlier].seen, stages[later].seen, strict=True):
            np.testing.assert_array_equal(kept, extended[:, :, :size])


def test_a_plan_decoded_code_by_code_fills_the_same_cache(caches):
    found, wanted = caches[by_codes][1]["plan"], caches[by_groups][1]["plan"]
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
        jax.eval_shape(lambda c: none.bind(params).extend(none.bind(params).encode_context(c)[1], "plan"), context())
