"""Everything that a batch holds of one frame, from one decoded image."""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import numpy as np

from data_pipelines.depth_noise import disturbed_depth
from data_pipelines.episode import Episode
from data_pipelines.episode_cache import EpisodeCache
from data_pipelines.frame import (
    Augmentation,
    FrameError,
    Preprocessing,
    prepare_depth,
    prepare_rgb,
    settled_rgb,
)
from data_pipelines.source import Source
from farsighted_jax.core.normalization import normalize_depth
from farsighted_jax.core.spec import CameraSpec

# Fields of a batch with one image a frame of the clip.
FRAME_FIELDS = (
    "rgb", "depth", "depth_valid", "sensed_depth", "sensed_depth_valid",
    "plain_rgb", "plain_depth", "plain_depth_valid",
)  # fmt: skip


class FrameWriter:
    """Decodes, prepares and writes single frames; safe to use from threads."""

    def __init__(self, preprocessing: Preprocessing, depth_noise: float, cache: EpisodeCache):
        """Takes what to do to each image, see `StreamSettings.depth_noise`, and what decodes."""
        self._preprocessing, self._depth_noise, self._cache = preprocessing, depth_noise, cache

    def write(
        self,
        out: Mapping[str, np.ndarray],
        source: Source,
        episode: Episode,
        step: int,
        camera: CameraSpec,
        augmentation: Augmentation,
    ) -> None:
        """Writes what is asked for of one frame.

        Args:
          out: name of `FRAME_FIELDS` -> [H, W, C] of zeros, written in place. Depth stays zero where
            the camera or the dataset has none.
          source: its dataset.
          episode: its episode.
          step: its step of the episode.
          camera: which camera of the dataset.
          augmentation: the sample's draw; fields with "plain_" are written without it.

        Raises:
          RecordError: rgb or depth cannot be read; names dataset, file, record, episode, step and key.
        """
        key = camera.rgb_key
        try:
            image_HWC = self._cache.frame(
                source.split, episode, step, f"rgb {camera.name}", lambda: self._image(episode, step, camera)
            )
            for name, draw in (("rgb", augmentation), ("plain_rgb", Augmentation())):
                if name in out:
                    prepare_rgb(image_HWC, self._preprocessing, augmentation=draw, out=out[name])
            if source.depth is not None and camera.depth_key:
                key = camera.depth_key
                self._write_depth(out, source, episode, step, camera, augmentation)
        except FrameError as error:
            raise episode.error(step, key, str(error)) from error

    def _image(self, episode, step, camera):
        return settled_rgb(episode.rgb(step, camera.name), self._preprocessing, camera.rotate_180)

    def _write_depth(self, out, source, episode, step, camera, augmentation):
        # A view would hold the depth of the whole episode.
        stored_HW = self._cache.frame(
            source.split,
            episode,
            step,
            f"depth {camera.name}",
            lambda: episode.depth(step, camera.name).copy(),
        )
        clean = prepare_depth(stored_HW, camera, self._preprocessing, augmentation=augmentation)
        made = {"depth": clean}
        if "sensed_depth" in out:
            # A sensor errs once: the same frame has the same noise in every window and epoch.
            name = zlib.crc32(f"{source.split.name}/{camera.name}".encode())
            rng = np.random.default_rng([name, episode.index, step])
            made["sensed_depth"] = disturbed_depth(*clean, self._depth_noise, rng)
        if "plain_depth" in out:
            made["plain_depth"] = prepare_depth(stored_HW, camera, self._preprocessing)
        for name, (depth_m, valid) in made.items():
            if name in out:
                out[name][..., 0] = normalize_depth(depth_m, valid, *source.depth)
                out[f"{name}_valid"][..., 0] = valid
