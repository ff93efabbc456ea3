"""`farsighted image-features`, and what its folder is to a configuration, a training step and a run."""

import functools
import json
import shutil

import jax
import numpy as np
import pytest
from source_tree import ROOT
from tiny_networks import PATCH, TOKEN_WIDTH, random_network, use_tiny_networks, write_network
from tool_cases import VARIANT, random_params, tool_config

from data_pipelines import image_features as stored
from data_pipelines.builders import synthetic
from data_pipelines.image_features import ABOUT, ImageFeatureError
from farsighted_jax.checkpoint.manager import CheckpointStore
from farsighted_jax.cli import evaluate, image_features, train
from farsighted_jax.cli.main import main
from farsighted_jax.cli.run import parts_for, read_run, stream_for
from farsighted_jax.core.config import ConfigError
from farsighted_jax.core.task import PRETRAINED
from farsighted_jax.lam.model import VARIANTS
from farsighted_jax.lam.task import lam_task
from farsighted_jax.pretrained.models import MODELS
from farsighted_jax.sharding import mesh
from farsighted_jax.train.resume import ResumeError

NAME, ENCODER, STEPS, EPISODES, N = "synthetic_easy", "dinov2-tiny", 6, 4, 16
# Two episodes a shard.
SHARD_BYTES = 2 * STEPS * N * TOKEN_WIDTH * 2


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with procedural scenes and, where they are looked for, the weights of an image encoder."""
    folder = tmp_path_factory.mktemp("features")
    synthetic.write_dataset(folder, "easy", num_train=EPISODES, num_val=2, num_steps=STEPS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FARSIGHTED_CACHE", str(folder / "cache"))
        use_tiny_networks(patch)
        patch.setitem(VARIANTS, "tiny", VARIANT)
        patch.setattr(stored, "SHARD_BYTES", SHARD_BYTES)
        write_network(ENCODER)
        yield folder


def lam_config(place, **changes):
    config = tool_config(place)
    config.data.mixture, config.data.offsets_s, config.data.depth = NAME, (0.2, 0.4), "off"
    config.model.image_encoder, config.model.patch, config.model.num_keypoints = ENCODER, PATCH, 0
    config.batch_size, config.total_steps, config.log_every = 8, 2, 1
    # The stored tokens are a target too.
    config.loss.feature = 0.5
    for key, value in changes.items():
        section, _, name = key.rpartition("__")
        (config[section] if section else config)[name] = value
    return config


def compute(config, out, **options):
    lines = []
    (folder,) = image_features.run(config, out, batch_size=16, report=lines.append, **options)
    return folder, lines


@pytest.fixture(scope="module")
def features(place):
    compute(lam_config(place), place / "stored")
    return place / "stored"


@pytest.fixture(scope="module")
def batch(place, features):
    found = stream_for(lam_config(place, data__image_features=str(features))).batch(0)
    return found | {"row": np.arange(8, dtype=np.int32)}


def as_float(bits):
    return (bits.astype(np.uint32) << 16).view(np.float32)


def test_every_frame_has_the_tokens_that_the_encoder_gives_it(batch):
    assert batch["image_token"].shape == (8, 3, N, TOKEN_WIDTH) and not batch["frame_valid"].all()
    rgb_BHWC = batch["rgb"].reshape(-1, 16, 16, 3) / np.float32(255)
    module = MODELS[ENCODER].module()
    expected, _ = jax.jit(module.apply)({"params": random_network(ENCODER)}, rgb_BHWC)
    expected = np.asarray(expected).reshape(batch["image_token"].shape)
    for row, k in np.argwhere(batch["frame_valid"]):
        np.testing.assert_allclose(
            as_float(batch["image_token"][row, k]), expected[row, k], rtol=2**-8, atol=1e-5
        )
    assert np.abs(expected[0, 0] - expected[0, 1]).max() > 0.05


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_killed_command_goes_on_and_hosts_give_the_same_bytes(place, features, tmp_path, monkeypatch):
    whole = stored.split_folder(features, NAME, "train")
    assert len(list(whole.glob("*.array_record"))) == 2
    write = stored.ImageFeatureWriter.write

    def killed(self, shard, frames):
        if shard == 1:
            next(iter(frames))
            raise KeyboardInterrupt
        write(self, shard, frames)

    monkeypatch.setattr(stored.ImageFeatureWriter, "write", killed)
    with pytest.raises(KeyboardInterrupt):
        compute(lam_config(place), tmp_path / "killed")
    monkeypatch.setattr(stored.ImageFeatureWriter, "write", write)
    folder, lines = compute(lam_config(place), tmp_path / "killed")
    assert lines[0] == f"{NAME}:train: shard 0 of 2: done before, verified"
    assert f"shard 1 of 2: 2 episodes, {2 * STEPS} frames" in lines[1] and lines[2].endswith("complete")
    assert contents(folder) == contents(whole)
    folder, lines = compute(lam_config(place), tmp_path / "hosts", process=(1, 2))
    assert lines[-2].endswith("other hosts are not done yet")
    assert compute(lam_config(place), tmp_path / "hosts", process=(0, 2))[1][-2].endswith("complete")
    assert contents(folder) == contents(whole)


@pytest.fixture(scope="module")
def gradient(place):
    """(networks' weights, batch) -> loss and gradient of a training step, of random parameters."""
    task = lam_task(lam_config(place))

    def loss(params, networks, state, batch):
        whole = {**params, PRETRAINED: networks}
        return task.loss(whole, state, batch, jax.random.key(0), task.denominators(batch))[0]

    compiled = jax.jit(jax.value_and_grad(loss))

    def call(networks, batch):
        shapes, state = jax.eval_shape(task.init, jax.random.key(0), batch)
        params, state = (
            random_params(shapes),
            jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), state),
        )
        state["codebook"] = np.random.default_rng(1).normal(size=state["codebook"].shape).astype(np.float32)
        return compiled(params, networks, state, batch)

    return call


def far_apart(found, wanted):
    """Largest difference in any parameter's gradient, relative to the largest value in it."""

    def relative(found, wanted):
        return np.abs(found - wanted).max() / max(np.abs(wanted).max(), 1e-6)

    return max(jax.tree.leaves(jax.tree.map(relative, found, wanted)))


def test_a_step_learns_the_same_from_stored_tokens(batch, gradient):
    own, other = ({ENCODER: random_network(ENCODER, seed=seed)} for seed in (0, 1))
    bare = {name: array for name, array in batch.items() if name != "image_token"}
    wanted, found = gradient(own, bare), gradient(own, batch)
    np.testing.assert_allclose(found[0], wanted[0], rtol=2**-8)
    assert far_apart(found[1], wanted[1]) < 0.05
    # The stored tokens are read, and the encoder is not.
    jax.tree.map(np.testing.assert_array_equal, found, gradient(other, batch))
    assert far_apart(gradient(other, bare)[1], wanted[1]) > 0.2
    shuffled = batch | {"image_token": batch["image_token"][::-1]}
    assert far_apart(gradient(own, shuffled)[1], wanted[1]) > 0.2


def test_half_precision_tokens_are_those_of_the_step(place, tmp_path):
    config = lam_config(place, model__dtype="bfloat16")
    compute(config, tmp_path)
    config.data.image_features = str(tmp_path)
    batch, task = stream_for(config).batch(0), lam_task(config)
    weights = random_network(ENCODER)
    params = {PRETRAINED: {ENCODER: jax.tree.map(lambda leaf: leaf.astype("bfloat16"), weights)}}
    expected = jax.jit(task.networks.tokens)(params, batch["rgb"].reshape(-1, 16, 16, 3))
    valid = batch["frame_valid"].reshape(-1)
    found = as_float(batch["image_token"].reshape(expected.shape))[valid]
    np.testing.assert_array_equal(found, np.asarray(expected, np.float32)[valid])


def test_the_encoder_of_the_tokens_must_be_that_of_the_run(place, features, tmp_path):
    config = lam_config(place, data__image_features=str(features))
    stream = stream_for(config)
    parts_for(config).check_stream(stream)
    with pytest.raises(ConfigError, match="digest: '.*' -> '.*'; dtype: 'float32' -> 'bfloat16'; run"):
        parts_for(lam_config(place, data__image_features="x", model__dtype="bfloat16")).check_stream(stream)
    # A run that goes on, or starts from another, has weights of its own.
    for seed in (0, 1):
        store = CheckpointStore(tmp_path / str(seed), keep_last=1, keep_every=0)
        store.save_frozen({PRETRAINED: {ENCODER: random_network(ENCODER, seed)}})
        store.close()
    warm = {
        seed: lam_config(place, data__image_features="x", init=str(tmp_path / str(seed))) for seed in (0, 1)
    }
    parts_for(warm[0]).check_stream(stream)
    parts_for(config, tmp_path / "0").check_stream(stream)
    for parts in (parts_for(warm[1]), parts_for(config, tmp_path / "1")):
        with pytest.raises(ConfigError, match="another encoder than this run's, found -> expected: digest"):
            parts.check_stream(stream)


def test_tokens_of_another_resolution_are_refused(place, features):
    with pytest.raises(ImageFeatureError, match="preprocessing.resolution: 16 -> 12"):
        stream_for(lam_config(place, data__image_features=str(features), data__resolution=12))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"model__image_encoder": "patch", "loss__feature": 0.0}, "'model.image_encoder' is 'patch'"),
        (
            {"loss__contrastive": 0.1, "data__windows_per_episode": 2},
            "'loss.contrastive' is on, whose second",
        ),
        ({"data__augment": True, "data__jitter": 0.1}, "'data.augment' is on.*data.jitter = 0.1"),
    ],
)
def test_a_configuration_whose_tokens_would_be_others_is_refused(place, features, changes, named):
    config = lam_config(place, data__image_features=str(features), **changes)
    with pytest.raises(ConfigError, match=f"'data.image_features' is .*{named}"):
        lam_task(config)
        stream_for(config)


def test_the_command_line(place, tmp_path, capsys):
    changes = [f"--config.data.dir={place}", f"--config.data.mixture={NAME}", "--config.data.resolution=16"]
    changes += [f"--config.model.image_encoder={ENCODER}", f"--config.model.patch={PATCH}"]
    config = ["image-features", "--config", str(ROOT / "configs/lam_pretrain.py:tiny")]
    out = ["--out", str(tmp_path / "features"), "--split", "val"]
    assert main([*config, *changes, *out]) == 0
    assert f"{NAME}:val: {2 * STEPS} frames encoded" in capsys.readouterr().out
    assert (tmp_path / "features" / f"{NAME}_image_features" / "val" / ABOUT).is_file()
    assert main([*config, *changes[:2], *out]) == 2
    assert "'model.image_encoder' is 'patch', which is trained" in capsys.readouterr().err
    assert main([*config, *changes, *out[:3], "val[1:]"]) == 1
    assert "'val[1:]' is a slice" in capsys.readouterr().err
    policy = [*config[:2], str(ROOT / "configs/policy_pretrain.py:tiny"), *out]
    assert main(policy) == 2
    assert "'task': 'policy_pretrain' is not one of ['lam']" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_trains_and_resumes_on_stored_tokens_and_needs_them_no_more(
    place, features, tmp_path, monkeypatch, capsys
):
    alone = functools.partial(mesh.make_mesh, devices=jax.devices()[:1])
    monkeypatch.setattr(mesh, "make_mesh", alone)
    copy = shutil.copytree(features, tmp_path / "features")
    config = lam_config(place, data__image_features=str(copy))
    straight = train.run(config, tmp_path / "straight")
    config.stop_step = 1
    train.run(config, tmp_path / "parts")
    config.stop_step = 0
    assert train.run(config, tmp_path / "parts").state_digest == straight.state_digest
    assert "resumed from step 1" in capsys.readouterr().out
    without = lam_config(place)
    with pytest.raises(ResumeError, match="data.image_features"):
        train.run(without, tmp_path / "parts")
    train.run(without, tmp_path / "without")
    losses = [
        [
            json.loads(line)["train/loss"]
            for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        ]
        for name in ("straight", "without")
    ]
    np.testing.assert_allclose(*losses, rtol=0.01)
    shutil.rmtree(copy)
    run = read_run(tmp_path / "parts")
    assert set(run.params[PRETRAINED]) == {ENCODER}
    result = evaluate.evaluate_run(tmp_path / "parts", evaluators=("reconstruction",))
    assert result["run"]["windows"] > 0
