"""The bench of attention: it finds the attentions of a step, and measures them beside the other way."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from farsighted_jax.bench import attention as bench
from farsighted_jax.cli.run import task_for
from farsighted_jax.cli.untrained import sample_batch
from farsighted_jax.core import config as config_lib
from farsighted_jax.layers.attention import causal_attention_over_time


@pytest.fixture(scope="module")
def config():
    config = config_lib.load("configs/lam_pretrain.py:tiny")
    config.batch_size, config.data.resolution, config.data.offsets_s = 4, 16, (0.2, 0.4)
    config.model.head, config.model.num_keypoints, config.model.patch = "pixels", 0, 8
    return config


def test_each_attention_of_the_step_is_measured_once(config):
    task, lines = task_for(config), []
    found = bench.run(
        task, config, sample_batch(config, task), steps=2, warm_up=1, devices=jax.devices()[:1],
        report=lines.append,
    )  # fmt: skip
    assert json.loads(json.dumps(found)) == found
    calls = {call["kernel"]: call for call in found["calls"]}
    slots, patches, heads, width = config.model.num_slots, 4, 4, 24
    assert calls["over time"]["queries"] == [4, 3, slots + patches, heads, width]
    within = {tuple(call["queries"]) for call in found["calls"] if call["kernel"] == "plain"}
    assert (4 * 3, slots + patches, heads, width) in within and len(lines) == len(found["calls"])
    over_time = calls["over time"]
    assert over_time["times"] == pytest.approx(over_time["beside"]["ms"] / over_time["ms"], rel=0.05)
    assert over_time["difference"] < 1e-5 and over_time["beside"]["way"] == "transposing"


def test_the_way_that_transposes_computes_the_same():
    q, k, v = (
        jnp.asarray(np.random.default_rng(seed).normal(size=(2, 3, 5, 2, 4)), jnp.float32)
        for seed in range(3)
    )
    np.testing.assert_allclose(bench.transposing(q, k, v), causal_attention_over_time(q, k, v), atol=1e-5)
