"""A trained LAM inside another model: codes of clips and tokens of frames, without gradient."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from farsighted_jax.core import config as config_lib
from farsighted_jax.core.batch import DEPTH_CONSTANTS, zeros
from farsighted_jax.core.task import FROZEN, PRETRAINED
from farsighted_jax.lam.networks import MEASURED
from farsighted_jax.lam.objective import DEPTH_FIELDS, SENSED_FIELDS
from farsighted_jax.lam.task import LamTask, lam_task

# Under this name the weights stand among the networks that were trained elsewhere.
LAM = "lam"

# Neither codes nor tokens need it.
DECODER = "decoder"

# Of rows without depth in a training batch, see `data_pipelines.assemble`.
NO_DEPTH_CONSTANTS = (0.0, 1.0)


def depth_constants(statistics: Mapping[str, Any], dataset: str) -> tuple[float, float] | None:
    """(center, scale) that depth of a dataset is normalised with for a LAM, whoever reads the data.

    A dataset that it was not trained on is seen in the units of the first one
    with depth that it was trained on: what is as far away looks as far.

    Args:
      statistics: dataset -> entry, of the LAM's run.
      dataset: name, "" for a video.

    Returns:
      None where no depth is to be read: in training there was none of this dataset, or of any.
    """
    if dataset in statistics:
        depth = statistics[dataset]["depth"]
    else:
        depth = next((entry["depth"] for entry in statistics.values() if entry["depth"]), None)
    return tuple(depth) if depth else None


@dataclasses.dataclass(frozen=True)
class FrozenLam:
    """What codes are made with; the weights are those that `weights_of` gives, in `params`.

    Attributes:
      task: model and quantiser.
      offsets_s: seconds from frame 0 to each keyframe.
      resolution: px.
      depth: `data.depth` of its run.
      dataset_offsets_s: see `data.dataset_offsets_s`.
      depth_constants: what depth must be normalised with, see the function; one entry a value of the
        batch field "dataset". None: what the batch says.
    """

    task: LamTask
    offsets_s: tuple[float, ...]
    resolution: int
    depth: str = "auto"
    dataset_offsets_s: tuple[tuple[str, tuple[float, ...]], ...] = ()
    depth_constants: tuple[tuple[float, float] | None, ...] | None = None

    @property
    def num_slots(self) -> int:
        """Z codes a transition."""
        return self.task.model.num_slots

    @property
    def codebook_size(self) -> int:
        """V."""
        return self.task.quantizer.codebook_size

    @property
    def token_width(self) -> int:
        """E of `frame_tokens`."""
        return self.task.model.token_width or self.task.model.width

    @property
    def patch(self) -> int:
        """Pixels a patch."""
        return self.task.model.patch

    @property
    def reads_depth(self) -> bool:
        """Whether codes and tokens depend on depth."""
        return self.task.model.depth_input != "none"

    def data_settings(self) -> dict[str, Any]:
        """Keys of `config.data` with the values that clips must be cut and sized by."""
        settings = {
            "offsets_s": self.offsets_s,
            "dataset_offsets_s": self.dataset_offsets_s,
            "resolution": self.resolution,
        }
        return settings | ({"depth": self.depth} if self.reads_depth else {})

    def shapes(self) -> dict[str, Any]:
        """Shapes of the weights, by the name that they have among pretrained networks."""
        fields = (
            "rgb",
            "time_s",
            "frame_valid",
            *(DEPTH_FIELDS + DEPTH_CONSTANTS if self.reads_depth else ()),
        )
        sizes = {"B": 1, "T": len(self.offsets_s) + 1, "H": self.resolution, "W": self.resolution}
        params, model_state = jax.eval_shape(self.task.init, jax.random.key(0), zeros(fields, sizes))
        return self.weights_of({**params, PRETRAINED: self.task.pretrained_shapes()}, model_state)

    def weights_of(self, params: Mapping[str, Any], model_state: Mapping[str, Any]) -> dict[str, Any]:
        """The part of a run's weights that is needed here, as `shapes` has it."""
        networks = self.task.networks
        needed = {networks.image_encoder, networks.depth_estimator}
        found = {name: tree for name, tree in params.get(PRETRAINED, {}).items() if name in needed}
        kept = {name: tree for name, tree in params.items() if name not in (DECODER, PRETRAINED)}
        weights = {"params": kept | ({PRETRAINED: found} if found else {})}
        if "codebook" in model_state:
            weights["model_state"] = {"codebook": model_state["codebook"]}
        return {LAM: weights}

    @jax.named_scope(FROZEN)
    def codes(self, params: Mapping[str, Any], batch: Mapping[str, Any]) -> jax.Array:
        """Codes of the transitions 0 -> k, int32[B, t, Z], of the clip before augmentation and noise.

        Where frame k is missing they mean nothing.

        Raises:
          BatchError: the model reads depth, and the batch has none.
        """
        names = [name for name in self.task.fields if name in batch and name not in SENSED_FIELDS]
        clip = {name: batch.get(f"plain_{name}", batch[name]) for name in names}
        if self.reads_depth and (self.task.networks.depth_estimator or "depth" in clip):
            given = *(clip.get(name) for name in DEPTH_FIELDS), *(batch.get(name) for name in DEPTH_CONSTANTS)
            own = self._own_depth(clip["rgb"].shape, batch.get("dataset"), *given)
            clip |= dict(zip(DEPTH_FIELDS + DEPTH_CONSTANTS, own, strict=True))
        weights = _weights(params)
        return self.task.encode(weights["params"], weights.get("model_state", {}), clip)["code"]

    @jax.named_scope(FROZEN)
    def frame_tokens(
        self,
        params: Mapping[str, Any],
        rgb_BHWC,
        dataset_B=None,
        depth_BHW1=None,
        depth_valid_BHW1=None,
        depth_center_B=None,
        depth_scale_B=None,
    ) -> jax.Array:
        """Tokens of single frames, float[B, N, E], as the encoder of the LAM sees them.

        Args:
          params: with the weights.
          rgb_BHWC: float[B, H, W, 3] within [0, 1].
          dataset_B: int32[B], see `core.batch.FIELDS`; read with depth constants.
          depth_BHW1: float32[B, H, W, 1] normalised log depth, or None: nothing was measured.
          depth_valid_BHW1: bool[B, H, W, 1] where it was measured.
          depth_center_B: float32[B], see `core.batch.FIELDS`.
          depth_scale_B: float32[B].
        """
        weights, inputs = _weights(params), {"rgb_BTHWC": rgb_BHWC[:, None]}
        if self.reads_depth:
            given = depth_BHW1, depth_valid_BHW1, depth_center_B, depth_scale_B
            depth_BHW1, depth_valid_BHW1, *constants = self._own_depth(rgb_BHWC.shape, dataset_B, *given)
            values = depth_BHW1[:, None], depth_valid_BHW1[:, None]
            values += tuple(constants) if self.task.networks.depth_estimator else ()
            inputs |= dict(zip(MEASURED, values, strict=False))
        inputs = self.task.networks.encoder_inputs(weights["params"], inputs)
        tokens_BTNE = self.task.model.apply({"params": weights["params"]}, **inputs, method="tokens")
        return jax.lax.stop_gradient(tokens_BTNE[:, 0])

    def _own_depth(self, shape, dataset_B, depth_BX, valid_BX, center_B, scale_B):
        """Depth of images [B, ..., 3], its validity and its constants, as the LAM was trained with them."""
        if depth_BX is None:
            depth_BX, valid_BX = jnp.zeros((*shape[:-1], 1)), jnp.zeros((*shape[:-1], 1), bool)
        center_B = jnp.zeros(shape[0]) if center_B is None else center_B
        scale_B = jnp.ones(shape[0]) if scale_B is None else scale_B
        if self.depth_constants is None:
            return depth_BX, valid_BX, center_B, scale_B
        # Rows of padding have no dataset.
        index_B = jnp.maximum(dataset_B, 0)
        own = jnp.array([constants or NO_DEPTH_CONSTANTS for constants in self.depth_constants], jnp.float32)
        own_center_B, own_scale_B = own[index_B].T
        reads_B = jnp.array([constants is not None for constants in self.depth_constants])[index_B]
        # One factor and one term, which change no bit where the constants are the same.
        factor_B, term_B = scale_B / own_scale_B, (center_B - own_center_B) / own_scale_B
        each = (slice(None), *(None,) * (len(shape) - 1))
        valid_BX = valid_BX & reads_B[each]
        depth_BX = jnp.where(valid_BX, depth_BX * factor_B[each] + term_B[each], 0.0)
        return depth_BX, valid_BX, own_center_B, own_scale_B


def described_lam(document: Mapping[str, Any], datasets: Sequence[str]) -> FrozenLam:
    """Of what a policy's run folder or release says of its LAM, see `frozen_lam`."""
    config = config_lib.from_json(json.dumps(document["config"]))
    return frozen_lam(config, document["statistics"], datasets)


def frozen_lam(
    config: Mapping[str, Any], statistics: Mapping[str, Any] | None = None, datasets: Sequence[str] = ()
) -> FrozenLam:
    """Of a LAM's run.

    Args:
      config: of the run; see `lam.task.lam_task` for its errors.
      statistics: of the run. None: depth is taken to be normalised as it was there.
      datasets: names of the datasets that batches are of, in the order of their index.
    """
    data = config["data"]
    own = None if statistics is None else tuple(depth_constants(statistics, name) for name in datasets)
    return FrozenLam(
        lam_task(config),
        tuple(data["offsets_s"]),
        data["resolution"],
        data["depth"],
        tuple(data.get("dataset_offsets_s", ())),
        own,
    )


def _weights(params):
    return jax.lax.stop_gradient(params[PRETRAINED][LAM])
