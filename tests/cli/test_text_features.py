"""`farsighted text-features`, and what its folder is to a configuration and to a training step."""

import functools
import json
import shutil

import jax
import numpy as np
import pytest
from rlds_writer import write_rlds
from source_tree import ROOT
from tiny_networks import random_network
from tiny_text import tiny_text

from data_pipelines.rlds import spec_of
from data_pipelines.stream import open_stream
from data_pipelines.text_features import ABOUT, TextFeatureError, TextFeatures
from farsighted_jax.cli import policy_run, text_features, train
from farsighted_jax.cli.main import main
from farsighted_jax.cli.run import parts_for, read_run, stream_for, zero_batch
from farsighted_jax.core import config as config_lib
from farsighted_jax.core.config import ConfigError
from farsighted_jax.core.task import PRETRAINED
from farsighted_jax.policy.task import policy_task
from farsighted_jax.pretrained import folder as pretrained_folder
from farsighted_jax.pretrained.folder import PretrainedFolderError
from farsighted_jax.pretrained.models import MODELS
from farsighted_jax.sharding import mesh
from farsighted_jax.train.resume import ResumeError

pytest.importorskip("safetensors", reason="pip install -e '.[convert]'")

TEXTS = ("move the orange block", "", "some blocks.", "move  the orange block")


def told(split, episode, steps):
    for step in steps:
        step["language_instruction"] = TEXTS[episode] if split == "train" else "move some"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a dataset, a tokenizer and, where they are looked for, the weights of a T5."""
    with tiny_text(tmp_path_factory.mktemp("text"), width=16) as folder:
        write_rlds(folder, lengths={"train": (4, 3, 3, 5), "val": (4,)}, size=(16, 16), edit=told)
        yield folder


def told_config(place, **changes):
    """A policy with nothing but a text and pixels for an action."""
    config = config_lib.load(str(ROOT / "configs/policy_finetune.py:tiny"))
    named = {
        "data.dir": str(place), "data.mixture": "tiny", "data.resolution": 16, "data.offsets_s": (0.2, 0.4),
        "data.text_tokenizer": str(place / "tokenizer.json"), "data.text_length": 7, "model.unroll": 1,
        "model.image_encoder": "patch", "model.text_encoder": "t5-tiny", "model.num_keypoints": 0,
        "model.plan": False, "model.vision": False, "model.action_context": True,
    }  # fmt: skip
    config_lib.change(config, named | {key.replace("__", "."): value for key, value in changes.items()})
    return config


@pytest.fixture(scope="module")
def features(place):
    text_features.run(told_config(place), place / "features", batch_size=3, report=lambda line: None)
    return place / "features"


def test_every_split_is_encoded_as_the_encoder_does_it(place, features):
    found, config = TextFeatures(features), told_config(place)
    about = json.loads((features / ABOUT).read_text())
    # Two texts of the training split differ by a space, which is no token.
    assert about["count"] == 4 and sorted(about["sources"].values()) == ["tiny:train", "tiny:val"]
    assert about["digest"] == pretrained_folder.load("t5-tiny").about["digest"]
    batches = [
        open_stream({**config.data, "split": name}, batch_size=4, seed=0).batch(0)
        for name in ("train", "val")
    ]
    text_BL, valid_BL = (
        np.concatenate([batch[name] for batch in batches]) for name in ("text", "text_valid")
    )
    module = MODELS["t5-tiny"].module()
    expected_BLE = module.apply({"params": random_network("t5-tiny")}, text_BL, valid_BL)
    assert len({row.tobytes() for row in text_BL}) >= 3
    for text_L, valid_L, expected_LE in zip(text_BL, valid_BL, expected_BLE, strict=True):
        vector_LE = np.zeros((7, about["width"]), np.float32)
        found.write(text_L, valid_L, vector_LE)
        np.testing.assert_allclose(vector_LE, expected_LE, atol=1e-6)
        assert np.abs(vector_LE[valid_L]).min() > 0


def test_the_command_goes_on_where_it_ended(place, tmp_path, monkeypatch, capsys):
    out = tmp_path / "features"
    text_features.run(told_config(place), out, splits=("val",), report=lambda line: None)
    assert json.loads((out / ABOUT).read_text())["count"] == 2
    monkeypatch.setattr(text_features, "TEXTS_PER_FILE", 1)
    text_features.run(told_config(place), out)
    said = capsys.readouterr().out
    assert "tiny:train: 3 distinct texts, 2 of them encoded now" in said
    assert "tiny:val: 2 distinct texts, 0 of them encoded now" in said
    assert len(list(out.glob("*.safetensors"))) == 3


@pytest.mark.parametrize(
    ("changes", "splits", "named"),
    [
        ({"model__text_encoder": "own"}, (), "model.text_encoder.*'own' is not one of.*'t5-tiny'"),
        ({"data__text_tokenizer": "bytes"}, (), "data.text_tokenizer' is 'bytes'.*expected its tokenizer"),
        ({"model__text_encoder": "t5-base"}, (), "no converted weights there; run: farsighted convert"),
        ({}, ("train[:2]",), r"'train\[:2\]' is a slice"),
        ({}, ("test",), "no split 'test'"),
    ],
)
def test_what_cannot_be_encoded_is_named(place, tmp_path, changes, splits, named):
    with pytest.raises(ValueError, match=named):
        text_features.run(told_config(place, **changes), tmp_path / "features", splits=splits)
    assert not (tmp_path / "features").exists()


def test_the_command_line(place, tmp_path, capsys):
    config = str(ROOT / "configs/policy_finetune.py:tiny")
    changes = [
        f"--config.data.dir={place}",
        "--config.data.mixture=tiny",
        "--config.model.text_encoder=t5-tiny",
    ]
    tokenizer = f"--config.data.text_tokenizer={place / 'tokenizer.json'}"
    out = ["--out", str(tmp_path / "features"), "--split", "val"]
    assert main(["text-features", "--config", config, *changes, tokenizer, *out]) == 0
    assert "2 texts" in capsys.readouterr().out
    assert main(["text-features", "--config", config, *changes, *out]) == 2
    assert "'data.text_tokenizer' is 'bytes'" in capsys.readouterr().err
    assert main(["text-features", "--config", str(ROOT / "configs/lam_pretrain.py:tiny"), *out]) == 2
    assert "'model.text_encoder': '' is not one of" in capsys.readouterr().err


def gradients_of(config):
    """The task, and (parameters, batch) -> loss and gradient of a training step."""
    task = policy_task(config, None, {"tiny": spec_of(config.data.dir, "tiny")})
    networks = {name: random_network(name) for name in task.pretrained_shapes()}

    def loss(params, networks, batch):
        whole = {**params, PRETRAINED: networks}
        return task.loss(whole, {}, batch, jax.random.key(0), task.denominators(batch))[0]

    gradient = jax.jit(jax.value_and_grad(loss))
    return task, lambda params, batch: gradient(params, networks, batch)


def far_apart(found, wanted):
    """Largest difference in any parameter's gradient, relative to the largest value in it."""

    def relative(found, wanted):
        return np.abs(found - wanted).max() / max(np.abs(wanted).max(), 1e-6)

    return max(jax.tree.leaves(jax.tree.map(relative, found, wanted)))


def test_a_step_learns_the_same_from_stored_vectors(place, features):
    task, gradient = gradients_of(told_config(place))
    config = told_config(place, data__text_features=str(features))
    stored, stored_gradient = gradients_of(config)
    assert set(task.pretrained_shapes()) == {"t5-tiny"} and stored.pretrained_shapes() == {}
    batch = open_stream(config.data, batch_size=8, seed=0).batch(0) | {"row": np.arange(8, dtype=np.int32)}
    assert len(np.unique(batch["text"], axis=0)) >= 3
    shapes, _ = jax.eval_shape(task.init, jax.random.key(0), batch)
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: rng.normal(0, 0.1, leaf.shape).astype(leaf.dtype), shapes)
    wanted, found = gradient(params, batch), stored_gradient(params, batch)
    np.testing.assert_allclose(found[0], wanted[0], rtol=1e-6)
    assert far_apart(found[1], wanted[1]) < 1e-5
    other = stored_gradient(params, batch | {"text_vector": -batch["text_vector"]})
    assert far_apart(other[1], wanted[1]) > 0.1


def test_half_precision_vectors_are_those_of_the_step(place, tmp_path):
    config = told_config(place, model__dtype="bfloat16")
    text_features.run(config, tmp_path / "features", splits=("train",), report=lambda line: None)
    config.data.text_features = str(tmp_path / "features")
    batch, specs = open_stream(config.data, batch_size=4, seed=0).batch(0), {"tiny": spec_of(place, "tiny")}
    stored = policy_task(config, None, specs).observation({}, batch).text_BLE
    config.data.text_features = ""
    params = {"t5-tiny": pretrained_folder.load("t5-tiny", dtype="bfloat16").params}
    ran = policy_task(config, None, specs).observation({PRETRAINED: params}, batch).text_BLE
    assert stored.dtype == ran.dtype == "bfloat16"
    np.testing.assert_allclose(stored.astype(np.float32), ran.astype(np.float32), rtol=0.02, atol=0.02)


def test_a_configuration_takes_vectors_of_its_own_encoder_alone(place, features):
    config = told_config(place, data__text_features=str(features))
    run = policy_run.policy_run(config)
    assert json.loads(run.documents()[ABOUT]) == dict(run.text)
    assert zero_batch(config, run.task)["text_vector"].shape == (1, 7, run.text["width"])
    parts_for(config).check_stream(stream_for(config))
    config.model.dtype = "bfloat16"
    with pytest.raises(TextFeatureError, match="dtype: 'float32' -> 'bfloat16'"):
        policy_run.policy_run(config)
    config.model.text_encoder, config.data.text_tokenizer = "own", "bytes"
    with pytest.raises(ConfigError, match="'data.text_features' is .* but 'model.text_encoder' is 'own'"):
        policy_run.policy_run(config)


@pytest.mark.slow
def test_a_run_trains_and_resumes_without_the_encoder(place, features, tmp_path, monkeypatch, capsys):
    alone = functools.partial(mesh.make_mesh, devices=jax.devices()[:1])
    monkeypatch.setattr(mesh, "make_mesh", alone)
    monkeypatch.setenv("FARSIGHTED_CACHE", str(tmp_path / "without-weights"))
    copy = shutil.copytree(features, tmp_path / "features")
    config = told_config(place, data__text_features=str(copy), total_steps=2, batch_size=2, log_every=1)
    straight = train.run(config, tmp_path / "straight")
    config.stop_step = 1
    train.run(config, tmp_path / "parts")
    config.stop_step = 0
    assert train.run(config, tmp_path / "parts").state_digest == straight.state_digest
    assert "resumed from step 1" in capsys.readouterr().out
    run = read_run(tmp_path / "parts")
    assert "text_vector" in run.task.fields and PRETRAINED not in run.params
    config.data.text_features = ""
    with pytest.raises(PretrainedFolderError, match="--model t5-tiny"):
        train.run(config, tmp_path / "other")
    with pytest.raises(ResumeError, match="data.text_features"):
        train.run(config, tmp_path / "parts")
    about = json.loads((copy / ABOUT).read_text())
    (copy / ABOUT).write_text(json.dumps(about | {"digest": "e" * 64}))
    config.data.text_features = str(copy)
    with pytest.raises(ConfigError, match="'data.text_features': other vectors than this run.*digest: 'eeee"):
        train.run(config, tmp_path / "parts")


def test_a_warm_start_keeps_to_the_vectors_of_the_first_run(place, features, tmp_path):
    document = json.loads((features / ABOUT).read_text())
    (tmp_path / ABOUT).write_text(json.dumps(document))
    config = told_config(place, data__text_features=str(features), init=str(tmp_path))
    policy_run.policy_run(config)
    (tmp_path / ABOUT).write_text(json.dumps(document | {"digest": "e" * 64}))
    with pytest.raises(
        ConfigError, match="'data.text_features': .*features was made by.*expected eeee.*init"
    ):
        policy_run.policy_run(config)
