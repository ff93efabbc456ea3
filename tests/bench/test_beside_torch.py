"""The LAM in torch that the step is measured beside: it is the same model; how the two are measured."""

import json

import jax
import numpy as np
import pytest
from tiny_networks import PATCH, random_network, use_tiny_networks

from farsighted_jax.bench import beside_torch, rounds, step, torch_objective
from farsighted_jax.bench.data import BenchError
from farsighted_jax.bench.torch_lam import Sizes
from farsighted_jax.bench.torch_step import adamw
from farsighted_jax.bench.torch_weights import converted, named_leaves
from farsighted_jax.core import config as config_lib
from farsighted_jax.core.task import PRETRAINED
from farsighted_jax.lam.model import VARIANTS
from farsighted_jax.lam.task import lam_task
from farsighted_jax.layers import vector_quantizer as vq
from farsighted_jax.train.optimizer import decay_mask

B = 4
# What the torch side has, in the geometry of a test.
PLAIN = {
    "model.head": "pixels", "model.num_keypoints": 0, "model.num_slots": 3, "model.patch": PATCH,
    "model.code_width": 5, "model.unroll": 1, "quantizer.name": "ema", "quantizer.codebook_size": 7,
    "data.resolution": 16, "data.offsets_s": (0.2, 0.4),
}  # fmt: skip
# A group with a pyramid and a block after it; each kind of image encoder and of distance.
CASES = {
    "own": {"model.pyramid": (1, 2)},
    "frozen": {
        "model.image_encoder": "dinov2-tiny", "model.frame_encoder": "linear", "loss.lpips": 1.0,
        "quantizer.distance": "cosine", "data.depth": "off",
    },
}  # fmt: skip


def config_of(**changes):
    config = config_lib.load("configs/lam_pretrain.py:tiny")
    config_lib.change(config, PLAIN | changes)
    config.batch_size = B
    return config


@pytest.fixture(scope="module", params=CASES)
def case(request):
    """(configuration, task, batch, parameters, frozen networks, state of the quantiser)."""
    patch = pytest.MonkeyPatch()
    use_tiny_networks(patch)
    patch.setitem(VARIANTS, "tiny", {"width": 8, "encoder_depth": 3, "decoder_depth": 1, "num_heads": 2})
    config = config_of(**CASES[request.param])
    task, batch, rng = lam_task(config), step.random_batch(config, B), np.random.default_rng(1)
    batch["frame_valid"][1, 2] = False
    if "depth" in batch:
        batch["depth_valid"] = rng.random(batch["depth_valid"].shape) < 0.8
    params, state = jax.eval_shape(task.init, jax.random.key(0), batch)
    # No bias, gate or last projection that is zero and so hides what comes before it.
    draw = lambda leaf: 0.4 * rng.standard_normal(leaf.shape).astype(np.float32)  # noqa: E731
    params, state = jax.tree.map(draw, (params, state))
    state |= {"count": np.abs(state["count"]), "seen": np.float32(3)}
    frozen = {name: random_network(name) for name in task.pretrained_shapes()}
    yield config, task, batch, params, frozen, state
    patch.undo()


def tensors(arrays):
    import torch

    return {name: torch.tensor(np.asarray(array)) for name, array in arrays.items()}


@pytest.mark.parity
def test_loss_and_gradient_are_those_of_the_flax_model(case):
    pytest.importorskip("torch")
    config, task, batch, params, frozen, state = case
    beside_torch.check_supported(config)
    row_batch = batch | {"row": np.arange(B, dtype=np.int32)}

    def loss_of(params):
        merged = {**params, PRETRAINED: frozen}
        return task.loss(merged, state, row_batch, jax.random.key(1), task.denominators(batch))[0]

    loss, gradient = jax.jit(jax.value_and_grad(loss_of))(params)
    weights, networks = converted(params), converted(frozen)
    for _, leaf in named_leaves(weights):
        leaf.requires_grad_()
    sizes = Sizes(**beside_torch.sizes_of(config))
    found, _ = torch_objective.loss(
        weights, networks, tensors(state), tensors(batch), sizes, config.to_dict()
    )
    found.backward()
    assert found.item() == pytest.approx(float(loss), rel=1e-5)
    wanted = dict(named_leaves(converted(jax.tree.map(np.asarray, gradient))))
    leaves = dict(named_leaves(weights))
    assert leaves.keys() == wanted.keys()
    for path, leaf in leaves.items():
        if path.startswith("decoder/depth_head") and "depth" not in batch:
            assert leaf.grad is None
            continue
        largest = wanted[path].abs().max()
        assert largest > 0, f"{path} has no gradient to compare"
        assert (leaf.grad - wanted[path]).abs().max() <= 1e-4 * largest, path


@pytest.mark.parity
def test_the_codebook_learns_and_restarts_alike(case):
    pytest.importorskip("torch")
    config, task, batch, _, _, state = case
    rng, V = np.random.default_rng(2), config.quantizer.codebook_size
    valid_Bt = batch["frame_valid"][:, 1:]
    code_BtZ = rng.integers(0, V - 1, (*valid_Bt.shape, 3))  # the last code is dead
    vector_BtZU = rng.standard_normal((*code_BtZ.shape, 5)).astype(np.float32)
    priority_BtZ = rng.random(code_BtZ.shape, np.float32)
    state = state | {"count": np.append(state["count"][:-1], np.float32(0))}
    updates = vq.codebook_updates(vector_BtZU, code_BtZ, valid_Bt, priority_BtZ, V)
    for seen in (0, 3):
        before = state | {"seen": np.float32(seen)}
        wanted, num_restarts = task.quantizer.next_state(before, updates)
        after = torch_objective.next_codebook(
            tensors(before),
            *tensors({"z": vector_BtZU, "c": code_BtZ, "v": valid_Bt, "p": priority_BtZ}).values(),
            config.quantizer,
        )
        assert after.keys() == wanted.keys() and num_restarts == (1 if seen else V)
        for name, value in after.items():
            np.testing.assert_allclose(value.numpy(), wanted[name], rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.parity
def test_the_same_parameters_decay(case):
    pytest.importorskip("torch")
    config, _, _, params, *_ = case
    mask = decay_mask(params, config.optimizer.no_decay)
    spread = jax.tree.map(lambda leaf, decays: np.full(leaf.shape, float(decays)), params, mask)
    decayed, others = adamw(converted(spread), config.optimizer).param_groups
    assert all((leaf == 1).all() for leaf in decayed["params"]) and decayed["weight_decay"] > 0
    assert all((leaf == 0).all() for leaf in others["params"]) and others["weight_decay"] == 0
    assert decayed["params"] and others["params"]


def test_a_lam_that_torch_has_not_is_refused_with_every_key():
    config = config_of(**{"model.head": "layers", "loss.contrastive": 0.1, "model.dtype": "bfloat16"})
    config.model.image_encoder = "dinov2-vits14-reg"
    wanted = r"model.head is 'layers', expected 'pixels'.*model.dtype.*loss.contrastive is 0.1.*registers"
    with pytest.raises(config_lib.ConfigError, match=wanted):
        beside_torch.run(config)
    beside_torch.check_supported(config_of())


def test_a_policy_is_refused():
    with pytest.raises(config_lib.ConfigError, match="task is 'policy_finetune', expected 'lam'"):
        beside_torch.check_supported(config_lib.load("configs/policy_finetune.py:tiny"))


def test_two_models_that_differ_are_not_measured():
    beside_torch._check_same(1.0, 1.00001)
    with pytest.raises(BenchError, match="not the same model.* 1.0, in torch 1.001"):
        beside_torch._check_same(1.0, 1.001)


@pytest.fixture
def worker(tmp_path):
    """Starts a worker that logs when it works."""
    (tmp_path / "toy_worker.py").write_text(
        "import sys\n"
        "from farsighted_jax.bench import rounds\n"
        "def prepare(name, fails=False):\n"
        "    print('a library says hello')\n"
        "    if fails: raise ValueError('no such toy')\n"
        "    def timed(steps):\n"
        f"        print(name, file=open({str(tmp_path / 'log')!r}, 'a'))\n"
        "        return [0.5] * steps\n"
        "    return {'name': name}, timed\n"
        "rounds.serve(prepare)\n"
    )
    started = []

    def start(**settings):
        path = {"PYTHONPATH": f"{tmp_path}:."}
        started.append(rounds.Worker("toy_worker", settings, path))
        return started[-1]

    yield start
    for each in started:
        each.close()


def test_workers_take_turns(worker, tmp_path):
    first, second = worker(name="a"), worker(name="b")
    assert first.about == {"name": "a"}
    assert rounds.alternating((first, second), 2, 3) == [[[0.5] * 3] * 2] * 2
    assert (tmp_path / "log").read_text().split() == ["a", "b", "a", "b"]


def test_a_worker_that_ends_says_why(worker):
    with pytest.raises(BenchError, match="python -m toy_worker ended with status 1: ValueError: no such toy"):
        worker(name="a", fails=True)


def test_the_ratio_is_of_medians():
    about = {"loss": 1.0}
    found = beside_torch._result(
        config_of(), [[1.0, 2.0], [2.0, 2.0]], [[3.0, 3.0], [9.0, 3.0]], about, about
    )
    assert found["times_torch"] == 1.5 and found["times_torch_range"] == [2.0, 3.0]
    assert found["samples_per_s"] == B / 2 and found["torch"]["step_ms_range"] == [3000.0, 9000.0]


@pytest.mark.slow
@pytest.mark.parity
def test_both_are_measured_in_processes_of_their_own():
    pytest.importorskip("torch")
    lines = []
    found = beside_torch.run(config_of(), steps=6, warm_up=1, report=lines.append)
    assert json.loads(json.dumps(found)) == found
    assert found["steps"] == 10 and len(lines) == 2
    assert found["times_torch"] == pytest.approx(found["torch"]["step_ms"] / found["step_ms"], rel=0.01)
    assert found["loss"] == pytest.approx(found["torch"]["loss"], rel=1e-4)
    torch = found["torch"]
    assert torch["mode"] == "compile" or torch["mode_note"].startswith("torch.compile: ")
    assert torch["threads"] == found["threads"] == found["host"]["cores"]
