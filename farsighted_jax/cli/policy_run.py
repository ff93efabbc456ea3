"""What a policy's run needs besides its configuration: a frozen LAM, and the meaning of its datasets.

Both stand in the run folder too, so that it is read back without the LAM's folder and without data; and so
does what made the stored vectors of its texts, if it reads such.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from data_pipelines import text_features
from data_pipelines.dataset import spec_of
from data_pipelines.mixture import parse_mixture
from farsighted_jax.checkpoint import restore
from farsighted_jax.core import config as config_lib
from farsighted_jax.core import tree
from farsighted_jax.core.batch import zeros
from farsighted_jax.core.config import ConfigError
from farsighted_jax.core.spec import DatasetSpec, dataset_spec, to_dict
from farsighted_jax.lam.frozen import LAM, FrozenLam, described_lam, frozen_lam
from farsighted_jax.lam.inference import LatentActions
from farsighted_jax.policy.inputs import LAM_ENCODER
from farsighted_jax.policy.task import PolicyTask, policy_task
from farsighted_jax.pretrained.models import MODELS
from farsighted_jax.pretrained.networks import load_placed
from farsighted_jax.train.resume import CONFIG, STATISTICS

LAM_DOCUMENT, SPECS_DOCUMENT, TEXT_DOCUMENT = "lam.json", "specs.json", text_features.ABOUT


class Lam(NamedTuple):
    """A LAM that a policy uses.

    Attributes:
      model: what makes its codes.
      document: its configuration, statistics, step and digest, for JSON.
      weights: see `FrozenLam.weights_of`; {} where the policy's own run, or that of its warm start, has them.
    """

    model: FrozenLam
    document: Mapping[str, Any]
    weights: Mapping[str, Any]


class PolicyRun(NamedTuple):
    """A policy's task, and what comes with it.

    Attributes:
      task: model and losses.
      lam: its LAM, or None.
      specs: dataset -> specification, in the order of the mixture.
      text: `text_features.IDENTITY` of the stored vectors that it is trained on, or None.
    """

    task: PolicyTask
    lam: Lam | None
    specs: Mapping[str, DatasetSpec]
    text: Mapping[str, Any] | None = None

    def documents(self) -> dict[str, str]:
        """File name -> text of what the run folder holds of them."""
        texts = {SPECS_DOCUMENT: _json([to_dict(spec) for spec in self.specs.values()])}
        texts |= {LAM_DOCUMENT: _json(self.lam.document)} if self.lam else {}
        return texts | ({TEXT_DOCUMENT: _json(self.text)} if self.text else {})

    def load_pretrained(self, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """See `train.warm_start.LoadPretrained`; the LAM is loaded as the other networks are.

        Raises:
          ConfigError: the LAM's weights are wanted, and `lam` names no folder.
        """
        others = load_placed({name: shapes for name, shapes in wanted.items() if name != LAM})
        if LAM not in wanted:
            return others
        if not self.lam.weights:
            raise ConfigError(
                "configuration key 'lam' is empty, but the run of 'init' has no weights of a latent action "
                "model; expected its run folder"
            )
        shardings = jax.tree.map(lambda shape: shape.sharding, wanted[LAM])
        # From the host: an array on one process's device cannot be put on those of others.
        return others | {LAM: jax.device_put(jax.tree.map(np.asarray, self.lam.weights[LAM]), shardings)}

    def check_codes(self, stored: Any) -> None:
        """Compares the model of stored codes (`Stream.codes`) with the LAM.

        Raises:
          ConfigError: they were made by another one.
        """
        if not (stored and self.task.inputs.stored_codes and self.lam):
            return
        found, expected = stored.digest, self.lam.document["digest"]
        if found != expected:
            raise ConfigError(
                f"configuration key 'data.codes': the codes were made by a model with digest {found[:16]}, "
                f"but the latent action model of this policy has {expected[:16]}; label again with it"
            )

    def check_text(self, stored: Mapping[str, Any] | None) -> None:
        """Compares what made stored vectors (`Stream.text_features`) with what made those of this run.

        Raises:
          ConfigError: it is something else; lists each difference.
        """
        if not (stored and self.text):
            return
        if changes := config_lib.difference(stored, self.text):
            raise ConfigError(
                "configuration key 'data.text_features': other vectors than this run is trained on, found -> "
                f"expected: {'; '.join(changes)}"
            )


def policy_run(config: ConfigDict, folder: Path | None = None, resumed: bool = False) -> PolicyRun:
    """Builds a policy's task.

    Args:
      config: of the policy; `lam` names the LAM's run folder, or `init` a policy that has one.
      folder: its run folder if it has been trained, whose documents are then taken.
      resumed: whether training goes on: datasets that its mixture now has besides come after those of the
        folder, so that these keep their embodiment.

    Raises:
      ConfigError: see `policy.task.policy_task`; a LAM that cannot be read or is not that of `init`, or
        stored vectors that those of `init` were not made like.
      TextFeatureError: no stored vectors, or of another text encoder or dtype than the configuration's.
      StructureError: its weights are not those of its configuration.
      DatasetError: a dataset without specification.
    """
    if folder is None:
        specs = {
            name: spec_of(config.data.dir, name)
            for name in parse_mixture(config.data.mixture, config.data.dir)
        }
    else:
        found = map(dataset_spec, json.loads(_read(folder, SPECS_DOCUMENT, "specifications of its datasets")))
        specs = {spec.name: spec for spec in found}
        if resumed:
            names = parse_mixture(config.data.mixture, config.data.dir)
            specs |= {name: spec_of(config.data.dir, name) for name in names if name not in specs}
    needs_lam = config.model.plan or config.model.image_encoder == LAM_ENCODER
    lam = _lam(config, folder, list(specs)) if needs_lam else None
    return PolicyRun(policy_task(config, lam and lam.model, specs), lam, specs, _text(config, folder))


def policy_zeros(config: ConfigDict, task: PolicyTask) -> dict[str, np.ndarray]:
    """A batch of zeros of one sample, with every field that a policy's step reads."""
    data, model, inputs = config.data, task.model, task.inputs
    layout, size = model.layout, data.resolution
    sizes = {"B": 1, "T": len(data.offsets_s) + 1, "t": len(data.offsets_s), "H": size, "W": size}
    sizes |= {"R": layout.frames, "P": layout.views, "L": layout.language, "Z": layout.slots}
    sizes |= {"J": layout.chunk, "M": model.action_width, "I": task.state_width}
    names = ["rgb", "time_s", "frame_valid", *task.fields]
    if inputs.reads_depth or (inputs.latent_actions and inputs.latent_actions.reads_depth):
        names += ["depth", "depth_valid", "depth_center", "depth_scale"]
    if layout.chunk:
        names += ["action", "action_valid"]
    if layout.num_codes and inputs.stored_codes:
        names += ["code", "code_valid"]
    if inputs.stored_text:
        sizes["E"] = MODELS[inputs.text_encoder].module().width
    return zeros(names, sizes)


def _lam(config, folder, datasets):
    if folder is not None:
        return _described_lam(folder, datasets)
    if config.lam:
        lam = _read_lam(Path(config.lam), datasets)
        _check_same(lam, config)
        return lam
    return _described_lam(Path(config.init), datasets) if config.init else None


def _described_lam(folder, datasets):
    """Of a policy's run folder, which has its weights."""
    document = json.loads(_read(folder, LAM_DOCUMENT, "latent action model"))
    return Lam(described_lam(document, datasets), document, {})


def _read_lam(folder, datasets):
    """Of the LAM's own run folder; the averaged weights if it kept them, as `farsighted label` takes them."""
    config = config_lib.from_json(_read(folder, CONFIG, "configuration of a latent action model"))
    if config.task != "lam":
        raise ConfigError(f"configuration key 'lam': {folder} holds a run of {config.task!r}, expected 'lam'")
    statistics = json.loads(_read(folder, STATISTICS, "statistics of a latent action model"))
    try:
        model = frozen_lam(config, statistics, datasets)
    except KeyError as error:
        raise ConfigError(
            f"configuration key 'lam': the configuration in {folder} lacks the key {error.args[0]}; it was "
            "written by another version"
        ) from error
    step, weights = restore.read_weights(folder, average=True)
    params, model_state = weights["params"], weights["model_state"]
    kept = model.weights_of(params, model_state)
    if lines := tree.structure_difference(model.shapes(), kept):
        raise restore.StructureError(f"{folder}: weights of another version:\n  " + "\n  ".join(lines))
    document = {
        "config": config.to_dict(),
        "statistics": statistics,
        "step": step,
        "digest": LatentActions(model.task, params, model_state).digest,
    }
    return Lam(model, document, kept)


def _check_same(lam, config):
    """A policy that was pretrained on the codes of one LAM has no use for those of another."""
    path = Path(config.init) / LAM_DOCUMENT
    if not config.init or not path.is_file():
        return
    before = json.loads(path.read_text(encoding="utf-8"))["digest"]
    if before != lam.document["digest"]:
        raise ConfigError(
            f"configuration key 'lam': {config.lam} has digest {lam.document['digest'][:16]}, but the run of "
            f"init = {config.init!r} was trained with {before[:16]}; expected that one, or no 'lam'"
        )


def _text(config, folder):
    """What made the stored vectors of texts, None without; a trained run has it in its folder."""
    place = config.data.text_features
    if not place:
        return None
    if folder is not None:
        path = folder / TEXT_DOCUMENT
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    found = text_features.identity(place)
    expected = {"encoder": config.model.text_encoder, "dtype": config.model.dtype}
    text_features.check_identity(place, found, expected)
    path = Path(config.init) / TEXT_DOCUMENT
    if config.init and path.is_file():
        before = json.loads(path.read_text(encoding="utf-8"))["digest"]
        if found["digest"] != before:
            raise ConfigError(
                f"configuration key 'data.text_features': {place} was made by weights with digest "
                f"{found['digest'][:16]}, expected {before[:16]} as in the run of init = {config.init!r}"
            )
    return found


def _read(folder, name, meaning):
    try:
        return (folder / name).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{folder} has no {meaning}: {name} cannot be read ({error.strerror})") from error


def _json(value):
    return json.dumps(value, indent=2, sort_keys=True) + "\n"
