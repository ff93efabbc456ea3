import jax
import jax.numpy as jnp
import numpy as np
import pytest

from farsighted_jax.core import rng, tree


def example():
    return {
        "encoder": {
            "block_0": {"kernel": np.zeros((2, 3), np.float32), "bias": np.zeros(3, np.float32)},
            "block_1": {"kernel": np.ones((3, 4), np.float32)},
        },
        "head": {"kernel": np.ones((4, 5), np.int8)},
    }


PATHS = ["encoder/block_0/bias", "encoder/block_0/kernel", "encoder/block_1/kernel", "head/kernel"]


def test_flat_paths_are_complete_and_in_tree_order():
    flat = tree.flat_paths(example())
    assert list(flat) == PATHS
    assert [leaf.shape for leaf in flat.values()] == [(3,), (2, 3), (3, 4), (4, 5)]


def test_paths_of_lists_tuples_and_named_tuples():
    import optax

    assert list(tree.flat_paths({"a": [1, (2, 3)]})) == ["a/0", "a/1/0", "a/1/1"]
    state = optax.adam(1e-3).init({"w": jnp.zeros(2)})
    assert {"0/count", "0/mu/w", "0/nu/w"} <= set(tree.flat_paths(state))


def test_nested_inverts_flat_paths():
    again = tree.nested(tree.flat_paths(example()))
    assert jax.tree.structure(again) == jax.tree.structure(example())
    jax.tree.map(np.testing.assert_array_equal, again, example())


def test_map_with_path_sees_every_path_and_keeps_the_structure():
    seen = []
    mapped = tree.map_with_path(lambda path, a, b: seen.append(path) or a.size + b.size, example(), example())
    assert seen == PATHS
    assert mapped["head"]["kernel"] == 40


@pytest.mark.parametrize(
    ("patterns", "chosen"),
    [
        ((), []),
        (("kernel$",), [p for p in PATHS if p.endswith("kernel")]),
        (("^encoder/",), PATHS[:3]),
        (("bias", "^head"), [PATHS[0], PATHS[3]]),
        ((".*",), PATHS),
    ],
)
def test_partition_splits_and_merged_joins(patterns, chosen):
    rest, found = tree.partition(example(), patterns)
    assert list(tree.flat_paths(found)) == chosen
    assert sorted([*tree.flat_paths(rest), *chosen]) == PATHS
    assert jax.tree.structure(tree.merged(rest, found)) == jax.tree.structure(example())
    assert jax.tree.structure(tree.merged(found, rest)) == jax.tree.structure(example())


def test_a_pattern_that_matches_nothing_is_named():
    with pytest.raises(tree.TreeError, match="'encodr'.*encoder/block_0/bias"):
        tree.partition(example(), ["kernel", "encodr"])


def test_a_leaf_in_two_trees_is_named():
    with pytest.raises(tree.TreeError, match="head/kernel"):
        tree.merged(example(), {"head": {"kernel": np.zeros(1)}})


@pytest.mark.parametrize("order", [("a", "a/b"), ("a/b", "a")])
def test_a_leaf_that_is_also_a_branch_is_named(order):
    with pytest.raises(tree.TreeError, match="'a'"):
        tree.nested({path: 1 for path in order})
    assert tree.nested({"a": 1, "ab/c": 2}) == {"a": 1, "ab": {"c": 2}}


def test_sizes():
    assert tree.num_elements(example()) == 6 + 3 + 12 + 20
    assert tree.num_bytes(example()) == 4 * (6 + 3 + 12) + 20
    abstract = jax.eval_shape(lambda: {"a": jnp.zeros((3, 5), jnp.bfloat16), "b": jnp.zeros(())})
    assert tree.num_elements(abstract) == 16
    assert tree.num_bytes(abstract) == 34
    assert tree.num_bytes({"rng": jax.random.key(0)}) == 8
    assert tree.num_elements({}) == tree.num_bytes({}) == 0


def test_like_trees_do_not_differ():
    assert tree.structure_difference(example(), example()) == []
    assert tree.structure_difference(jax.eval_shape(example), example()) == []


def test_every_difference_is_listed():
    found = example()
    found["encoder"]["block_0"]["kernel"] = np.zeros((3, 2), np.float32)
    found["encoder"]["block_0"]["bias"] = np.zeros(3, np.float16)
    del found["encoder"]["block_1"]
    found["tail"] = np.zeros((), np.int32)
    assert tree.structure_difference(example(), found) == [
        "encoder/block_0/bias: expected float32[3], found float16[3]",
        "encoder/block_0/kernel: expected float32[2, 3], found float32[3, 2]",
        "encoder/block_1/kernel: expected float32[3, 4], found nothing",
        "tail: expected nothing, found int32[]",
    ]


def test_differences_of_bfloat16_and_random_keys():
    first = {"w": jnp.zeros(2, jnp.bfloat16), "rng": jax.random.key(0)}
    assert tree.structure_difference(first, jax.eval_shape(lambda: first)) == []
    second = {"w": jnp.zeros(2, jnp.float32), "rng": jax.random.key(0)}
    assert tree.structure_difference(first, second) == ["w: expected bfloat16[2], found float32[2]"]


def test_named_keys_are_distinct_and_stable():
    key = jax.random.key(0)
    words = ["init", "dropout", "restart", "batch"]
    bits = {word: tuple(jax.random.key_data(rng.named_key(key, word)).tolist()) for word in words}
    assert len(set(bits.values())) == len(words)
    assert bits["init"] == tuple(jax.random.key_data(rng.named_key(jax.random.key(0), "init")).tolist())


def test_step_keys_agree_inside_and_outside_of_jit():
    key = jax.random.key(1)
    traced = jax.jit(rng.step_key)(key, 7)
    np.testing.assert_array_equal(jax.random.key_data(traced), jax.random.key_data(rng.step_key(key, 7)))
    assert (jax.random.key_data(rng.step_key(key, 8)) != jax.random.key_data(traced)).any()


def test_sample_keys_do_not_depend_on_how_the_batch_is_cut():
    key = jax.random.key(2)
    whole = jax.random.key_data(rng.sample_keys(key, jnp.arange(8)))
    parts = [jax.random.key_data(rng.sample_keys(key, jnp.arange(8)[i : i + 2])) for i in range(0, 8, 2)]
    np.testing.assert_array_equal(whole, np.concatenate(parts))
    assert len(np.unique(whole, axis=0)) == 8
