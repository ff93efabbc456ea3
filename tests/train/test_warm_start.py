"""A partial warm start: what both runs have is taken, the rest is named."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy_task

from farsighted_jax.checkpoint import restore
from farsighted_jax.core import config as config_lib
from farsighted_jax.sharding.mesh import make_mesh
from farsighted_jax.train import loop


class Partial(toy_task.ToyTask):
    """Takes what it knows; has `extra` besides."""

    def init(self, key, batch):
        params, model_state = super().init(key, batch)
        return {**params, "extra": {"inner": {"bias": jnp.full(3, 7.0)}}}, model_state


def run(folder, task, init="", **changes):
    config = toy_task.toy_config(**{"stop_step": 1, **changes})
    mesh = make_mesh(config.mesh, jax.devices()[:1])
    return loop.train(task, toy_task.ToyStream(), config, folder, mesh=mesh, init=init)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("source")
    run(folder, toy_task.ToyTask())
    return folder


def test_what_both_have_is_taken_and_the_rest_named(source, tmp_path, capsys):
    result = run(
        tmp_path, Partial(partial_init=True), str(source), optimizer__freeze=("^decoder/", "^extra/")
    )
    found = restore.read_weights(source)[1]["params"]
    np.testing.assert_array_equal(result.state.frozen["decoder"]["kernel"], found["decoder"]["kernel"])
    np.testing.assert_array_equal(result.state.frozen["extra"]["inner"]["bias"], np.full(3, 7.0))
    assert "fresh: extra\n" in capsys.readouterr().out
    run(tmp_path / "back", toy_task.ToyTask(partial_init=True), str(tmp_path))
    assert "left over: extra\n" in capsys.readouterr().out


def test_another_shape_or_no_common_path_is_refused(source, tmp_path):
    class Wide(toy_task.ToyTask):
        def init(self, key, batch):
            params, model_state = super().init(key, batch)
            return params | {"decoder": {"kernel": jnp.zeros((8, 5)), "bias": jnp.zeros(4)}}, model_state

    class Other(toy_task.ToyTask):
        def init(self, key, batch):
            params, model_state = super().init(key, batch)
            return {"other": params}, model_state

    with pytest.raises(restore.StructureError, match=r"decoder/kernel: .*\[8, 5\], found .*\[8, 4\]"):
        run(tmp_path / "wide", Wide(partial_init=True), str(source))
    with pytest.raises(restore.StructureError, match=r"\['decoder', 'encoder'\] is one of \['other'\]"):
        run(tmp_path / "other", Other(partial_init=True), str(source))


def test_a_run_folder_with_the_old_name_of_the_key_resumes(source, tmp_path):
    run(tmp_path, toy_task.ToyTask())
    path = tmp_path / "config.json"
    values = json.loads(path.read_text())
    values["init_from"] = values.pop("init")
    path.write_text(json.dumps(values))
    assert config_lib.from_json(path.read_text()).init == ""
    assert run(tmp_path, toy_task.ToyTask(), stop_step=2).step == 2
