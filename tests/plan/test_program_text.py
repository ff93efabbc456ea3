"""Programs are read as XLA prints them: a real one for eight devices, and lines of the TPU compiler."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from farsighted_jax.plan.collectives import collectives
from farsighted_jax.plan.hlo import attention_kernel, program
from farsighted_jax.sharding.mesh import make_mesh

WIDTH, ROWS, LAYERS = 16, 8, 5

# Two rounds of three: an all-gather over pairs, begun in one fusion and ended in another; a reduce-scatter.
TPU_TEXT = """
HloModule jit_step, is_scheduled=true

%gathers (p: f32[4,8]) -> f32[8,8] {
  %p = f32[4,8]{1,0:T(8,128)} parameter(0)
  ROOT %all-gather.1 = f32[8,8]{1,0:T(8,128)S(1)} all-gather(%p), channel_id=7, replica_groups=GROUPS
}

%gathers.still (p.1: f32[4,8]) -> f32[8,8] {
  %p.1 = f32[4,8]{1,0} parameter(0)
  ROOT %all-gather.2 = f32[8,8]{1,0} all-gather(%p.1), channel_id=7, replica_groups=GROUPS
}

%all-reduce-scatter.3 (p.2: f32[8,8]) -> f32[2,8] {
  %p.2 = f32[8,8]{1,0} parameter(0)
  %all-reduce.9 = f32[8,8]{1,0} all-reduce(%p.2), channel_id=8, replica_groups=[1,4]<=[4], to_apply=%add
  ROOT %cut = f32[2,8]{1,0} dynamic-slice(%all-reduce.9), dynamic_slice_sizes={2,8}
}

%body (arg: (s32[], f32[4,8])) -> (s32[], f32[4,8]) {
  %arg = (s32[], f32[4,8]{1,0}) parameter(0)
  %fusion.1 = f32[8,8]{1,0} fusion(%arg), kind=kCustom, calls=%gathers
  %fusion.2 = f32[8,8]{1,0} fusion(%arg), kind=kCustom, calls=%gathers.still
  ROOT %fusion.3 = f32[2,8]{1,0} fusion(%fusion.2), kind=kCustom, calls=%all-reduce-scatter.3
}

%condition (arg.1: (s32[], f32[4,8])) -> pred[] {
  %bound = s32[]{:T(128)} constant(3)
  %arg.1 = (s32[], f32[4,8]{1,0}) parameter(0)
  %i = s32[]{:T(128)} get-tuple-element(%arg.1), index=0
  ROOT %less = pred[]{:T(512)} compare(%i, %bound), direction=LT, metadata={op_name="while/cond"}
}

ENTRY %main (x: f32[4,8]) -> f32[4,8] {
  %x = f32[4,8]{1,0} parameter(0)
  %kernel.5 = f32[4,8] custom-call(%x), custom_call_target="CALL", metadata={op_name="jit/splash_attention"}
  %while.1 = (s32[], f32[4,8]{1,0}) while(%x), condition=%condition, body=%body
  %while.2 = (s32[], f32[4,8]{1,0}) while(%x), condition=%condition, body=%body
  %out = (f32[2,8], u32[], token[]) send(%x), channel_id=7, FRONTEND
  ROOT %t = (f32[4,8], f32[4,8], u32[], u32[]) collective-permute-start(%x), source_target_pairs={{0,1},{1,0}}
}
"""


SEND = 'is_host_transfer=true, frontend_attributes={_xla_megascale_transfer_type="ALL_REDUCE"}'


def tpu_text(groups="[2,2]<=[4]", call="tpu_custom_call"):
    return TPU_TEXT.replace("GROUPS", groups).replace("CALL", call).replace("FRONTEND", SEND)


@pytest.fixture(scope="module")
def compiled():
    """A chain of layers in a scan, parameters spread over two chips, the batch over eight."""
    mesh = make_mesh({"data": 4, "fsdp": 2, "tensor": 1})

    def loss(kernels, x):
        def layer(x, kernel):
            return jnp.tanh(x @ kernel), None

        return (jax.lax.scan(layer, x, kernels)[0] ** 2).mean()

    def shape(axes, *sizes):
        return jax.ShapeDtypeStruct(sizes, jnp.float32, sharding=NamedSharding(mesh, PartitionSpec(*axes)))

    kernels, x = shape((None, "fsdp"), LAYERS, WIDTH, WIDTH), shape((("data", "fsdp"),), ROWS, WIDTH)
    step = jax.jit(jax.grad(loss), out_shardings=kernels.sharding)
    return step.lower(kernels, x).compile()


def test_messages_of_a_loop_count_as_often_as_it_runs(compiled):
    found = program(compiled.as_text())
    assert found.unknown_loops == 0
    messages = collectives(found, 8)
    # Gradients of all layers go round between the replicas; how they are split over kinds is XLA's choice.
    kernel = WIDTH * WIDTH * 4 / 2**30
    assert messages["all-reduce"]["count"] >= LAYERS
    total = sum(entry["gib"] for entry in messages.values())
    assert 2 * LAYERS * kernel * 0.5 < total < 8 * LAYERS * kernel * 7 / 8
    assert all(entry["network_gib"] == 0 for entry in messages.values())


def test_between_slices_only_what_crosses_them_is_network(compiled):
    found = program(compiled.as_text())
    messages = collectives(found, 8, num_slices=2)
    assert 0 < messages["all-reduce"]["network_gib"] < messages["all-reduce"]["gib"]


def test_lines_of_the_tpu_compiler():
    found = program(tpu_text())
    assert found.times["body"] == 6 and found.unknown_loops == 0
    messages = collectives(found, 4, num_slices=2)
    assert {kind: (entry["count"], entry["gib"] * 2**30) for kind, entry in messages.items()} == {
        "all-gather": (6, 6 * 256 / 2),
        "reduce-scatter": (6, 6 * 256 * 3 / 4),
        "collective-permute": (1, 128 + 4),
        "hosts-all-reduce": (1, 64 * 2 / 2),
    }


@pytest.mark.parametrize(
    ("groups", "crossing"),
    [
        ("{{0,1},{2,3}}", 0.0),
        ("{{0,2},{1,3}}", 1.0),
        ("[2,2]<=[4]", 0.0),
        ("[2,2]<=[2,2]T(1,0)", 1.0),
        ("mesh['a'=2,'b'=2] {'b'}", 0.0),
        ("mesh['a'=2,'b'=2] {'a'}", 1.0),
        ("mesh['a'=4,'b'=1] {'b','a':(1)2}", 1.0),
        ("mesh['a'=4] {'a':(2)2}", 0.0),
        ("mesh['a'=2,'b'=2], device_ids=([2,2]T(1,0)) {'a'}", 0.0),
        ("{}", 0.5),
    ],
)
def test_groups_in_every_notation(groups, crossing):
    entry = collectives(program(tpu_text(groups)), 4, num_slices=2)["all-gather"]
    size = 4 if groups == "{}" else 2
    assert entry["gib"] * 2**30 == pytest.approx(6 * 256 * (size - 1) / size)
    assert entry["network_gib"] == pytest.approx(crossing * entry["gib"])


def test_the_kernel_of_attention_is_named_where_there_is_one():
    assert attention_kernel(program(tpu_text())) == "splash_attention"
    assert attention_kernel(program(tpu_text(call="Sharding"))) == "xla"
    assert attention_kernel(program(tpu_text(call="__cudnn$fmhaSoftmax"))) == "__cudnn$fmhaSoftmax"


def test_a_loop_of_unknown_length_is_counted():
    found = program(tpu_text().replace("direction=LT", "direction=NE"))
    assert found.unknown_loops == 2 and found.times["body"] == 2
