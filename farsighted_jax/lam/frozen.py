"""A trained LAM inside another model: codes of clips and tokens of frames, without gradient."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from farsighted_jax.core.batch import DEPTH_CONSTANTS, zeros
from farsighted_jax.core.task import PRETRAINED
from farsighted_jax.lam.networks import MEASURED
from farsighted_jax.lam.objective import DEPTH_FIELDS, SENSED_FIELDS
from farsighted_jax.lam.task import LamTask, lam_task

# Under this name the weights stand among the networks that were trained elsewhere.
LAM = "lam"

# Neither codes nor tokens need it.
DECODER = "decoder"


@dataclasses.dataclass(frozen=True)
class FrozenLam:
    """What codes are made with; the weights are those that `weights_of` gives, in `params`.

    Attributes:
      task: model and quantiser.
      offsets_s: seconds from frame 0 to each keyframe.
      resolution: px.
      depth: `data.depth` of its run.
      dataset_offsets_s: see `data.dataset_offsets_s`.
    """

    task: LamTask
    offsets_s: tuple[float, ...]
    resolution: int
    depth: str = "auto"
    dataset_offsets_s: tuple[tuple[str, tuple[float, ...]], ...] = ()

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

    def codes(self, params: Mapping[str, Any], batch: Mapping[str, Any]) -> jax.Array:
        """Codes of the transitions 0 -> k, int32[B, t, Z], of the clip before augmentation and noise.

        Where frame k is missing they mean nothing.

        Raises:
          BatchError: the model reads depth, and the batch has none.
        """
        names = [name for name in self.task.fields if name in batch and name not in SENSED_FIELDS]
        clip = {name: batch.get(f"plain_{name}", batch[name]) for name in names}
        weights = _weights(params)
        return self.task.encode(weights["params"], weights.get("model_state", {}), clip)["code"]

    def frame_tokens(
        self,
        params: Mapping[str, Any],
        rgb_BHWC,
        depth_BHW1=None,
        depth_valid_BHW1=None,
        depth_center_B=None,
        depth_scale_B=None,
    ) -> jax.Array:
        """Tokens of single frames, float[B, N, E], as the encoder of the LAM sees them.

        Args:
          params: with the weights.
          rgb_BHWC: float[B, H, W, 3] within [0, 1].
          depth_BHW1: float32[B, H, W, 1] normalised log depth, or None: nothing was measured.
          depth_valid_BHW1: bool[B, H, W, 1] where it was measured.
          depth_center_B: float32[B], see `core.batch.FIELDS`; read with a depth estimator.
          depth_scale_B: float32[B].
        """
        weights, inputs = _weights(params), {"rgb_BTHWC": rgb_BHWC[:, None]}
        if self.reads_depth:
            inputs |= self._measured(rgb_BHWC, depth_BHW1, depth_valid_BHW1, depth_center_B, depth_scale_B)
        inputs = self.task.networks.encoder_inputs(weights["params"], inputs)
        tokens_BTNE = self.task.model.apply({"params": weights["params"]}, **inputs, method="tokens")
        return jax.lax.stop_gradient(tokens_BTNE[:, 0])

    def _measured(self, rgb_BHWC, depth_BHW1, valid_BHW1, center_B, scale_B):
        """Arguments of `FrozenNetworks.encoder_inputs` about depth."""
        num, shape = len(rgb_BHWC), (*rgb_BHWC.shape[:-1], 1)
        if depth_BHW1 is None:
            depth_BHW1, valid_BHW1 = jnp.zeros(shape), jnp.zeros(shape, bool)
        values = [depth_BHW1[:, None], valid_BHW1[:, None]]
        if self.task.networks.depth_estimator:
            values += [
                jnp.zeros(num) if center_B is None else center_B,
                jnp.ones(num) if scale_B is None else scale_B,
            ]
        return dict(zip(MEASURED, values, strict=False))


def frozen_lam(config: Mapping[str, Any]) -> FrozenLam:
    """Of a LAM's run configuration; see `lam.task.lam_task` for its errors."""
    data = config["data"]
    return FrozenLam(
        lam_task(config),
        tuple(data["offsets_s"]),
        data["resolution"],
        data["depth"],
        tuple(data.get("dataset_offsets_s", ())),
    )


def _weights(params):
    return jax.lax.stop_gradient(params[PRETRAINED][LAM])
