"""The networks of a task: said to be absent before anything starts, and placed where a mesh wants them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from farsighted_jax.pretrained import folder
from farsighted_jax.pretrained.networks import check_present, load_placed
from farsighted_jax.pretrained.source import located
from farsighted_jax.sharding.mesh import make_mesh
from farsighted_jax.sharding.rules import DEFAULT_RULES, state_shardings, with_shardings


@pytest.fixture
def table(models, tmp_path, monkeypatch):
    """Two models, neither of which has weights yet."""
    monkeypatch.setenv("FARSIGHTED_CACHE", str(tmp_path))
    return {**models, "second": models["tiny"]}


def test_every_absent_network_is_named_with_its_command(table, weights_file, tmp_path):
    with pytest.raises(folder.PretrainedFolderError) as error:
        check_present(["tiny", "second"], table)
    for name in ("tiny", "second"):
        place = tmp_path / "pretrained" / name
        command = f"farsighted convert --model {name} --source someone/tiny --out {place}"
        assert f"{name}: {place}: no converted weights there; run: {command}" in str(error.value)
    folder.convert("tiny", located(str(weights_file)), folder.default_folder("tiny"), models=table)
    check_present(["tiny"], table)
    with pytest.raises(folder.PretrainedFolderError) as error:
        check_present(["tiny", "second"], table)
    assert "--model second" in str(error.value) and "--model tiny" not in str(error.value)


def test_weights_take_the_wanted_dtype_and_places(table, weights_file):
    folder.convert("tiny", located(str(weights_file)), folder.default_folder("tiny"), models=table)
    stored = folder.load("tiny", models=table).params
    mesh = make_mesh({"data": 2, "fsdp": 2, "tensor": 1}, jax.devices()[:4])
    shapes = {"tiny": table["tiny"].abstract_params(jnp.bfloat16)}
    wanted = with_shardings(shapes, state_shardings(mesh, DEFAULT_RULES, shapes))
    loaded = load_placed(wanted, table)
    assert loaded.keys() == {"tiny"}
    jax.tree.map(
        lambda value, want: np.testing.assert_array_equal(value, want.astype(jnp.bfloat16)),
        loaded["tiny"], stored,
    )  # fmt: skip
    assert jax.tree.map(lambda leaf: leaf.sharding, loaded) == jax.tree.map(
        lambda leaf: leaf.sharding, wanted
    )
    split = {leaf.sharding.spec for leaf in jax.tree.leaves(loaded)}
    assert len(split) > 1
