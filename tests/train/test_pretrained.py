"""Networks that were trained elsewhere: loaded once, never trained, kept in the run folder."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy_task

from farsighted_jax.checkpoint import digest, restore
from farsighted_jax.core import tree
from farsighted_jax.core.task import PRETRAINED
from farsighted_jax.sharding.mesh import make_mesh
from farsighted_jax.train import loop

SHAPE = (toy_task.INPUTS, toy_task.INPUTS)


@dataclasses.dataclass(frozen=True)
class BackboneTask(toy_task.ToyTask):
    """The toy task behind a frozen linear map."""

    dtype: str = "bfloat16"

    def pretrained_shapes(self):
        return {"backbone": {"kernel": jax.ShapeDtypeStruct(SHAPE, self.dtype)}}

    def loss(self, params, model_state, batch, key, denominators):
        kernel = params[PRETRAINED]["backbone"]["kernel"].astype(jnp.float32)
        return super().loss(params, model_state, {**batch, "x": batch["x"] @ kernel}, key, denominators)


class Loader:
    """Gives the backbone, placed as wanted, and counts how often it was asked."""

    def __init__(self, shape=SHAPE):
        self.value = np.random.default_rng(0).normal(size=shape).astype(jnp.bfloat16)
        self.wanted = []

    def __call__(self, wanted):
        self.wanted.append(wanted)
        place = wanted["backbone"]["kernel"].sharding
        return {"backbone": {"kernel": jax.device_put(self.value, place)}}


def run(folder, loader, *, task=None, devices=1, init="", **changes):
    mesh = make_mesh({"data": -1, "fsdp": min(devices, 2), "tensor": 1}, jax.devices()[:devices])
    config = toy_task.toy_config(total_steps=4, optimizer__ema_decay=0.9, **changes)
    return loop.train(
        task or BackboneTask(), toy_task.ToyStream(config.batch_size), config, folder,
        mesh=mesh, init=init, load_pretrained=loader,
    )  # fmt: skip


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """(folder, result, loader) of four steps without a stop."""
    folder, loader = tmp_path_factory.mktemp("straight"), Loader()
    return folder, run(folder, loader), loader


def test_they_are_loaded_once_and_keep_every_bit(straight):
    _, result, loader = straight
    assert len(loader.wanted) == 1
    np.testing.assert_array_equal(result.state.frozen[PRETRAINED]["backbone"]["kernel"], loader.value)
    assert result.state.params.keys() == result.state.ema.keys() == {"encoder", "decoder"}
    paths = tree.flat_paths((result.state.opt_state, result.state.params, result.state.ema))
    assert not [path for path in paths if "backbone" in path]


def test_a_run_folder_holds_them_once_and_weights_are_read_with_them(straight):
    folder, _, loader = straight
    manifests = {
        path.parent.name: json.loads(path.read_text())["body"] for path in folder.rglob("manifest.json")
    }
    assert manifests.keys() == {"frozen", "4"}
    assert manifests["frozen"]["digests"]["params"].keys() == {"pretrained/backbone/kernel"}
    assert "backbone" not in json.dumps(manifests["4"]["digests"])
    assert manifests["4"]["frozen"] == digest.tree_digest(manifests["frozen"]["digests"]["params"])
    params = restore.read_weights(folder)[1]["params"]
    assert params.keys() == {"encoder", "decoder", PRETRAINED}
    np.testing.assert_array_equal(params[PRETRAINED]["backbone"]["kernel"], loader.value)


@pytest.mark.parametrize("devices", [1, 4])
def test_resuming_needs_no_loader_and_changes_no_bit(straight, tmp_path, devices):
    run(tmp_path, Loader(), stop_step=2)
    resumed = run(tmp_path, None, devices=devices)
    if devices == 1:
        assert resumed.state_digest == straight[1].state_digest
    kernel = resumed.state.frozen[PRETRAINED]["backbone"]["kernel"]
    np.testing.assert_array_equal(kernel, straight[2].value)
    assert len(kernel.addressable_shards) == devices
    assert {shard.data.shape for shard in kernel.addressable_shards} == {
        (SHAPE[0] // min(devices, 2), SHAPE[1])
    }


def test_freezing_by_pattern_works_beside_them(tmp_path):
    result = run(tmp_path, Loader(), optimizer__freeze=("^encoder/",), stop_step=1)
    assert result.state.params.keys() == {"decoder"}
    assert result.state.frozen.keys() == {"encoder", PRETRAINED}
    again = run(tmp_path, None, optimizer__freeze=("^encoder/",), stop_step=2)
    assert digest.content_digests(again.state.frozen) == digest.content_digests(result.state.frozen)


def test_a_warm_start_takes_those_of_the_other_run_and_loads_what_it_lacks(straight, tmp_path):
    source, _, loader = straight
    warm = run(tmp_path / "warm", None, init=str(source), stop_step=1)
    np.testing.assert_array_equal(warm.state.frozen[PRETRAINED]["backbone"]["kernel"], loader.value)
    without = run(tmp_path / "without", None, task=toy_task.ToyTask(), init=str(source), stop_step=1)
    assert without.state.frozen == {}
    new = Loader()
    added = run(tmp_path / "added", new, init=str(tmp_path / "without"), stop_step=1)
    assert len(new.wanted) == 1 and added.state.frozen.keys() == {PRETRAINED}


def test_a_new_run_without_a_loader_or_with_other_shapes_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"pretrained networks \['backbone'\], but no loader"):
        run(tmp_path, None)
    with pytest.raises(
        restore.StructureError, match=r"backbone/kernel: expected bfloat16\[6, 6\], found .*\[6, 3\]"
    ):
        run(tmp_path, Loader((6, 3)))
    assert not (tmp_path / "metrics.jsonl").exists()
