"""DINOv2: a vision transformer whose patch tokens carry geometry; used frozen.

Nothing in it is random at run time, so a frozen encoder is deterministic
whatever the mode of training is.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from farsighted_jax.encoders.errors import EncoderError
from farsighted_jax.encoders.image_input import normalized_rgb
from farsighted_jax.encoders.resize import resampled, resize_matrix
from farsighted_jax.encoders.vit import VisionBlock, layer_norm
from farsighted_jax.layers.patches import patchify

# Widths, depths and heads of the published networks; all have 14 px patches and positions for 518 x 518 px.
_SIZES = {
    "vits14": {"width": 384, "depth": 12, "num_heads": 6},
    "vitb14": {"width": 768, "depth": 12, "num_heads": 12},
    "vitl14": {"width": 1024, "depth": 24, "num_heads": 16},
    "vitg14": {"width": 1536, "depth": 40, "num_heads": 24, "swiglu": True},
}
VARIANTS = _SIZES | {f"{name}_reg": {**sizes, "num_registers": 4} for name, sizes in _SIZES.items()}


class DinoV2(nn.Module):
    """Image to patch tokens.

    Attributes:
      width: E.
      depth: number of blocks; they are scanned, parameters are stacked on a leading axis.
      num_heads: attention heads A.
      patch: pixels a patch.
      grid: rows and columns of the learned positions; other grids are interpolated.
      num_registers: extra tokens that take no part in the result; 0 for the first release.
      expansion: see `VisionMlp`.
      swiglu: see `VisionMlp`.
      position_offset: patches added to the number wanted when positions are
        interpolated without registers. The authors' code adds 0.1 (it once
        avoided a rounding error), transformers adds nothing.
      unroll: blocks a loop iteration; results do not change.
      dtype: of the computation; norms and softmax are float32.
      param_dtype: of the parameters.
    """

    width: int
    depth: int
    num_heads: int
    patch: int = 14
    grid: int = 37
    num_registers: int = 0
    expansion: int = 4
    swiglu: bool = False
    position_offset: float = 0.0
    unroll: int = 1
    dtype: jnp.dtype = jnp.float32
    param_dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, rgb_BHWC, layers: tuple[int, ...] = ()):
        """Encodes images.

        Args:
          rgb_BHWC: uint8[B, H, W, 3], or float[B, H, W, 3] within [0, 1].
          layers: numbers of blocks, ascending, after which the tokens are wanted too.

        Returns:
          patches_BNE: float[B, N, E] after the last norm, row by row.
          out: "class" float[B, E], "registers" float[B, R, E] (R may be 0), and
            "layers": for each of `layers` the normed tokens float[B, 1 + R + N, E],
            in the order class, registers, patches.

        Raises:
          EncoderError: an image of another rank, dtype or channels, one that the
            patch does not divide, or layers that do not exist.
        """
        self._check(rgb_BHWC, layers)
        tokens_BSE = self._embedded(normalized_rgb(rgb_BHWC))
        tokens_BSE, kept = self._blocks(tokens_BSE, layers)
        norm = layer_norm("norm", self.dtype, self.param_dtype)
        tokens_BSE = norm(tokens_BSE)
        first = 1 + self.num_registers
        out = {
            "class": tokens_BSE[:, 0],
            "registers": tokens_BSE[:, 1:first],
            "layers": tuple(norm(layer_BSE) for layer_BSE in kept),
        }
        return tokens_BSE[:, first:], out

    def _check(self, rgb_BHWC, layers):
        if rgb_BHWC.ndim != 4:
            raise EncoderError(f"expected images [B, H, W, 3], found shape {list(rgb_BHWC.shape)}")
        for size in rgb_BHWC.shape[1:3]:
            if size < self.patch or size % self.patch:
                near = max(round(size / self.patch), 1) * self.patch
                raise EncoderError(
                    f"image {rgb_BHWC.shape[1]}x{rgb_BHWC.shape[2]}: {size} px is no multiple of the patch, "
                    f"{self.patch} px; the nearest is {near} px"
                )
        if list(layers) != sorted(set(layers)) or not set(layers) <= set(range(1, self.depth + 1)):
            raise EncoderError(f"layers {tuple(layers)}: expected ascending numbers in 1..{self.depth}")

    def _embedded(self, pixels_BHWC):
        """Normalised pixels to tokens with positions: class, registers, patches."""
        B, H, W, _ = pixels_BHWC.shape
        patches_BNF = patchify(pixels_BHWC.astype(self.dtype), self.patch)
        embed = nn.Dense(self.width, dtype=self.dtype, param_dtype=self.param_dtype, name="patch_embedding")
        class_1E = self._table("class_token", 1)
        position_SE = self._table("positions", 1 + self.grid**2)
        position_NE = self._positions(position_SE[1:], H // self.patch, W // self.patch)
        parts = [
            jnp.broadcast_to((class_1E + position_SE[:1]).astype(self.dtype), (B, 1, self.width)),
            embed(patches_BNF) + position_NE.astype(self.dtype),
        ]
        if self.num_registers:
            # Registers stand nowhere in the image: they get no position.
            registers_RE = self._table("registers", self.num_registers).astype(self.dtype)
            parts.insert(1, jnp.broadcast_to(registers_RE, (B, *registers_RE.shape)))
        return jnp.concatenate(parts, axis=1)

    def _table(self, name, rows):
        init = nn.initializers.normal(0.02)
        return nn.Embed(
            rows, self.width, param_dtype=self.param_dtype, embedding_init=init, name=name
        ).embedding

    def _positions(self, position_NE, rows: int, columns: int):
        """Learned positions for any grid, in float32; networks with registers were trained antialiased."""
        position_NE = position_NE.astype(jnp.float32)
        if (rows, columns) == (self.grid, self.grid):
            return position_NE
        position_YXE = position_NE.reshape(self.grid, self.grid, self.width)
        if self.num_registers:
            matrices = [resize_matrix(self.grid, n, "cubic", antialias=True) for n in (rows, columns)]
        else:
            matrices = [
                resize_matrix(self.grid, n, "cubic_sharp", step=self.grid / (n + self.position_offset))
                for n in (rows, columns)
            ]
        return resampled(position_YXE, *matrices).reshape(rows * columns, self.width)

    def _blocks(self, tokens_BSE, layers):
        """All blocks, and what stood after some of them.

        Each block writes the slot of the next wanted layer; the last to write a
        slot is that layer itself. So a scan keeps few layers, not all.
        """
        block = VisionBlock(
            self.num_heads, self.expansion, self.swiglu, self.dtype, self.param_dtype, name="blocks"
        )
        last = max(layers, default=0)
        slot_D = np.searchsorted(np.array(layers, int), np.arange(1, self.depth + 1))
        slot_D = jnp.asarray(np.where(np.arange(self.depth) < last, slot_D, len(layers)), jnp.int32)
        # One more slot takes what comes after the last wanted layer.
        num_slots = len(layers) + (last < self.depth) if layers else 0

        def step(block, carry, slot):
            tokens_BSE, kept = carry
            tokens_BSE = block(tokens_BSE)
            if kept is not None:
                kept = jax.lax.dynamic_update_index_in_dim(kept, tokens_BSE, slot, 0)
            return (tokens_BSE, kept), None

        scanned = nn.scan(
            step,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            length=self.depth,
            unroll=self.unroll,
        )
        kept = jnp.zeros((num_slots, *tokens_BSE.shape), tokens_BSE.dtype) if layers else None
        (tokens_BSE, kept), _ = scanned(block, (tokens_BSE, kept), slot_D)
        return tokens_BSE, () if kept is None else tuple(kept[: len(layers)])


def dinov2(variant: str, **changes: Any) -> DinoV2:
    """A published size, e.g. "vitb14" or "vitb14_reg"; `changes` are attributes of `DinoV2`.

    Raises:
      EncoderError: an unknown variant; the message names the nearest.
    """
    return DinoV2(**{**variant_sizes(VARIANTS, variant), **changes})


def variant_sizes(variants: Mapping[str, Mapping[str, Any]], variant: str) -> Mapping[str, Any]:
    """An entry of a VARIANTS table, or EncoderError naming the nearest."""
    if variant not in variants:
        near = difflib.get_close_matches(variant, variants, n=1, cutoff=0.3)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise EncoderError(f"unknown variant {variant!r}{hint} (variants: {', '.join(variants)})")
    return variants[variant]
