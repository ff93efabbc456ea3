"""The model's FLOPs of any task by part, against forward passes counted one by one; nothing is computed."""

import jax
import pytest
from source_tree import ROOT
from tiny_networks import PATCH, use_tiny_networks

from farsighted_jax.bench import network_flops
from farsighted_jax.bench.flops import encoder_flops, lam_flops
from farsighted_jax.bench.model_flops import model_flops
from farsighted_jax.bench.traced_flops import gradient_flops, products, products_by_scope, traced_flops
from farsighted_jax.cli.untrained import sample_batch, untrained_task
from farsighted_jax.core import config as config_lib
from farsighted_jax.core.task import PRETRAINED
from farsighted_jax.pretrained.models import MODELS

# VGG16 takes no fewer pixels.
SIZE = 16
LAM = {"model.image_encoder": "dinov2-tiny", "model.head": "pixels", "model.pyramid": ()}


@pytest.fixture(scope="module", autouse=True)
def table():
    with pytest.MonkeyPatch.context() as patch:
        use_tiny_networks(patch)
        yield


@pytest.fixture(scope="module")
def lam_run(tmp_path_factory):
    """A run folder with the configuration of a LAM that reads a frozen encoder, and nothing else."""
    folder = tmp_path_factory.mktemp("lam")
    (folder / "config.json").write_text(config_lib.to_json(configuration("lam_pretrain")))
    return folder


def configuration(name, **changes):
    """A shipped configuration, made small, with frozen networks; "__" stands for a dot."""
    config = config_lib.load(str(ROOT / "configs" / f"{name}.py:tiny"))
    small = {"data.resolution": SIZE, "model.patch": PATCH, "model.num_keypoints": 0, "loss.lpips": 1.0}
    if name == "lam_pretrain":
        small |= LAM
    config_lib.change(config, small | {key.replace("__", "."): value for key, value in changes.items()})
    return config


def policy(lam_run, **changes):
    text = {"model__text_encoder": "t5-tiny", "data__text_tokenizer": "t5-tiny"}
    # Scheduled sampling runs the model twice, which takes twice as long to trace.
    once = {"plan__scheduled_sampling": 0.0, "lam": str(lam_run)}
    config = configuration("policy_finetune", **text, **once, **changes)
    task = untrained_task(config, "policy_finetune.py:tiny")
    return config, task, sample_batch(config, task)


@pytest.fixture(scope="module")
def whole_policy(lam_run):
    """What all of a policy that is trained takes."""
    return model_flops(*policy(lam_run))


def picture_flops():
    return network_flops.perceptual_features(MODELS["vgg16"].module(), SIZE)


def test_a_scope_holds_for_loops_in_it_and_for_its_gradient():
    def function(x, w):
        def step(carry, _):
            return carry @ w, None

        with jax.named_scope("inside"):
            y, _ = jax.lax.scan(step, x, None, length=3)
        return (y @ w).sum()

    x, w = jax.ShapeDtypeStruct((2, 5), "float32"), jax.ShapeDtypeStruct((5, 5), "float32")
    traced = jax.make_jaxpr(jax.grad(function, argnums=(0, 1)))(x, w).jaxpr
    product = 2 * 2 * 5 * 5
    # The last product's own value is not needed for the gradient, but is traced.
    assert products_by_scope(traced, ("inside",)) == {"inside": 9 * product, "": 3 * product}
    assert products_by_scope(traced) == {"": 12 * product}


def test_a_lam_is_counted_from_its_configuration_or_as_traced_where_a_part_is_frozen():
    # Predicting the frozen tokens does not compute them again: the count has each frame once.
    config = configuration("lam_pretrain", loss__feature=0.1)
    task = untrained_task(config, "lam_pretrain.py:tiny")
    sample, counted = sample_batch(config, task), lam_flops(config)
    found, traced = model_flops(config, task, sample), gradient_flops(task, sample)
    assert sum(found.values()) == sum(part.step for part in counted.values())
    assert found["frozen"] == counted["frozen_encoder"].step and found["perceptual"] == counted["lpips"].step
    # Products of few numbers, of a table of positions and of a pixel's channels, are no part of the count.
    assert traced == {name: pytest.approx(count, rel=0.1) for name, count in found.items()}
    config.optimizer.freeze = ("^encoder/",)
    less = model_flops(config, task, sample)
    assert less == traced | {"trained": less["trained"]} and less["trained"] < 0.9 * traced["trained"]


def test_of_a_policy_what_is_frozen_and_perceptual_stands_apart(lam_run, whole_policy):
    _, task, sample = policy(lam_run)
    found = whole_policy
    networks = task.pretrained_shapes()
    forward = [
        traced_flops(lambda weights, part=part: part({PRETRAINED: weights}, sample), networks)
        for part in (task.inputs.observation, task.inputs.codes)
    ]
    assert found["frozen"] == sum(forward)
    text = jax.make_jaxpr(task.inputs.networks.text_vectors)
    text = products(text({PRETRAINED: networks}, sample["text"], sample["text_valid"]).jaxpr)
    frame = network_flops.image_encoder(MODELS["dinov2-tiny"].module(), SIZE)
    num_frames = sample["rgb"].shape[1]
    # Each frame of the history once, and each of the clip; besides, positions are resampled.
    assert 1 <= (forward[0] - text) / frame < 1.5
    encoder = encoder_flops(configuration("lam_pretrain").model, num_frames, SIZE)
    assert num_frames <= (forward[1] - encoder) / frame < num_frames + 1
    # Forward of two pictures, and the way back to one of them; see `bench.flops`.
    assert found["perceptual"] == pytest.approx(3 * picture_flops(), rel=0.05)
    assert found["trained"] > 0
    frozen = model_flops(*policy(lam_run, optimizer__freeze=("^backbone/",)))
    assert frozen == found | {"trained": frozen["trained"]} and frozen["trained"] < found["trained"]


def test_neither_rematerialisation_nor_the_product_of_adapters_counts(lam_run, whole_policy):
    adapters = {"optimizer__freeze": ("^backbone/",), "model__adapter_rank": 3}
    config, task, sample = policy(lam_run, model__remat="full", **adapters)
    found = model_flops(config, task, sample)
    assert sum(gradient_flops(task, sample, config.optimizer.freeze).values()) > sum(found.values())
    # Every kernel of the backbone gets a gradient again, as the factors' gradients go through it.
    assert found == whole_policy
