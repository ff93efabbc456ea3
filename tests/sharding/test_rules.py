import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec as P

from farsighted_jax.sharding.mesh import make_mesh
from farsighted_jax.sharding.rules import DEFAULT_RULES, Rule, ShardingError, spec_for, state_shardings

RULES = (
    Rule(r"special/kernel$", P(None, "tensor")),
    Rule(r"kernel$", P("fsdp", "tensor")),
    Rule(r"loose$", P("fsdp", "tensor"), replicate_indivisible=True),
    Rule(r"both$", P(("data", "fsdp"))),
    Rule(r"bias$", P()),
)


@pytest.fixture(scope="module")
def mesh():
    return make_mesh({"data": 2, "fsdp": 2, "tensor": 2})


def test_first_match_wins_and_trailing_axes_are_named(mesh):
    assert spec_for(mesh, RULES, "special/kernel", (4, 6)) == P(None, "tensor")
    assert spec_for(mesh, RULES, "dense/kernel", (4, 6)) == P("fsdp", "tensor")
    assert spec_for(mesh, RULES, "dense/kernel", (5, 4, 6)) == P(None, "fsdp", "tensor")
    assert spec_for(mesh, RULES, "anything", ()) == P()


def test_unmatched_name_is_an_error(mesh):
    with pytest.raises(ShardingError, match=r"no sharding rule matches 'dense/gate', shape \[4\]"):
        spec_for(mesh, RULES, "dense/gate", (4,))


def test_indivisible_axis_is_an_error_or_the_explicit_fallback(mesh):
    with pytest.raises(ShardingError, match="axis 0 of size 3 is not divisible by 2"):
        spec_for(mesh, RULES, "dense/kernel", (3, 6))
    assert spec_for(mesh, RULES, "loose", (3, 6)) == P(None, "tensor")
    with pytest.raises(ShardingError, match="axis 0 of size 6 is not divisible by 4"):
        spec_for(mesh, RULES, "both", (6,))
    assert spec_for(mesh, RULES, "both", (8,)) == P(("data", "fsdp"))


def test_rule_with_more_axes_than_the_leaf_is_an_error(mesh):
    with pytest.raises(ShardingError, match="names 2 axes"):
        spec_for(mesh, RULES, "dense/kernel", (4,))


def test_moments_lie_like_their_parameter(mesh):
    tree = {"params": {"a": {"kernel": jnp.zeros((4, 6)), "bias": jnp.zeros(6)}}, "count": jnp.zeros(())}
    tree["opt_state"] = [{"mu": tree["params"]}]
    shardings = state_shardings(mesh, DEFAULT_RULES, jax.eval_shape(lambda: tree))
    kernel = shardings["params"]["a"]["kernel"]
    assert kernel.spec == P(("fsdp", "tensor"), None)
    assert shardings["opt_state"][0]["mu"]["a"]["kernel"] == kernel
    assert shardings["count"].spec == P()
