import json
import os
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checkpoint_items import abstract_of, items_of
from jax.sharding import NamedSharding, PartitionSpec

from farsighted_jax.checkpoint import digest, manifest, restore
from farsighted_jax.checkpoint.manager import state_digest
from farsighted_jax.sharding.mesh import make_mesh

FROZEN = {"backbone": {"kernel": jnp.arange(6, dtype=jnp.bfloat16).reshape(3, 2)}}


def _same(first, second):
    return digest.content_digests(first) == digest.content_digests(second)


def test_round_trip_gives_the_digest_of_the_save(run_folder):
    folder, digests = run_folder([1, 2])
    step, items, body = restore.restore_newest(folder, abstract_of(items_of(2)))
    assert step == 2 and body["state"] == digests[2]
    assert items.pop("frozen") == {}
    assert _same(items, items_of(2))
    assert state_digest({name: digest.content_digests(item) for name, item in items.items()}) == digests[2]


def test_no_checkpoint_is_none_or_an_error(tmp_path):
    assert restore.restore_newest(tmp_path, abstract_of(items_of(1))) is None
    with pytest.raises(restore.NoCheckpointError, match="no complete checkpoint of any step"):
        restore.read_weights(tmp_path)


def test_other_devices_give_the_same_bits(run_folder):
    folder, _ = run_folder([3])
    mesh = make_mesh({"data": 2, "fsdp": 2, "tensor": 2})
    specs = {(4, 6): PartitionSpec("fsdp", "tensor"), (6,): PartitionSpec("tensor"), (): PartitionSpec()}

    def placed(leaf):
        sharding = NamedSharding(mesh, specs[leaf.shape])
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

    expected = jax.tree.map(placed, items_of(3))
    _, items, _ = restore.restore_newest(folder, expected)
    assert _same({k: v for k, v in items.items() if k != "frozen"}, items_of(3))
    assert items["params"]["dense"]["kernel"].sharding.spec == PartitionSpec("fsdp", "tensor")


def test_structure_error_lists_every_path_of_every_item(run_folder):
    folder, _ = run_folder([1])
    other = items_of(1)
    other["params"]["dense"]["kernel"] = jnp.zeros((4, 5))
    other["params"]["head"] = {"bias": jnp.zeros(2)}
    other["optimizer"]["step"] = jnp.float32(0)
    other["ema"] = other["params"]
    del other["params"]["dense"]["bias"], other["model_state"]
    with pytest.raises(restore.StructureError) as error:
        restore.restore_newest(folder, abstract_of(other))
    for line in (
        "params/dense/kernel: expected float32[4, 5], found float32[4, 6]",
        "params/head/bias: expected float32[2], found nothing",
        "params/dense/bias: expected nothing, found float32[6]",
        "optimizer/step: expected float32[], found int32[]",
        "ema/dense/kernel: expected float32[4, 5], found nothing",
        "model_state/count: expected nothing, found int32[6]",
    ):
        assert line in str(error.value)


def test_weights_alone_with_frozen_ones_merged(run_folder):
    folder, _ = run_folder([1, 2], frozen=FROZEN)
    step, weights = restore.read_weights(folder)
    assert step == 2 and _same(weights["params"], items_of(2)["params"] | FROZEN)
    assert _same(weights["model_state"], items_of(2)["model_state"])
    assert restore.read_weights(folder, step=1, items=("params",))[0] == 1
    with pytest.raises(restore.NoCheckpointError, match=r"of step 5; complete steps: \[1, 2\]"):
        restore.read_weights(folder, step=5)


def test_params_are_readable_where_other_items_are_damaged(run_folder):
    folder, _ = run_folder([1])
    shutil.rmtree(folder / "checkpoints" / "1" / "optimizer")
    assert _same(restore.read_weights(folder)[1]["params"], items_of(1)["params"])


def _bytes_read():
    return int(Path("/proc/self/io").read_text().split()[1])


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="the kernel does not count bytes read")
def test_params_alone_read_params_alone(tmp_path):
    from farsighted_jax.checkpoint.manager import CheckpointStore

    params = {"kernel": jax.random.normal(jax.random.key(0), (512, 1024))}
    store = CheckpointStore(tmp_path, keep_last=1, keep_every=0, report=lambda text: None)
    store.save(1, {"params": params, "optimizer": {"mu": params, "nu": params}}, {"config": {}})
    store.close()
    restore.read_weights(tmp_path, items=("params",))
    before = _bytes_read()
    restore.read_weights(tmp_path, items=("params",))
    assert _bytes_read() - before <= 1.05 * params["kernel"].nbytes


def test_frozen_parameters_of_another_run_are_refused(run_folder):
    folder, _ = run_folder([1], frozen=FROZEN)
    other, _ = run_folder(
        [1], name="other", frozen={"backbone": {"kernel": FROZEN["backbone"]["kernel"] * 2}}
    )
    shutil.rmtree(folder / "frozen")
    os.rename(other / "frozen", folder / "frozen")
    with pytest.raises(manifest.CorruptCheckpointError, match="frozen"):
        restore.restore_newest(
            folder, abstract_of(items_of(1) | {"frozen": FROZEN}), report=lambda text: None
        )
    with pytest.raises(manifest.CorruptCheckpointError, match="belongs to"):
        restore.read_weights(folder)


def test_content_is_checked_even_if_the_files_match_their_manifest(run_folder):
    """As if memory had been damaged between the digest and the write."""
    folder, _ = run_folder([1])
    step = folder / "checkpoints" / "1"
    body = manifest.read(step)
    body["digests"]["params"]["dense/bias"] = "float32[6]:0000000000000000"
    (step / manifest.NAME).unlink()
    manifest.write(step, {key: value for key, value in body.items() if key != "files"})
    with pytest.raises(
        manifest.CorruptCheckpointError, match="params: restored values differ:\n  dense/bias"
    ):
        restore.restore_items(step, {"params": abstract_of(items_of(1))["params"]})


def test_documents(run_folder):
    folder, _ = run_folder([1])
    step = folder / "checkpoints" / "1"
    assert restore.read_document(step, "config") == {"seed": 1}
    path = step / "statistics" / "metadata"
    path.write_text(json.dumps({"a": [2.5]}))
    with pytest.raises(manifest.CorruptCheckpointError, match="statistics/metadata"):
        restore.read_document(step, "statistics")


def test_values_survive_to_the_last_bit(run_folder):
    folder, _ = run_folder([1])
    _, weights = restore.read_weights(folder)
    np.testing.assert_array_equal(
        weights["params"]["dense"]["kernel"], items_of(1)["params"]["dense"]["kernel"]
    )
