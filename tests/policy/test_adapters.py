"""Low-rank adapters: zero at the start, a @ b in every layer of a stack, and their kernels frozen."""

import jax
import numpy as np
import pytest
from policy_cases import normal

from farsighted_jax.core import tree
from farsighted_jax.policy.adapters import ADAPTERS, adapted, initial_adapters

QUERY = "backbone/blocks/query/kernel"
PARAMS = {
    "backbone": {
        "blocks": {"query": {"kernel": normal(0, 3, 4, 5), "bias": normal(1, 3, 5)}},
        "out": {"kernel": normal(2, 5, 6)},
    },
    "head": {"kernel": normal(3, 6, 7)},
}


@pytest.fixture(scope="module")
def adapters():
    return initial_adapters(jax.random.key(1), PARAMS, ("^backbone/",), 2)


def test_frozen_kernels_alone_get_adapters_of_their_shapes(adapters):
    assert {path: leaf.shape for path, leaf in tree.flat_paths(adapters).items()} == {
        "backbone/blocks/query/kernel/a": (3, 4, 2),
        "backbone/blocks/query/kernel/b": (3, 2, 5),
        "backbone/out/kernel/a": (5, 2),
        "backbone/out/kernel/b": (2, 6),
    }
    with pytest.raises(tree.TreeError, match="match no kernel"):
        initial_adapters(jax.random.key(1), PARAMS, ("bias$",), 2)


def test_they_begin_as_nothing_and_add_their_product(adapters):
    start = adapted({**PARAMS, ADAPTERS: adapters})
    assert not tree.structure_difference(PARAMS, start)
    for path, leaf in tree.flat_paths(PARAMS).items():
        np.testing.assert_array_equal(tree.flat_paths(start)[path], leaf)
    trained = jax.tree.map(lambda leaf: np.asarray(leaf) + np.float32(0.5), adapters)
    found = tree.flat_paths(adapted({**PARAMS, ADAPTERS: trained}))
    factors, kernel = tree.flat_paths(trained), tree.flat_paths(PARAMS)[QUERY]
    for layer in range(3):
        product = factors[f"{QUERY}/a"][layer] @ factors[f"{QUERY}/b"][layer]
        np.testing.assert_allclose(found[QUERY][layer], kernel[layer] + product, rtol=1e-5)
    np.testing.assert_array_equal(found["head/kernel"], PARAMS["head"]["kernel"])
