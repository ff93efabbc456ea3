"""Every shipped configuration, at full size: it loads, its model and its step trace, its size is known."""

import json
from pathlib import Path

import jax
import pytest

from data_pipelines.oxe.registry import spec_for
from farsighted_jax.bench.compare import read
from farsighted_jax.cli.inspect import config_report
from farsighted_jax.cli.run import task_for, zero_batch
from farsighted_jax.core import config as config_lib
from farsighted_jax.core import tree
from farsighted_jax.core.task import PRETRAINED
from farsighted_jax.lam.frozen import LAM, frozen_lam
from farsighted_jax.lam.model import VARIANTS
from farsighted_jax.policy.model import VARIANTS as POLICY_VARIANTS
from farsighted_jax.policy.task import policy_task
from farsighted_jax.rollout.simulators import SIMULATORS
from farsighted_jax.sharding.mesh import make_mesh
from farsighted_jax.sharding.rules import DEFAULT_RULES, state_shardings
from farsighted_jax.train import state as train_state
from farsighted_jax.train.optimizer import decay_mask, make_optimizer
from farsighted_jax.train.step import make_train_step

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = Path(__file__).parent / "golden" / "configs.json"
COMPARISONS = sorted(f"configs/{path.name}" for path in (ROOT / "configs").glob("compare_*.py"))
POLICIES = ("policy_pretrain", "policy_finetune")
DEMO = ("lam", "pretrain", "finetune", "cloner")
MT50 = "configs/metaworld_mt50.py"
MT50_STAGES = ("lam", "pretrain", "finetune", "scratch")
REFERENCES = sorted(
    [f"configs/lam_pretrain.py:{variant}" for variant in VARIANTS]
    + ["configs/lam_synthetic_hard.py", "configs/smoke.py"]
    + [f"{file}:{variant}" for file in COMPARISONS for variant in read(str(ROOT / file)).variants]
    + [f"configs/{name}.py:{variant}" for name in POLICIES for variant in POLICY_VARIANTS]
    + [f"configs/metaworld_demo.py:{stage}" for stage in DEMO]
    + [f"{MT50}:{stage}{options}" for stage in MT50_STAGES for options in ("", "+wrist+ten_minutes")]
)


def load(reference):
    return config_lib.load(str(ROOT / reference))


def task_of(config):
    """The task; that of a policy on Bridge, with a LAM of its variant and clips that nobody has trained."""
    if config.task == "lam":
        return task_for(config)
    if "wrist" in config.data.cameras:
        spec = SIMULATORS["metaworld"].dataset_spec("metaworld_clean", config.data.cameras)
        return policy_task(config, frozen_lam(load(f"{MT50}:lam+ten_minutes")), {spec.name: spec})
    lam = load(f"configs/lam_pretrain.py:{config.model.variant}")
    lam.data.offsets_s, lam.model.depth_input = config.data.offsets_s, config.model.depth_input
    lam.data.resolution, lam.model.patch = config.data.resolution, config.model.patch
    return policy_task(config, frozen_lam(lam), {"bridge_dataset": spec_for("bridge_dataset")})


def test_no_shipped_configuration_is_left_out():
    files = {f"configs/{path.name}" for path in (ROOT / "configs").glob("*.py")}
    assert files == {reference.partition(":")[0] for reference in REFERENCES}


@pytest.fixture(scope="module")
def golden(update_golden):
    """Sizes by configuration, as they were when last looked at."""
    if update_golden:
        GOLDEN.parent.mkdir(exist_ok=True)
        sizes = {reference: sizes_of(load(reference)) for reference in REFERENCES}
        GOLDEN.write_text(json.dumps(sizes, indent=2) + "\n")
    return json.loads(GOLDEN.read_text())


def sizes_of(config):
    report = config_report(config, task_of(config))
    return {name: report[name] for name in ("trainable_params", "frozen_params")}


@pytest.mark.parametrize("reference", REFERENCES)
def test_parameter_counts_are_the_known_ones(reference, golden):
    assert sizes_of(load(reference)) == golden[reference]


def traced():
    """References without those that differ from another one in data and length of training alone."""
    last = {}
    for reference in reversed(REFERENCES):
        config = load(reference)
        batch = [
            config.data[key] for key in ("resolution", "offsets_s", "action_horizon") if key in config.data
        ]
        parts = [
            config.get(name, {}) for name in ("model", "loss", "quantizer", "plan", "flow", "contrastive")
        ]
        last[str((config.task, batch, [sorted(dict(part).items()) for part in parts]))] = reference
    return sorted(last.values())


@pytest.mark.parametrize("reference", traced())
def test_the_loss_traces_at_full_size(reference):
    config = load(reference)
    task = task_of(config)
    index = jax.ShapeDtypeStruct((1,), "int32")
    batch = zero_batch(config, task) | {"row": index, "dataset": index, "episode": index}
    params, state = jax.eval_shape(task.init, jax.random.key(0), zero_batch(config, task))

    def loss(params, frozen, state, batch):
        params = {**params, PRETRAINED: frozen}
        return task.loss(params, state, batch, jax.random.key(0), task.denominators(batch))[0]

    gradient = jax.eval_shape(jax.grad(loss), params, task.pretrained_shapes(), state, batch)
    assert not tree.structure_difference(params, gradient)


def test_the_published_model_takes_a_training_step_at_its_published_size():
    config = load("configs/lam_pretrain.py:paper")
    task, optimizer = task_for(config), make_optimizer(config.optimizer, config.total_steps)
    batch = {
        name: jax.ShapeDtypeStruct((config.batch_size, *array.shape[1:]), array.dtype)
        for name, array in zero_batch(config).items()
    }
    initialize = train_state.initializer(task, optimizer, batch, config)
    mesh = make_mesh({"data": 2, "fsdp": 2, "tensor": 2})
    state = train_state.abstract_state(mesh, DEFAULT_RULES, initialize, task.pretrained_shapes())
    assert tree.num_elements(state.params) == pytest.approx(267e6, rel=0.02)
    assert set(state.frozen[PRETRAINED]) == {"dinov2-vitb14", "vgg16", "lpips-vgg16"}
    after, metrics = jax.eval_shape(make_train_step(task, optimizer), state, batch)
    assert not tree.structure_difference(state, after)
    assert {"rgb", "lpips", "commit"} <= metrics.keys()


def test_a_policy_takes_a_training_step_at_full_size_and_codes_are_made_in_it():
    config = load("configs/policy_finetune.py:base")
    config.model.adapter_rank, config.optimizer.freeze = 8, ("^backbone/",)
    task, optimizer = task_of(config), make_optimizer(config.optimizer, config.total_steps)
    batch = {
        name: jax.ShapeDtypeStruct((config.batch_size, *array.shape[1:]), array.dtype)
        for name, array in zero_batch(config, task).items()
    }
    initialize = train_state.initializer(task, optimizer, batch, config)
    mesh = make_mesh({"data": 2, "fsdp": 2, "tensor": 2})
    state = train_state.abstract_state(mesh, DEFAULT_RULES, initialize, task.pretrained_shapes())
    assert set(state.frozen) == {"backbone", PRETRAINED} and "adapters" in state.params
    assert set(state.frozen[PRETRAINED]) == {LAM, "t5-base", "vgg16", "lpips-vgg16"}
    after, metrics = jax.eval_shape(make_train_step(task, optimizer), state, batch)
    assert not tree.structure_difference(state, after)
    assert {"action", "latent", "vision", "rgb", "lpips", "plan_top1", "action_error"} <= metrics.keys()


@pytest.mark.parametrize("reference", REFERENCES)
def test_every_parameter_has_its_place_on_a_mesh(reference):
    config, mesh = load(reference), make_mesh({"data": 2, "fsdp": 2, "tensor": 2})
    task = task_of(config)
    params, state = jax.eval_shape(task.init, jax.random.key(0), zero_batch(config, task))
    values = {"params": params, "model_state": state, "frozen": task.pretrained_shapes()}
    shardings = state_shardings(mesh, DEFAULT_RULES, values)
    placed = {path: leaf.spec for path, leaf in tree.flat_paths(shardings["params"]).items()}
    split = {path.rpartition("/")[2].rpartition("_")[2] for path, spec in placed.items() if any(spec)}
    assert split == {"kernel"} if config.task == "lam" else split == {"kernel", "embedding"}


def test_depth_that_is_read_must_not_be_off():
    config = load("configs/lam_pretrain.py:tiny")
    config.model.depth_input = "fuse"
    params, _ = jax.eval_shape(task_for(config).init, jax.random.key(0), zero_batch(config))
    assert params["depth_fusion"]["gate"].shape == (VARIANTS["tiny"]["width"],)
    config.data.depth = "off"
    with pytest.raises(
        config_lib.ConfigError, match="data.depth.*'auto' or 'on', or a model.depth_estimator"
    ):
        task_for(config)
    config.model.depth_estimator, config.data.resolution = "depth-anything-vits14", 56
    assert task_for(config).networks.depth_is_relative


def test_a_loss_of_relative_depth_needs_a_network_of_it():
    config = load("configs/lam_pretrain.py:tiny")
    config.model.depth_input, config.loss.relative_depth, config.data.resolution = "fuse", 0.1, 56
    for name in ("", "depth-anything-vits14-indoor"):
        config.model.depth_estimator = name
        with pytest.raises(config_lib.ConfigError, match=f"'loss.relative_depth'.*'{name}'; expected"):
            task_for(config)
    config.model.depth_estimator = "depth-anything-vits14"
    assert task_for(config).weights.relative_depth == 0.1


def test_a_contrastive_loss_is_refused_under_accumulation():
    config = load("configs/lam_pretrain.py:tiny")
    config.loss.contrastive, config.data.windows_per_episode = 0.1, 4
    assert task_for(config).weights.contrastive == 0.1
    config.optimizer.accumulation = 2
    with pytest.raises(config_lib.ConfigError, match="'optimizer.accumulation' is 2.*expected 1"):
        task_for(config)


@pytest.mark.parametrize(
    ("reference", "others"),
    [
        ("configs/lam_pretrain.py:small", {"bias", "scale", "queries", "slots", "taps"}),
        ("configs/policy_finetune.py:small", {"bias", "scale", "queries", "embedding"}),
    ],
)
def test_decay_reaches_matrices_alone(reference, others):
    config = load(reference)
    task = task_of(config)
    params, _ = jax.eval_shape(task.init, jax.random.key(0), zero_batch(config, task))
    decays = tree.flat_paths(decay_mask(params, config.optimizer.no_decay))
    last = {path: path.rpartition("/")[2].rpartition("_")[2] for path in decays}
    assert {last[path] for path, decayed in decays.items() if decayed} == {"kernel"}
    assert {last[path] for path, decayed in decays.items() if not decayed} == others


def test_a_configuration_survives_json():
    config = load("configs/lam_pretrain.py:tiny")
    again = config_lib.from_json(config_lib.to_json(config))
    assert config_lib.difference(config, again) == []
    assert again.data.offsets_s == (0.2, 0.4, 0.6)


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("model.variant", "tyny", "tiny"),
        ("quantizer.name", "emma", "ema"),
        ("model.head", "pixel", "pixels"),
        ("data.resolution", 60, "divisible"),
        ("quantizer.decay", 1.5, "quantizer.decay"),
        ("loss.rgb", -1.0, "loss.rgb"),
        ("loss.contrastive", 0.1, "'data.windows_per_episode' is 1.*at least 2"),
        ("contrastive.temperature", 0.0, "contrastive.temperature"),
        ("model.remat", "ful", "did you mean 'full'"),
        ("model.image_encoder", "pach", "did you mean 'patch'"),
        ("model.image_encoder", "dinov2-vitb", "did you mean 'dinov2-vitb14'"),
        ("model.image_encoder", "dinov2-vits14-reg", "'model.patch' is 8.*14 px; expected 14.*such as 70"),
        ("model.depth_estimator", "depth-anything-vits", "did you mean 'depth-anything-vits14'"),
        ("model.depth_estimator", "depth-anything-vits14", "'model.depth_input' is 'none'.*expected 'fuse'"),
        ("model.frame_encoder", "liner", "did you mean 'linear'"),
        ("loss.feature", 0.1, "'loss.feature' is on.*'model.image_encoder' is 'patch'.*dinov2-vits14"),
        ("loss.lpips", -1.0, "loss.lpips"),
        ("model.depth_input", "fused", "did you mean 'fuse'"),
        ("model.pyramid", (1, 4), "model.pyramid.*dilation 4 .*4 frames.*1..3"),
        ("quantizer.levels", (8, 8), r"\(8, 8\).*code_width = 2 and quantizer.codebook_size = 64"),
    ],
)
def test_a_wrong_value_is_named(key, value, named):
    config = load("configs/lam_pretrain.py:tiny")
    section, _, name = key.partition(".")
    config[section][name] = value
    with pytest.raises(config_lib.ConfigError, match=named):
        task_for(config)
