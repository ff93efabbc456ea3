import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy_task

from farsighted_jax.core.config import ConfigError
from farsighted_jax.train.optimizer import decay_mask, make_optimizer


def test_only_matrices_decay():
    params = {
        "dense": {"kernel": jnp.zeros((2, 3)), "bias": jnp.zeros(3)},
        "blocks": {"kernel": jnp.zeros((4, 2, 3)), "bias": jnp.zeros((4, 3))},
        "token_embedding": {"table": jnp.zeros((5, 3))},
        "norm": {"scale": jnp.zeros((4, 3))},
    }
    mask = decay_mask(params)
    assert mask["dense"] == {"kernel": True, "bias": False}
    assert mask["blocks"] == {"kernel": True, "bias": False}
    assert not mask["token_embedding"]["table"] and not mask["norm"]["scale"]


def test_decay_moves_only_what_the_mask_says():
    optimizer = make_optimizer(toy_task.toy_config().optimizer, 10)
    params = {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)}
    zeros = jax.tree.map(jnp.zeros_like, params)
    direction, _ = optimizer.transform.update(zeros, optimizer.transform.init(params), params)
    np.testing.assert_allclose(direction["kernel"], 0.1, rtol=1e-6)
    assert not np.any(direction["bias"])


@pytest.mark.parametrize(
    "key, value", [("b1", 1.5), ("clip_norm", 0.0), ("accumulation", 0), ("ema_decay", -1.0)]
)
def test_values_out_of_range_name_the_key(key, value):
    with pytest.raises(ConfigError, match=f"optimizer.{key}"):
        make_optimizer(toy_task.toy_config(**{f"optimizer__{key}": value}).optimizer, 10)
