"""A policy's configuration: what it makes, and complaints that name the key."""

import dataclasses

import jax
import pytest
from learning_policy import SPEC, StandIn, policy_task, random_batch
from source_tree import ROOT

from data_pipelines.oxe.registry import spec_for
from farsighted_jax.core import config as config_lib
from farsighted_jax.core import tree
from farsighted_jax.policy import task as policy
from farsighted_jax.policy.adapters import ADAPTERS

BRIDGE = spec_for("bridge_dataset")
VIDEO = dataclasses.replace(BRIDGE, name="video", action=None, state_key="", state_names=())


@dataclasses.dataclass(frozen=True)
class Lam(StandIn):
    patch = 8
    reads_depth = True

    def data_settings(self):
        return {"offsets_s": (0.2, 0.4, 0.6), "resolution": 64, "depth": "auto"}


def task_of(file="policy_finetune", lam=Lam(), specs=(BRIDGE,), **changes):  # noqa: B008
    config = config_lib.load(str(ROOT / "configs" / f"{file}.py:tiny"))
    named = {key.replace("__", "."): value for key, value in changes.items()}
    config_lib.change(config, named)
    return policy.policy_task(config, lam, {spec.name: spec for spec in specs})


def test_the_layout_is_that_of_the_configuration():
    layout = task_of(data__history_s=(0.4, 0.2), data__cameras=("primary", "secondary")).model.layout
    assert (layout.frames, layout.views, layout.language, layout.proprio) == (3, 2, 32, 1)
    assert (layout.grid, layout.vision_grid, layout.transitions, layout.slots) == ((8, 8), (8, 8), 3, 2)
    assert layout.chunk == 4 and task_of("policy_pretrain").model.layout.chunk == 0
    alone = task_of(lam=None, model__image_encoder="patch", model__plan=False, model__vision=False)
    assert alone.model.layout.groups == ("context", "action") and alone.pretrained_shapes() == {}


def test_a_mixture_with_video_has_the_widest_action_space():
    task = task_of(specs=(VIDEO, BRIDGE), model__gripper="discrete")
    assert task.spaces.width == 7 and task.spaces.real().sum(axis=1).tolist() == [0, 7]
    assert task.model.discrete_gripper and task.inputs.reads_proprio
    assert not task_of("policy_pretrain", specs=(VIDEO,)).inputs.reads_proprio


def test_depth_is_fused_once():
    assert not task_of(model__depth_input="fuse").inputs.fuses_depth
    assert task_of(model__depth_input="fuse", model__image_encoder="patch").inputs.fuses_depth


def test_stored_tokens_of_frames_are_refused():
    config = config_lib.load(str(ROOT / "configs/policy_finetune.py:tiny"))
    with config.unlocked():
        config.data.image_features = "features"
    with pytest.raises(config_lib.ConfigError, match="'data.image_features' is 'features', but a policy"):
        policy.policy_task(config, Lam(), {BRIDGE.name: BRIDGE})


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"model__variant": "tyny"}, "did you mean 'tiny'"),
        ({"model__remat": "True"}, r"'model.remat': 'True' is not one of \['none', 'full', 'dots'\]"),
        ({"model__gripper": "binary"}, "model.gripper"),
        ({"lam": None}, "'lam' is empty"),
        ({"lam": None, "model__image_encoder": "patch"}, "'lam' is empty, but 'model.plan' is on"),
        (
            {"data__offsets_s": (0.2, 0.4)},
            r"'data.offsets_s' is \(0.2, 0.4\).*with \(0.2, 0.4, 0.6\)",
        ),
        ({"data__resolution": 128}, "'data.resolution' is 128.*trained with 64"),
        ({"data__depth": "off"}, "'data.depth' is 'off'.*trained with 'auto'"),
        ({"data__resolution": 60}, "60 is not divisible by model.patch = 8"),
        ({"model__patch": 16}, "'model.patch' is 16.*'lam' has patches of 8 px"),
        ({"model__action": False}, "'model.action' is off, but 'task' is 'policy_finetune'"),
        ({"specs": (VIDEO,)}, r"'model.action' is on, but none of the datasets \['video'\]"),
        ({"model__num_embodiments": 1, "specs": (BRIDGE, VIDEO)}, "has 2 datasets; expected at least 2"),
        ({"data__text_tokenizer": ""}, "'data.text_tokenizer' is ''.*'own'; expected 'bytes'"),
        ({"model__text_encoder": "t5-base"}, "'bytes'.*'t5-base'; expected 't5-base'"),
        ({"data__cameras": ()}, "'data.cameras' is empty"),
        ({"plan__codes": "stored"}, "'data.codes' is empty"),
        ({"plan__dropout": 1.5}, "plan.dropout"),
        ({"flow__solver": "eule"}, "did you mean 'euler'"),
        ({"loss__latent": -1.0}, "loss.latent"),
        ({"loss__feature": 1.0, "model__image_encoder": "patch"}, "'loss.feature' is on"),
        ({"model__adapter_rank": 2}, "'optimizer.freeze' is empty"),
        ({"model__adapter_rank": 2, "optimizer__freeze": ("backbone",)}, "would freeze the adapters too"),
    ],
)
def test_a_wrong_value_is_named(changes, named):
    with pytest.raises(config_lib.ConfigError, match=named):
        task_of(**changes)


def test_adapters_are_parameters_beside_those_of_the_model():
    task = dataclasses.replace(policy_task(), adapter_rank=2, adapted_kernels=("^backbone/",))
    params, _ = jax.eval_shape(task.init, jax.random.key(0), random_batch())
    plain, _ = jax.eval_shape(policy_task().init, jax.random.key(0), random_batch())
    assert not tree.structure_difference(plain, jax.eval_shape(task.model_params, params))
    trained, frozen = tree.partition(params, ("^backbone/",))
    assert ADAPTERS in trained and set(frozen) == {"backbone"} and SPEC.width == task.model.action_width
