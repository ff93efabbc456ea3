"""Loss and codebook of the LAM in torch, see `torch_lam`; the quantiser is "ema"."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from farsighted_jax.bench import torch_lam, torch_networks
from farsighted_jax.bench.torch_lam import Sizes, Weights

Tensors = Mapping[str, Any]


def loss(
    weights: Weights, frozen: Weights, state: Tensors, batch: Tensors, sizes: Sizes, config: Mapping[str, Any]
):
    """`lam.objective.loss` of a whole batch.

    Args:
      weights: learned parameters.
      frozen: those of pretrained networks, by name.
      state: "codebook" float32[V, U], "count" float32[V], "sum" float32[V, U], "seen" float32[].
      batch: as the data pipeline delivers it.
      sizes: of the model.
      config: of the run.

    Returns:
      The loss; vectors before quantisation float32[B, t, Z, U] and codes int64[B, t, Z], without gradient.
    """
    import torch

    rgb_BTHWC = batch["rgb"].float() / 255
    target_BtHWC, valid_Bt = rgb_BTHWC[:, 1:], transition_valid(batch)
    encoded_BtZU = _encoded(rgb_BTHWC, batch["time_s"], weights, frozen, sizes, config["model"])
    codebook_VU = state["codebook"]
    if config["quantizer"]["distance"] == "cosine":
        encoded_BtZU, codebook_VU = unit_rows(encoded_BtZU), unit_rows(codebook_VU)
    vector_BtZU = encoded_BtZU.detach()
    code_BtZ = ((codebook_VU**2).sum(-1) - 2 * vector_BtZU @ codebook_VU.T).argmin(-1)
    nearest_BtZU = codebook_VU[code_BtZ]
    quantized_BtZU = encoded_BtZU + (nearest_BtZU - vector_BtZU)
    rgb_BtHWC, depth_BtHW1 = torch_lam.decoded(
        rgb_BTHWC[:, 0], quantized_BtZU, batch["time_s"][:, 1:], weights["decoder"], sizes
    )
    weight = config["loss"]
    error_Bt = weight["rgb"] * ((rgb_BtHWC - target_BtHWC) ** 2).mean((2, 3, 4))
    error_Bt = error_Bt + weight["commit"] * ((encoded_BtZU - nearest_BtZU) ** 2).mean((2, 3))
    if weight["lpips"]:
        networks = frozen["vgg16"], frozen["lpips-vgg16"]
        distance_Bt = torch_networks.perceptual_distance(rgb_BtHWC, target_BtHWC, *networks)
        error_Bt = error_Bt + weight["lpips"] * distance_Bt
    total = torch.where(valid_Bt, error_Bt, 0.0).sum() / valid_Bt.sum().clamp(min=1)
    if "depth" in batch:
        total = total + weight["depth"] * depth_loss(depth_BtHW1, target_BtHWC, batch, valid_Bt)
    return total, (vector_BtZU, code_BtZ)


def _encoded(rgb_BTHWC, time_s_BT, weights, frozen, sizes, model):
    if "image_encoder" in weights:
        tokens_BTNE = torch_lam.frame_tokens(rgb_BTHWC, weights["image_encoder"], sizes.patch)
    else:
        network = frozen[model["image_encoder"]]
        tokens_BTNE = torch_networks.dinov2(rgb_BTHWC, network, sizes.frozen_heads, sizes.patch)
    grid = tuple(size // sizes.patch for size in rgb_BTHWC.shape[2:4])
    return torch_lam.encoded(tokens_BTNE, time_s_BT, grid, weights["encoder"], sizes)


def transition_valid(batch: Tensors):
    """`core.batch.transition_valid`, bool[B, t]."""
    return batch["frame_valid"][:, :1] & batch["frame_valid"][:, 1:]


def unit_rows(x_BU):
    """Scales the last axis to length 1."""
    return x_BU / x_BU.norm(dim=-1, keepdim=True).clamp(min=1e-6)


def depth_loss(predicted_BtHW1, rgb_BtHWC, batch: Tensors, valid_Bt):
    """`losses.depth.gradient_aware_log_loss`: ln(1 + |d - d*|), weighed down at edges of the image."""
    import torch

    valid = batch["depth_valid"][:, 1:] & valid_Bt[:, :, None, None, None]
    error = (predicted_BtHW1 - torch.where(valid, batch["depth"][:, 1:], 0.0)).abs().log1p()
    total = 0.0
    for axis in (2, 3):
        size = error.shape[axis] - 1
        edge = rgb_BtHWC.diff(dim=axis).abs().mean(-1, keepdim=True)
        pair = valid.narrow(axis, 0, size) & valid.narrow(axis, 1, size)
        value = torch.where(pair, (-edge).exp() * error.narrow(axis, 0, size), 0.0)
        total = total + value.sum() / pair.sum().clamp(min=1)
    return total


def next_codebook(
    state: Tensors, vector_BtZU, code_BtZ, valid_Bt, priority_BtZ, quantizer: Mapping[str, Any]
):
    """`layers.vector_quantizer`: statistics of the batch, the moving averages, restarts of dead codes.

    Args:
      state: see `loss`.
      vector_BtZU: float32[B, t, Z, U] before quantisation.
      code_BtZ: int64[B, t, Z].
      valid_Bt: bool[B, t].
      priority_BtZ: float32[B, t, Z] uniform within [0, 1).
      quantizer: that part of the configuration.

    Returns:
      The state after the step.
    """
    import torch
    import torch.nn.functional as F

    V, U = state["codebook"].shape
    valid_R = valid_Bt[..., None].expand(code_BtZ.shape).reshape(-1)
    vector_RU = torch.where(valid_R[:, None], vector_BtZU.reshape(-1, U), 0.0)
    chosen_RV = F.one_hot(code_BtZ.reshape(-1), V) * valid_R[:, None].float()
    priority_R = torch.where(valid_R, priority_BtZ.reshape(-1), -1.0)
    missing = max(V - len(priority_R), 0)
    priority_V, row_V = F.pad(priority_R, (0, missing), value=-1.0).topk(V)
    candidate_VU = F.pad(vector_RU, (0, 0, 0, missing))[row_V]
    batch_V, decay = chosen_RV.sum(0), quantizer["decay"]
    count_V = decay * state["count"] + (1 - decay) * batch_V
    sum_VU = decay * state["sum"] + (1 - decay) * chosen_RV.T @ vector_RU
    first = state["seen"] == 0
    share = torch.where(first, batch_V.mean(), count_V.mean()).clamp(min=1e-6)
    restart_V = (first | (count_V < quantizer["restart_below"] * share)) & (priority_V >= 0)
    count_V = torch.where(restart_V, share, count_V)
    sum_VU = torch.where(restart_V[:, None], share * candidate_VU, sum_VU)
    mean_VU = sum_VU / count_V.clamp(min=1e-6)[:, None]
    codebook_VU = torch.where((count_V > 1e-6)[:, None], mean_VU, state["codebook"])
    if quantizer["distance"] == "cosine":
        codebook_VU = unit_rows(codebook_VU)
    return {"codebook": codebook_VU, "count": count_V, "sum": sum_VU, "seen": state["seen"] + 1}
