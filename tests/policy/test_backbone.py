import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec
from policy_cases import (
    LAYOUT,
    backbone,
    output_sum,
    random_codes,
    random_context,
    smaller,
    split_context,
)

from farsighted_jax.core import tree
from farsighted_jax.policy.backbone import VARIANTS, Backbone, abstract_parameters
from farsighted_jax.policy.layout import Layout
from farsighted_jax.sharding.mesh import make_mesh
from farsighted_jax.sharding.rules import DEFAULT_RULES, spec_for

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "policy_backbones.json"
# Two frames of two cameras, 224 pixels in patches of 14, a plan of 3 times 4 codes.
FULL = Layout(32, 2, 2, (16, 16), 1, (16, 16), 3, 4, 16)


def sizes_of(variant):
    shapes = abstract_parameters(Backbone(FULL, **VARIANTS[variant]))
    counts = {name: sum(leaf.size for leaf in jax.tree.leaves(part)) for name, part in shapes.items()}
    return {**VARIANTS[variant], **counts}


def test_parameter_counts_are_the_known_ones(update_golden):
    found = {variant: sizes_of(variant) for variant in VARIANTS}
    if update_golden:
        GOLDEN.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    assert found == json.loads(GOLDEN.read_text(encoding="utf-8"))


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_blocks_have_as_many_parameters_as_counted_by_hand(variant):
    D, depth, A = (VARIANTS[variant][name] for name in ("width", "depth", "num_heads"))
    matrices, biases = (4 + 2 * 4) * D * D, D + 5 * D
    norms = 2 * 2 * D + 2 * D // A
    assert sizes_of(variant)["transformer"] == depth * (matrices + biases + norms) + 2 * D
    learned = FULL.language + FULL.frames + FULL.views + FULL.proprio + 256 + 13 + 16
    assert sizes_of(variant)["positions"] == learned * D


def test_every_parameter_has_a_sharding_rule():
    mesh = make_mesh({"data": 2, "fsdp": 2, "tensor": 2})
    shapes = tree.flat_paths(abstract_parameters(Backbone(FULL, **VARIANTS["base"])))
    specs = {path: spec_for(mesh, DEFAULT_RULES, path, shape.shape) for path, shape in shapes.items()}
    query = "transformer/blocks/attention/query/kernel"
    assert specs[query] == PartitionSpec(None, ("fsdp", "tensor"), None)
    assert specs["positions/action_queries"] == PartitionSpec(None, None)


@pytest.mark.parametrize("sizes", [{"vision_grid": (0, 0)}, {"transitions": 0}, {"chunk": 0}])
def test_a_group_can_be_left_out(sizes):
    layout = smaller(**sizes)
    model = backbone(layout)
    codes = random_codes() if layout.num_codes else None
    shapes = jax.eval_shape(
        lambda c, z: model.init_with_output(jax.random.key(0), c, z)[0], random_context(), codes
    )
    assert {group: shape.shape[1] for group, shape in shapes.items()} == {
        group: layout.size(group) for group in layout.groups
    }
    assert len(shapes) == 3


@pytest.mark.parametrize("remat", ["dots", "full"])
def test_rematerialisation_changes_no_gradient(params, gradients, remat):
    parts, valid = split_context(random_context())
    weights = dict.fromkeys(LAYOUT.groups, 1.0)
    inputs = (parts, random_codes(), weights, valid, np.ones((2, LAYOUT.num_codes), bool), np.ones(2, bool))
    wanted = gradients(*inputs)[0]
    again = jax.jit(jax.grad(lambda *inputs: output_sum(backbone(remat=remat), *inputs)))(params, *inputs)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5 * (1 + abs(b).max())), again, wanted)


def test_rematerialisation_keeps_less():
    """Numbers kept for the backward pass, of a policy whose blocks are what counts."""

    def kept(remat):
        model = backbone(depth=8, remat=remat)
        shapes = {"params": abstract_parameters(model, batch_size=2)}

        def residuals(params):
            outputs = lambda p: model.apply(p, random_context(), random_codes())["action"].sum()  # noqa: E731
            return jax.vjp(outputs, params)[1]

        return sum(leaf.size for leaf in jax.tree.leaves(jax.eval_shape(residuals, shapes)))

    assert kept("full") < 0.7 * kept("dots") and kept("dots") < 0.7 * kept("none")


def test_in_bfloat16_parameters_stay_float32_and_results_are_near(params, run):
    model = backbone(dtype=jnp.bfloat16)
    shapes = abstract_parameters(model)
    assert {leaf.dtype for leaf in jax.tree.leaves(shapes)} == {jnp.dtype("float32")}
    found = jax.jit(model.apply)(params, random_context(), random_codes())
    wanted = run(random_context(), random_codes())
    for group in wanted:
        assert found[group].dtype == jnp.bfloat16
        np.testing.assert_allclose(found[group].astype(jnp.float32), wanted[group], atol=0.15)


def test_layers_are_stacked_and_differently_initialised(initial_params):
    kernel = initial_params["params"]["transformer"]["blocks"]["attention"]["query"]["kernel"]
    assert kernel.shape == (2, 16, 16) and jnp.abs(kernel[0] - kernel[1]).max() > 1e-3


def test_logits_stay_bounded_however_large_the_weights(params, run):
    """QK norm: scaling the query weights of every layer changes nothing."""
    flat = tree.flat_paths(params)
    name = "params/transformer/blocks/attention/query/kernel"
    large = tree.nested(flat | {name: 1000 * flat[name]})
    found = run(random_context(), random_codes(), params=large)
    for group, wanted in run(random_context(), random_codes()).items():
        np.testing.assert_allclose(found[group], wanted, atol=1e-3)
