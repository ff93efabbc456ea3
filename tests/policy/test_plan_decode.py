"""Decoding: every decoder against logits under teacher forcing and against all plans there are."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from policy_cases import normal
from random_weights import random_variables

from farsighted_jax.policy.errors import PolicyError
from farsighted_jax.policy.layout import Layout
from farsighted_jax.policy.model import Policy
from farsighted_jax.policy.observation import Observation
from farsighted_jax.policy.plan_decode import DECODERS, decode_plan

B, V, t, Z = 3, 3, 2, 2
N_CODES = t * Z
LAYOUT = Layout(0, 0, 0, (0, 0), 1, (0, 0), t, Z, 1)
POLICY = Policy(LAYOUT, 8, 1, 2, head_depth=2, codebook_size=V, patch=1, action_width=2)
KEY = jax.random.key(4)
WAYS = {
    "greedy": ("greedy", {}),
    "cold": ("sampled", {"key": KEY, "temperature": 1e-4}),
    "top 1": ("sampled", {"key": KEY, "top_k": 1}),
    "sampled": ("sampled", {"key": KEY, "temperature": 2.0}),
    "beam 1": ("beam", {"width": 1}),
    "beam 2": ("beam", {"width": 2}),
    "exhaustive beam": ("beam", {"width": V ** (N_CODES - 1)}),
}


def observation(B=B, seed=0):
    return Observation(proprio_BI=normal(seed, B, 4), embodiment_B=np.zeros(B, np.int32))


@pytest.fixture(scope="module")
def params():
    moment = (normal(1, B, 1, 1, 2), np.zeros((B, 1), np.float32), np.ones((B, 1, 2), bool))
    codes = np.zeros((B, t, Z), np.int32)
    # Of a sample for which greedy decoding, a narrow beam and a wide one find three different plans.
    return random_variables(POLICY, observation(), codes, None, None, *moment, scale=1.0, seed=5)["params"]


def begun(params, seen):
    return POLICY.apply({"params": params}, seen, method="begin")


@pytest.fixture(scope="module")
def teacher(params):
    """Plans -> (logits, condition) with every code given, on the cache of the observation."""

    @jax.jit
    def of(seen, code_BtZ):
        def run(policy):
            cache, logit_BnV = policy.extend_plan(policy.begin(seen), code_BtZ)
            return logit_BnV, policy.condition(cache, seen.embodiment_B)

        return POLICY.apply({"params": params}, method=run)

    return of


@pytest.fixture(scope="module")
def decoded(params):
    """What every way gives: {way: (codes, log probability, condition on the cache)}."""

    @jax.jit
    def all_ways(seen):
        found = {}
        for way, (decoder, options) in WAYS.items():
            code_BtZ, log_prob_B, cache = decode_plan(POLICY, params, begun(params, seen), decoder, **options)
            condition = POLICY.apply({"params": params}, cache, seen.embodiment_B, method="condition")
            found[way] = code_BtZ, log_prob_B, condition
        return found

    return all_ways(observation())


@pytest.fixture(scope="module")
def log_prob_of_all(teacher):
    """Every plan there is, int[81, t, Z], and its log probability for each sample, float[B, 81]."""
    plans = np.array(list(itertools.product(range(V), repeat=N_CODES)), np.int32).reshape(-1, t, Z)
    seen = jax.tree.map(lambda part: np.repeat(part, len(plans), axis=0), observation())
    logits, _ = teacher(seen, np.tile(plans, (B, 1, 1)))
    return plans, log_prob(logits, np.tile(plans, (B, 1, 1))).reshape(B, -1)


def log_prob(logit_BnV, code_BtZ):
    log_prob_BnV = np.asarray(jax.nn.log_softmax(logit_BnV))
    return np.take_along_axis(log_prob_BnV, code_BtZ.reshape(-1, N_CODES, 1), axis=-1)[..., 0].sum(axis=1)


@pytest.mark.parametrize("way", WAYS)
def test_log_probability_and_cache_are_those_under_teacher_forcing(decoded, teacher, way):
    codes, found, condition = map(np.asarray, decoded[way])
    assert codes.shape == (B, t, Z) and codes.dtype == np.int32 and found.dtype == np.float32
    logits, wanted = teacher(observation(), codes)
    np.testing.assert_allclose(found, log_prob(logits, codes), atol=1e-5)
    # A reads the last code too: a plan that stands only in part on the cache would show.
    np.testing.assert_allclose(condition, wanted, atol=1e-5)


@pytest.mark.parametrize("way", ["greedy", "cold", "top 1", "beam 1"])
def test_the_likeliest_code_at_every_step(decoded, teacher, way):
    codes = np.asarray(decoded[way][0])
    logits, _ = teacher(observation(), codes)
    np.testing.assert_array_equal(np.argmax(logits, axis=-1), codes.reshape(B, N_CODES))
    np.testing.assert_array_equal(codes, decoded["greedy"][0])


def test_probabilities_of_all_plans_sum_to_one(log_prob_of_all):
    np.testing.assert_allclose(np.exp(log_prob_of_all[1]).sum(axis=1), 1, atol=1e-5)


def test_a_wide_beam_finds_the_likeliest_of_all_plans(decoded, log_prob_of_all):
    plans, wanted = log_prob_of_all
    codes, found, _ = decoded["exhaustive beam"]
    np.testing.assert_array_equal(codes, plans[wanted.argmax(axis=1)])
    np.testing.assert_allclose(found, wanted.max(axis=1), atol=1e-5)
    narrow, greedy = decoded["beam 2"][1], decoded["greedy"][1]
    assert found[1] > narrow[1] + 0.1 and narrow[1] > greedy[1] + 0.1
    assert (found > greedy - 1e-5).all()


def test_a_narrow_beam_is_the_one_of_a_plain_loop(decoded, log_prob_of_all):
    plans, scores = log_prob_of_all
    for sample in range(B):
        # Log probability of a prefix: that of all plans that begin with it.
        total = {
            tuple(plan.reshape(-1)): np.exp(score) for plan, score in zip(plans, scores[sample], strict=True)
        }
        beam = [()]
        for step in range(1, N_CODES + 1):
            longer = [(*prefix, code) for prefix in beam for code in range(V)]
            weight = {p: sum(total[plan] for plan in total if plan[:step] == p) for p in longer}
            beam = sorted(longer, key=weight.get, reverse=True)[:2]
        np.testing.assert_array_equal(decoded["beam 2"][0][sample].reshape(-1), beam[0])


def test_a_sample_draws_the_same_whatever_else_is_in_the_batch(params, decoded):
    fewer = jax.tree.map(lambda part: part[:2], observation())
    sample = jax.jit(
        lambda seen: decode_plan(POLICY, params, begun(params, seen), "sampled", key=KEY, temperature=2.0)
    )
    codes, log_probs, _ = sample(fewer)
    np.testing.assert_array_equal(codes, decoded["sampled"][0][:2])
    np.testing.assert_allclose(log_probs, decoded["sampled"][1][:2], atol=1e-5)


def test_samples_have_the_policys_own_frequencies(params, log_prob_of_all):
    num = 2000
    alike = jax.tree.map(lambda part: np.repeat(part[:1], num, axis=0), observation())
    sample = jax.jit(lambda seen: decode_plan(POLICY, params, begun(params, seen), "sampled", key=KEY)[0])
    drawn = np.asarray(sample(alike)).reshape(num, -1) @ V ** np.arange(N_CODES)[::-1]
    expected = np.exp(log_prob_of_all[1][0])
    frequency = np.bincount(drawn, minlength=V**N_CODES) / num
    assert (np.abs(frequency - expected) < 5 * np.sqrt(expected / num) + 2 / num).all()


@pytest.mark.parametrize("way", ["greedy", "sampled", "beam 2"])
def test_in_bfloat16_log_probabilities_stay_float32(params, way):
    policy = dataclasses.replace(POLICY, dtype=jnp.bfloat16)
    decoder, options = WAYS[way]

    def decode(seen):
        cache = policy.apply({"params": params}, seen, method="begin")
        return decode_plan(policy, params, cache, decoder, **options)

    codes, log_probs, cache = jax.eval_shape(decode, observation())
    assert (codes.dtype, log_probs.dtype) == (jnp.int32, jnp.float32)
    assert cache.groups.seen.keys.dtype == jnp.bfloat16


def test_what_cannot_be_decoded_is_refused(params):
    cache = jax.eval_shape(lambda: begun(params, observation()))
    for decoder, options, message in (
        ("viterbi", {}, r"'viterbi' is none of \['beam', 'greedy', 'sampled'\]"),
        ("beam", {"width": 0}, "width of a beam must be >= 1, found 0"),
        ("sampled", {"key": KEY, "top_k": 4}, r"within 0\.\.3, found 4"),
    ):
        with pytest.raises(PolicyError, match=message):
            decode_plan(POLICY, params, cache, decoder, **options)
    for decode in DECODERS.values():
        extra = (KEY,) if decode is DECODERS["sampled"] else ()
        with pytest.raises(PolicyError, match="'plan' cannot follow"):
            jax.eval_shape(
                lambda decode=decode, extra=extra: decode(
                    POLICY, params, decode(POLICY, params, begun(params, observation()), *extra)[2], *extra
                )
            )
