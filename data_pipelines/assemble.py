"""Writes one window into one row of a batch."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence

import numpy as np

from data_pipelines.draw import NO_DRAW, Draw
from data_pipelines.episode_cache import EpisodeCache
from data_pipelines.errors import RecordError
from data_pipelines.frame import Preprocessing
from data_pipelines.frame_writer import FRAME_FIELDS, FrameWriter
from data_pipelines.goal import write_goal
from data_pipelines.history import empty_history, write_history
from data_pipelines.language.instructions import Instructions
from data_pipelines.language.paraphrases import chosen, ways_to_say
from data_pipelines.source import Source
from data_pipelines.text_features import TextFeatures
from data_pipelines.trajectory import action_chunk, action_sum, keyframe_window, oriented
from farsighted_jax.core.normalization import Normalizer

TOKEN_FIELD = "image_token"


class Assembler:
    """Knows the shapes of a batch and fills its rows; safe to use from threads.

    Attributes:
      instructions: what makes its texts, or None.
      text_features: vectors of the texts, or None.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        preprocessing: Preprocessing,
        *,
        action_horizon: int,
        normalization: str,
        cache: EpisodeCache,
        with_depth: bool,
        depth_noise: float = 0.0,
        plain_clip: bool = False,
        instructions: Instructions | None = None,
        text_features: TextFeatures | None = None,
        goal_within_s: float = 0.0,
    ):
        """Takes the datasets in the order of their index in the mixture.

        None leaves out text or vectors, `goal_within_s=0` leaves out goals.
        """
        self.instructions, self.text_features = instructions, text_features
        self._sources, self._size = tuple(sources), preprocessing.resolution
        self._cache, self._frames = cache, FrameWriter(preprocessing, depth_noise, cache)
        self._horizon, self._plain, self._goal_s = action_horizon, plain_clip, goal_within_s
        depths = {"depth": True, "sensed_depth": depth_noise, "plain_depth": plain_clip}
        self._depths = [name for name, wanted in depths.items() if with_depth and wanted]
        self._actions = [s.action and _action_normalizer(s, normalization) for s in sources]
        self._states = [s.state and Normalizer(s.state, normalization) for s in sources]
        self._action_width = max((len(s.action.mean) for s in sources if s.action), default=0)
        self._state_width = max((len(s.state.mean) for s in sources if s.state), default=0)

    def empty(self, num_rows: int) -> dict[str, np.ndarray]:
        """A batch of padding: zeros, nothing valid, ids -1."""
        first = self._sources[0]
        t = len(first.steps[0])
        images = (num_rows, t + 1, self._size, self._size)
        batch = {
            "rgb": np.zeros((*images, 3), np.uint8),
            "time_s": np.zeros((num_rows, t + 1), np.float32),
            "frame_valid": np.zeros((num_rows, t + 1), bool),
        }
        if first.tokens:
            batch[TOKEN_FIELD] = np.zeros((num_rows, t + 1, *first.tokens.shape), np.uint16)
        if self._plain:
            batch["plain_rgb"] = np.zeros((*images, 3), np.uint8)
        for name in self._depths:
            batch[name] = np.zeros((*images, 1), np.float32)
            batch[f"{name}_valid"] = np.zeros((*images, 1), bool)
        if self._depths:
            batch["depth_center"] = np.zeros(num_rows, np.float32)
            batch["depth_scale"] = np.ones(num_rows, np.float32)
        if self._action_width:
            for name, length in (("action", self._horizon), ("action_sum", t)):
                batch[name] = np.zeros((num_rows, length, self._action_width), np.float32)
                batch[f"{name}_valid"] = np.zeros((num_rows, length, self._action_width), bool)
            batch["last_action"] = np.zeros((num_rows, self._action_width), np.float32)
            batch["last_action_valid"] = np.zeros((num_rows, self._action_width), bool)
        if self._state_width:
            batch["proprio"] = np.zeros((num_rows, self._state_width), np.float32)
            batch["proprio_valid"] = np.zeros((num_rows, self._state_width), bool)
        if first.cameras:
            batch |= empty_history(batch, len(first.history), len(first.cameras))
        if first.codes:
            batch["code"] = np.zeros((num_rows, t, first.codes.format.num_slots), np.int32)
            batch["code_valid"] = np.zeros((num_rows, t), bool)
        if self.instructions:
            batch["text"] = np.zeros((num_rows, self.instructions.length), np.int32)
            batch["text_valid"] = np.zeros((num_rows, self.instructions.length), bool)
        if self.text_features:
            shape = (num_rows, self.instructions.length, self.text_features.width)
            batch["text_vector"] = np.zeros(shape, np.float32)
        if self._goal_s:
            batch["goal_rgb"] = np.zeros((num_rows, self._size, self._size, 3), np.uint8)
            batch["goal_time_s"] = np.zeros(num_rows, np.float32)
            batch["goal_valid"] = np.zeros(num_rows, bool)
        for name in ("dataset", "episode", "step"):
            batch[name] = np.full(num_rows, -1, np.int32)
        return batch

    def write(
        self,
        batch: dict[str, np.ndarray],
        row: int,
        ids: Sequence[int],
        draw: Draw = NO_DRAW,
    ) -> Counter[str]:
        """Fills a row that `empty` made.

        With on_corrupt="skip", a frame that cannot be read stays masked; without
        its frame 0 the whole row does.

        Args:
          batch: written in place.
          row: which row.
          ids: (dataset, episode, step of frame 0).
          draw: what was drawn for the sample.

        Returns:
          Cause (`RecordError.cause`) -> frames that could not be read.

        Raises:
          RecordError: a record or an image that cannot be read (on_corrupt="strict"), or a
            label; names dataset, file, record, episode, step and key.
          TextFeatureError: a text without vectors.
        """
        dataset, number, start = (int(i) for i in ids)
        source = self._sources[dataset]
        batch["dataset"][row], batch["episode"][row], batch["step"][row] = dataset, number, start
        length, hz = int(source.lengths[number]), source.split.spec.hz
        window = keyframe_window(start, source.steps[draw.scale], length, hz)
        strict = source.split.on_corrupt == "strict"
        try:
            episode = self._cache.episode(source.split, number)
        except RecordError as error:
            if strict:
                raise
            return Counter({error.cause: int(window.valid.sum())})
        read_T, unread = window.valid.copy(), Counter()
        for k in np.flatnonzero(window.valid):
            try:
                out = {name: batch[name][row, k] for name in FRAME_FIELDS if name in batch}
                step = int(window.frames[k])
                self._frames.write(out, source, episode, step, source.camera, draw.augmentation)
                if source.tokens:
                    source.tokens.write(episode.index, step, batch[TOKEN_FIELD][row, k])
            except RecordError as error:
                if strict:
                    raise
                read_T[k] = False
                unread[error.cause] += 1
        if unread:
            window = self._masked(batch, row, window, read_T & read_T[0])
        batch["frame_valid"][row], batch["time_s"][row] = window.valid, window.time_s
        if window.valid[0]:
            self._write_numbers(batch, row, source, episode, window)
            if self.instructions and draw.told:
                self._write_text(batch, row, source, episode, draw)
            if self._goal_s:
                unread += write_goal(batch, row, source, episode, start, self._goal_s, draw, self._frames)
            if source.cameras:
                unread += write_history(batch, row, source, episode, start, draw.augmentation, self._frames)
        return unread

    def _masked(self, batch, row, window, valid_T):
        for name in (*FRAME_FIELDS, TOKEN_FIELD):
            if name in batch:
                batch[name][row][~valid_T] = 0
        return dataclasses.replace(
            window, valid=valid_T, time_s=np.where(valid_T, window.time_s, np.float32(0))
        )

    def _write_numbers(self, batch, row, source, episode, window):
        start, dataset = int(window.frames[0]), batch["dataset"][row]
        if source.depth is not None:
            batch["depth_center"][row], batch["depth_scale"][row] = source.depth
        if source.codes:
            batch["code_valid"][row] = window.valid[1:]
            source.codes.write(episode.index, start, batch["code"][row], batch["code_valid"][row])
        if source.action is not None and source.seen[episode.index]:
            spec = source.split.spec.action
            # What follows the window is not needed: an episode may have thousands of steps.
            end = max(start + self._horizon, int(window.frames.max()) + 1)
            actions_lM = oriented(episode.actions[start:end], spec)
            width = actions_lM.shape[1]
            if start:
                last_M = self._actions[dataset](oriented(episode.actions[start - 1 : start], spec)[0])
                batch["last_action"][row, :width], batch["last_action_valid"][row, :width] = last_M, True
            normalized_JM = self._actions[dataset](actions_lM[: self._horizon])
            chunk_JM, valid_J = action_chunk(normalized_JM, 0, self._horizon)
            batch["action"][row, :, :width] = chunk_JM
            batch["action_valid"][row, :, :width] = valid_J[:, None]
            batch["action_sum"][row, :, :width] = action_sum(actions_lM, window, spec.delta, begin=start)
            batch["action_sum_valid"][row, :, :width] = window.valid[1:, None]
        if source.state is not None:
            width = episode.states.shape[1]
            batch["proprio"][row, :width] = self._states[dataset](episode.states[start])
            batch["proprio_valid"][row, :width] = True

    def _write_text(self, batch, row, source, episode, draw):
        text = episode.instruction
        if draw.text:
            text = chosen(ways_to_say(episode, source.split.spec), draw.text)
        self.instructions.write(text, batch["text"][row], batch["text_valid"][row])
        if self.text_features:
            fields = (batch[name][row] for name in ("text", "text_valid", "text_vector"))
            self.text_features.write(*fields, text)


def _action_normalizer(source, normalization):
    gripper = [group == "gripper" for group in source.split.spec.action.groups]
    return Normalizer(source.action, normalization, gripper)
