"""Every variant of the whole policy at full size, by shape alone."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from farsighted_jax.core import tree
from farsighted_jax.encoders.text import VARIANTS as TEXT_VARIANTS
from farsighted_jax.policy.layout import Layout
from farsighted_jax.policy.model import VARIANTS, Policy, abstract_parameters
from farsighted_jax.policy.observation import Observation
from farsighted_jax.sharding.mesh import make_mesh
from farsighted_jax.sharding.rules import DEFAULT_RULES, spec_for

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "policies.json"
# Two frames of two cameras, 224 pixels in patches of 14, a plan of 3 times 4 codes of 32.
FULL = Layout(32, 2, 2, (16, 16), 1, (16, 16), 3, 4, 16)


def full_policy(variant, frozen):
    """As pretrained with frozen DINOv2-B and T5-base, or with encoders of its own; and what it sees."""
    options = (
        {} if frozen else {"text": variant if variant in TEXT_VARIANTS else "base", "depth_input": "fuse"}
    )
    policy = Policy(
        FULL,
        **VARIANTS[variant],
        codebook_size=32,
        patch=14,
        action_width=7,
        own_frames=not frozen,
        residual=not frozen,
        **options,
    )
    shapes = {"proprio_BI": (1, 7), "embodiment_B": (1,)}
    if frozen:
        shapes |= {"tokens_BRPNE": (1, 2, 2, 256, 768), "text_BLE": (1, 32, 768)}
    else:
        image = (1, 2, 2, 224, 224)
        shapes |= {"rgb_BRPHWC": (*image, 3), "depth_BRPHW1": (*image, 1), "depth_valid_BRPHW1": (*image, 1)}
        shapes |= {"token_BL": (1, 32)}
    kinds = {"embodiment_B": jnp.int32, "token_BL": jnp.int32, "depth_valid_BRPHW1": bool}
    arrays = {
        name: jax.ShapeDtypeStruct(shape, kinds.get(name, jnp.float32)) for name, shape in shapes.items()
    }
    return policy, Observation(**arrays)


@pytest.fixture(scope="module")
def full_parameters():
    """Parameters of every variant at full size, by variant and kind of encoders."""
    kinds = {"frozen encoders": True, "own encoders": False}
    return {
        variant: {kind: abstract_parameters(*full_policy(variant, frozen)) for kind, frozen in kinds.items()}
        for variant in VARIANTS
    }


def test_parameter_counts_are_the_known_ones(full_parameters, update_golden):
    found = {
        variant: {
            kind: {name: tree.num_elements(part) for name, part in params.items()}
            for kind, params in kinds.items()
        }
        for variant, kinds in full_parameters.items()
    }
    if update_golden:
        GOLDEN.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    assert found == json.loads(GOLDEN.read_text(encoding="utf-8"))


def test_every_parameter_is_float32_and_has_its_place_on_a_mesh(full_parameters):
    mesh = make_mesh({"data": 2, "fsdp": 2, "tensor": 2})
    for kinds in full_parameters.values():
        for params in kinds.values():
            leaves = tree.flat_paths(params)
            assert {leaf.dtype for leaf in leaves.values()} == {jnp.dtype("float32")}
            for path, leaf in leaves.items():
                spec_for(mesh, DEFAULT_RULES, f"params/{path}", leaf.shape)
