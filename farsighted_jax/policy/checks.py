"""Whether a policy's configuration fits together; complaints name the key, its value and what is expected."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from farsighted_jax.core.config import ConfigError, check_choice, check_range
from farsighted_jax.core.spec import DatasetSpec
from farsighted_jax.core.tree import matches
from farsighted_jax.encoders.geometry import DEPTH_INPUTS
from farsighted_jax.encoders.vgg import SMALLEST
from farsighted_jax.layers.remat import POLICIES
from farsighted_jax.policy.adapters import ADAPTERS
from farsighted_jax.policy.flow_matching import SOLVERS
from farsighted_jax.policy.inputs import LAM_ENCODER, OWN_ENCODER, LatentActions
from farsighted_jax.policy.model import VARIANTS
from farsighted_jax.pretrained.models import MODELS

DTYPES = ("float32", "bfloat16")
GRIPPERS = ("flow", "discrete")
VISION_QUERIES = ("frame", "learned")
CODE_SOURCES = ("lam", "stored")
OWN_TEXT, BYTES = "own", "bytes"


def check_policy(
    config: Mapping[str, Any], latent_actions: LatentActions | None, specs: Mapping[str, DatasetSpec]
) -> None:
    """Checks everything that can be without data.

    Raises:
      ConfigError: see the module.
    """
    model = config["model"]
    check_choice("model.variant", model["variant"], VARIANTS)
    check_choice("model.dtype", model["dtype"], DTYPES)
    check_choice("model.remat", model["remat"], POLICIES)
    check_choice("model.depth_input", model["depth_input"], DEPTH_INPUTS)
    check_choice("model.gripper", model["gripper"], GRIPPERS)
    for key in ("patch", "unroll", "num_embodiments"):
        check_range(f"model.{key}", model[key], 1)
    check_range("model.adapter_rank", model["adapter_rank"], 0)
    for key, weight in config["loss"].items():
        check_range(f"loss.{key}", weight, 0.0)
    for key in ("dropout", "scheduled_sampling"):
        check_range(f"plan.{key}", config["plan"][key], 0.0, 1.0)
    check_choice("plan.codes", config["plan"]["codes"], CODE_SOURCES)
    check_range("flow.num_steps", config["flow"]["num_steps"], 1)
    check_range("model.num_keypoints", config["model"]["num_keypoints"], 0)
    check_choice("model.vision_queries", config["model"]["vision_queries"], VISION_QUERIES)
    check_range("flow.draws", config["flow"]["draws"], 1)
    check_choice("flow.solver", config["flow"]["solver"], SOLVERS)
    _check_groups(config, specs)
    _check_encoders(config)
    _check_data(config)
    _check_latent_actions(config, latent_actions)
    _check_losses(config)
    _check_adapters(config)


def _check_groups(config, specs):
    model = config["model"]
    if not (model["vision"] or model["plan"] or model["action"]):
        raise ConfigError(
            "configuration keys 'model.vision', 'model.plan' and 'model.action' are all off; "
            "expected at least one, or there is nothing to learn"
        )
    if config["task"] == "policy_finetune" and not model["action"]:
        raise ConfigError(
            "configuration key 'model.action' is off, but 'task' is 'policy_finetune'; expected it on, or "
            "the task 'policy_pretrain'"
        )
    if model["action"] and not any(spec.action for spec in specs.values()):
        raise ConfigError(
            f"configuration key 'model.action' is on, but none of the datasets {list(specs)} has an action "
            "specification; expected one that has, or model.action off"
        )
    if len(specs) > model["num_embodiments"]:
        raise ConfigError(
            f"configuration key 'model.num_embodiments' is {model['num_embodiments']}, but the mixture has "
            f"{len(specs)} datasets; expected at least {len(specs)}"
        )


def _check_encoders(config):
    model, data = config["model"], config["data"]
    images = [name for name in MODELS if name.startswith("dinov2-")]
    texts = [name for name in MODELS if name.startswith("t5-")]
    check_choice("model.image_encoder", model["image_encoder"], (LAM_ENCODER, OWN_ENCODER, *images))
    check_choice("model.text_encoder", model["text_encoder"], ("", OWN_TEXT, *texts))
    if model["image_encoder"] in images:
        _check_patch(model, MODELS[model["image_encoder"]].module().patch)
    tokenizer = data["text_tokenizer"]
    reads_bytes = tokenizer == BYTES
    if (
        model["text_encoder"] == OWN_TEXT
        and not reads_bytes
        or model["text_encoder"] in texts
        and (reads_bytes or not tokenizer)
    ):
        expected = BYTES if model["text_encoder"] == OWN_TEXT else model["text_encoder"]
        raise ConfigError(
            f"configuration key 'data.text_tokenizer' is {tokenizer!r}, but 'model.text_encoder' is "
            f"{model['text_encoder']!r}; expected {expected!r}"
        )
    if data.get("image_features"):
        raise ConfigError(
            f"configuration key 'data.image_features' is {data['image_features']!r}, but a policy reads no "
            "stored tokens; only a latent action model (task 'lam') does"
        )
    if data["text_features"] and model["text_encoder"] not in texts:
        raise ConfigError(
            f"configuration key 'data.text_features' is {data['text_features']!r}, but 'model.text_encoder' "
            f"is {model['text_encoder']!r}, which has no vectors to store; expected one of {texts}, or ''"
        )


def _check_patch(model, patch):
    if model["patch"] != patch:
        raise ConfigError(
            f"configuration key 'model.patch' is {model['patch']}, but model.image_encoder = "
            f"{model['image_encoder']!r} has patches of {patch} px; expected {patch}"
        )


def _check_data(config):
    model, data = config["model"], config["data"]
    if data["resolution"] % model["patch"]:
        raise ConfigError(
            f"configuration key 'data.resolution': {data['resolution']} is not divisible by "
            f"model.patch = {model['patch']}"
        )
    if not data["cameras"]:
        raise ConfigError(
            "configuration key 'data.cameras' is empty, but the policy sees the history's frames; expected "
            f"such as ({data['camera']!r},)"
        )
    if model["depth_input"] == "fuse" and data["depth"] == "off":
        raise ConfigError(
            "configuration key 'data.depth' is 'off', but 'model.depth_input' is 'fuse'; expected 'auto' or "
            "'on'"
        )
    if config["plan"]["codes"] == "stored" and model["plan"] and not data["codes"]:
        raise ConfigError(
            "configuration key 'data.codes' is empty, but 'plan.codes' is 'stored'; expected the folder that "
            "`farsighted label` wrote to"
        )


def _check_latent_actions(config, latent_actions):
    model, data = config["model"], config["data"]
    tokens = model["image_encoder"] == LAM_ENCODER
    if not (model["plan"] or tokens):
        return
    if latent_actions is None:
        reason = "'model.image_encoder' is 'lam'" if tokens else "'model.plan' is on"
        raise ConfigError(
            f"configuration key 'lam' is empty, but {reason}; expected the run folder of a latent action "
            "model, or an 'init' whose run has one"
        )
    for key, value in latent_actions.data_settings().items():
        if data[key] != value:
            raise ConfigError(
                f"configuration key 'data.{key}' is {data[key]!r}, but the latent action model of 'lam' was "
                f"trained with {value!r}; expected the same"
            )
    if tokens:
        _check_patch(model, latent_actions.patch)


def _check_losses(config):
    model, weights, resolution = config["model"], config["loss"], config["data"]["resolution"]
    if weights["feature"] and model["image_encoder"] == OWN_ENCODER:
        raise ConfigError(
            "configuration key 'loss.feature' is on, but 'model.image_encoder' is 'patch', which has no "
            "frozen tokens to predict; expected 'lam' or a dinov2"
        )
    if weights["lpips"] and resolution < SMALLEST:
        raise ConfigError(
            f"configuration key 'data.resolution' is {resolution}, but 'loss.lpips' is on and its network "
            f"takes no less than {SMALLEST} px"
        )


def _check_adapters(config):
    rank, freeze = config["model"]["adapter_rank"], tuple(config["optimizer"]["freeze"])
    if not rank:
        return
    if not freeze:
        raise ConfigError(
            f"configuration key 'model.adapter_rank' is {rank}, but 'optimizer.freeze' is empty: adapters "
            "belong to frozen kernels; expected such as ('^backbone/',)"
        )
    # The path of an adapter holds that of its kernel.
    loose = [pattern for pattern in freeze if matches(f"{ADAPTERS}/{pattern.lstrip('^')}", (pattern,))]
    if loose:
        raise ConfigError(
            f"configuration key 'optimizer.freeze': {loose} would freeze the adapters too; expected patterns "
            "that begin with ^, such as '^backbone/'"
        )
