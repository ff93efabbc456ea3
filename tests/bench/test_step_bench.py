"""The bench of the training step: what it reports on a tiny model, and what it says where it cannot know."""

import json
import math

import jax
import numpy as np
import pytest
from tiny_networks import PATCH, TOKEN_WIDTH, use_tiny_networks

from farsighted_jax.bench import devices, flops, step
from farsighted_jax.bench.parts import lam_parts
from farsighted_jax.cli import bench
from farsighted_jax.cli.run import task_for
from farsighted_jax.core import config as config_lib
from farsighted_jax.core import tree
from farsighted_jax.core.batch import check
from farsighted_jax.core.task import PRETRAINED
from farsighted_jax.lam.model import VARIANTS
from farsighted_jax.sharding.mesh import MeshError


@pytest.fixture(scope="module")
def config():
    config = config_lib.load("configs/lam_pretrain.py:tiny")
    config.batch_size, config.data.resolution, config.data.offsets_s = 4, 16, (0.2, 0.4)
    config.model.head, config.model.unroll, config.model.num_keypoints = "pixels", 1, 0
    config.model.num_slots, config.optimizer.accumulation = 3, 2
    config.model.image_encoder, config.model.patch, config.loss.lpips = "dinov2-tiny", PATCH, 1.0
    return config


@pytest.fixture(scope="module")
def small():
    """Sizes smaller than any that is shipped, for the compiler's sake."""
    patch = pytest.MonkeyPatch()
    use_tiny_networks(patch)
    patch.setitem(VARIANTS, "tiny", {"width": 8, "encoder_depth": 1, "decoder_depth": 1, "num_heads": 2})
    yield
    patch.undo()


@pytest.fixture(scope="module")
def measured(config, small):
    lines = []
    found = step.run(
        task_for(config), config, steps=3, warm_up=1, devices=jax.devices()[:1], report=lines.append
    )
    return found, lines


def test_the_bench_reports_rate_parts_memory_and_count(measured, config, small):
    found, lines = measured
    assert json.loads(json.dumps(found)) == found
    assert found["samples_per_s"] == pytest.approx(4e3 / found["step_ms"], rel=0.01)
    assert found["step_ms_range"][0] <= found["step_ms"] <= found["step_ms_range"][1]
    parts = ["frozen_encoder", "encoder", "decoder", "lpips"]
    assert list(found["parts"]) == parts and set(found["flops_per_sample"]["step_parts"]) == set(parts)
    for part in found["parts"].values():
        assert part["share"] == pytest.approx(part["ms"] / found["step_ms"], rel=0.05) and part["ms"] > 0
    count = sum(part.step for part in flops.lam_flops(config).values())
    assert found["flops_per_sample"]["step"] == count
    assert found["tflop_per_s"] == pytest.approx(found["samples_per_s"] * count / 1e12, abs=1e-4)
    assert found["memory/program_mb"] > 12 * found["trainable_params"] / 2**20, "weights and two moments"
    assert found["compile_s"] > 0 and math.isfinite(found["loss"]) and found["device"]["count"] == 1
    assert lines == ["compiling the step", *(f"compiling the part {name!r}" for name in parts)]
    assert found["frozen_params"] == tree.num_elements(task_for(config).pretrained_shapes()) > 0


def test_a_device_without_a_known_peak_gets_no_utilization(measured):
    found, _ = measured
    assert found["mfu"] is None and found["peak_tflop_per_s"] is None
    assert found["mfu_note"] == "no peak is known of a device of kind 'cpu'"


def test_a_batch_that_does_not_divide_is_refused_before_anything_is_compiled(config, small):
    with pytest.raises(MeshError, match="batch size 4.*16"):
        step.run(task_for(config), config)


@pytest.mark.parametrize(
    ("kind", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA A100-SXM4-40GB", 312e12),
        ("NVIDIA H200", 989e12),
        ("TPU v4", 275e12),
        ("TPU v5 lite", 197e12),
        ("TPU v5", 459e12),
        ("TPU v5p", 459e12),
        ("TPU v6 lite", 918e12),
        ("NVIDIA H100 PCIe", None),
        ("NVIDIA H200 NVL", None),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", None),
        ("TPU v4 lite", None),
        ("cpu", None),
    ],
)
def test_peaks_are_those_of_exactly_the_named_device(kind, peak):
    assert devices.peak_flops(kind) == peak


def test_utilization_is_a_share_of_all_devices_in_bfloat16_alone():
    share, note = devices.utilization(275e12, "TPU v4", 4, "bfloat16")
    assert share == 0.25 and not note
    share, note = devices.utilization(275e12, "TPU v4", 4, "float32")
    assert share is None and "float32" in note


def test_frozen_parameters_leave_no_utilization(config, small):
    frozen = config_lib.from_json(config_lib.to_json(config))
    frozen.model.dtype = "bfloat16"
    assert step._arithmetic(frozen, 10.0, "TPU v4", 1)["mfu"] == pytest.approx(0, abs=1e-4)
    frozen.optimizer.freeze = ("^encoder/",)
    found = step._arithmetic(frozen, 10.0, "TPU v4", 1)
    assert found["mfu"] is None and "optimizer.freeze" in found["mfu_note"]


def test_the_random_batch_keeps_the_contract(config):
    changed = config_lib.from_json(config_lib.to_json(config))
    changed.data.windows_per_episode = 2
    batch = step.random_batch(changed, 6)
    assert check(batch, values=True) == {"B": 6, "T": 3, "H": 16, "W": 16}
    assert batch["episode"].tolist() == [0, 0, 1, 1, 2, 2] and batch["step"].tolist() == [0, 1] * 3
    assert len(np.unique(batch["rgb"])) > 200
    changed.data.depth = "off"
    assert "depth" not in step.random_batch(changed, 1)


def test_parts_together_reach_every_parameter_of_the_model(config, small):
    task, batch = task_for(config), step.random_batch(config, 2)
    params, _ = jax.eval_shape(task.init, jax.random.key(0), batch)
    networks = {PRETRAINED: task.pretrained_shapes()}
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), params | networks)
    parts = lam_parts(task, zeros, batch)
    assert set(parts["encoder"].learned) | set(parts["decoder"].learned[0]) == set(params)
    frozen = [set(parts[name].given[0][PRETRAINED]) for name in ("frozen_encoder", "lpips")]
    assert frozen[0] | frozen[1] == set(networks[PRETRAINED])
    assert {part.times for part in parts.values()} == {1}
    for name in ("encoder", "decoder", "lpips"):
        part = parts[name]
        (gradient,) = jax.eval_shape(part.passes, part.learned, part.given)
        assert jax.tree.structure(gradient) == jax.tree.structure(part.learned)


def test_a_part_is_absent_where_the_configuration_has_it_not(config, small):
    plain = config_lib.from_json(config_lib.to_json(config))
    plain.model.image_encoder, plain.loss.lpips = "patch", 0.0
    plain.loss.contrastive, plain.data.windows_per_episode, plain.optimizer.accumulation = 0.1, 2, 1
    task, batch = task_for(plain), step.random_batch(plain, 2)
    params, _ = jax.eval_shape(task.init, jax.random.key(0), batch)
    parts = lam_parts(task, jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), params), batch)
    assert {name: part.times for name, part in parts.items()} == {"encoder": 2, "decoder": 1}
    assert set(parts) == set(flops.lam_flops(plain))


def test_stored_tokens_take_the_place_of_the_encoder(config, small):
    stored = config_lib.from_json(config_lib.to_json(config))
    stored.data.image_features = "features"
    task, batch = task_for(stored), step.random_batch(stored, 2)
    sizes = check(batch, values=True)
    assert (sizes["N"], sizes["E"]) == (16, TOKEN_WIDTH) and len(np.unique(batch["image_token"])) > 200
    params, _ = jax.eval_shape(task.init, jax.random.key(0), batch)
    networks = {PRETRAINED: task.pretrained_shapes()}
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), params | networks)
    assert (
        set(lam_parts(task, zeros, batch)) == set(flops.lam_flops(stored)) == {"encoder", "decoder", "lpips"}
    )


def test_no_step_to_time_is_a_mistake(capsys):
    with pytest.raises(SystemExit) as stopped:
        bench.main(["step", "--config", "configs/smoke.py", "--steps", "0"])
    assert stopped.value.code == 2 and "--steps is 0" in capsys.readouterr().err
