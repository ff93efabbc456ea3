"""The settings of a stream: the section `data` of a configuration, checked."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from data_pipelines.frame import Preprocessing
from farsighted_jax.core.config import ConfigError, check_choice, check_range
from farsighted_jax.core.normalization import MODES


@dataclasses.dataclass(frozen=True)
class StreamSettings:
    """The keys of `config.data` that the stream reads.

    Attributes:
      dir: folder of datasets, local or a URI.
      mixture: a named mixture, a dataset, or "a:0.7,b:0.3".
      split: of every dataset, e.g. "train" or "train[:90%]".
      resolution: height and width of the images in pixels.
      offsets_s: seconds from frame 0 to each further keyframe.
      dataset_offsets_s: (dataset, offsets) pairs of datasets that have others, as many of them.
      offset_scales: factors of all offsets; each training window draws one, each equally likely.
        Evaluation takes the offsets as they are.
      whole_windows: leave out windows that run past the end of their episode.
      action_horizon: steps J of the action chunk.
      camera: role of the camera.
      depth: "auto" (if any dataset has it), "on" (every dataset must), "off".
      depth_noise: relative error of the depth that the encoder reads, with holes; 0 for none.
        The target stays clean.
      augment: whether training batches are augmented.
      shift: largest shift as a share of the resolution.
      jitter: largest relative change of brightness, contrast and saturation.
      windows_per_episode: windows of one episode that follow each other in a batch.
      on_corrupt: "strict" or "skip".
      cache_dir: folder of derived files; "" for the default, see `cache.cache_path`.
      normalization: one word of `core.normalization.MODES`.
      timeout_s: longest wait for a batch.
      text_tokenizer: "" for batches without text, "bytes", or see `instructions.tokenizer_for`.
      text_length: tokens L of an instruction, its end included; longer ones are cut.
      text_features: local folder of `farsighted text-features`, or "" for batches without vectors of the
        instructions.
      image_features: local folder of `farsighted image-features`, or "" for batches without tokens of the
        frames. They are of frames that are not augmented.
      text_choice: which of the ways to say an episode's task a training sample is told: the "first", or
        "any", each equally likely. Evaluation takes the first.
      text_dropout: share of the training samples that are told nothing.
      goal: "" for batches without goals; else a later frame of the episode, in hindsight what was wanted: its
        "last", or one drawn "uniform"ly among those after frame 0. Evaluation takes the last.
      goal_within_s: seconds after frame 0 up to which frames may be goals, to the nearest frame and at least
        the next one; 0: up to the end of the episode.
      cameras: roles of the cameras of the history, that of `camera` first; () for batches without history.
      history_s: seconds before frame 0 of the history's frames, the oldest first; frame 0 itself,
        which is always one of them, is not named.
      codes: folder of side datasets of `farsighted label`, or "" for batches without codes.
      action_fraction: share of the episodes whose actions training sees, at least one episode; see
        `source.seen_episodes`. Evaluation sees all.
      plain_clip: give the clip before augmentation too, if there is any.
      memory_mb: budget on this host, in MB (2**20 bytes): batches read ahead, what readers hold, and
        episodes and frames that are kept for later windows.
    """

    dir: str
    mixture: str
    split: str
    resolution: int
    offsets_s: tuple[float, ...]
    action_horizon: int = 4
    camera: str = "primary"
    depth: str = "auto"
    augment: bool = False
    shift: float = 0.0
    jitter: float = 0.0
    windows_per_episode: int = 1
    on_corrupt: str = "strict"
    cache_dir: str = ""
    normalization: str = "q01_q99"
    timeout_s: float = 300.0
    dataset_offsets_s: tuple[tuple[str, tuple[float, ...]], ...] = ()
    offset_scales: tuple[float, ...] = (1.0,)
    whole_windows: bool = False
    depth_noise: float = 0.0
    text_tokenizer: str = ""
    text_length: int = 64
    text_features: str = ""
    cameras: tuple[str, ...] = ()
    history_s: tuple[float, ...] = ()
    codes: str = ""
    action_fraction: float = 1.0
    plain_clip: bool = False
    memory_mb: float = 1024.0
    image_features: str = ""
    text_choice: str = "first"
    text_dropout: float = 0.0
    goal: str = ""
    goal_within_s: float = 0.0

    def __post_init__(self):
        check_choice("data.depth", self.depth, ("auto", "on", "off"))
        check_choice("data.on_corrupt", self.on_corrupt, ("strict", "skip"))
        check_choice("data.normalization", self.normalization, MODES)
        check_choice("data.text_choice", self.text_choice, ("first", "any"))
        check_choice("data.goal", self.goal, ("", "last", "uniform"))
        check_range("data.text_dropout", self.text_dropout, 0.0, 1.0)
        check_range("data.goal_within_s", self.goal_within_s, low=0.0)
        if self.goal_within_s and not self.goal:
            raise ConfigError(
                f"configuration key 'data.goal_within_s' is {self.goal_within_s:g}, but 'data.goal' is "
                "empty; expected 'last' or 'uniform'"
            )
        for name in ("resolution", "action_horizon", "windows_per_episode"):
            check_range(f"data.{name}", getattr(self, name), low=1)
        # Of one token nothing but the end would be left.
        check_range("data.text_length", self.text_length, low=2)
        for name in ("shift", "jitter", "depth_noise"):
            check_range(f"data.{name}", getattr(self, name), 0.0, 0.99)
        check_range("data.action_fraction", self.action_fraction, 0.0, 1.0)
        check_range("data.memory_mb", self.memory_mb, low=1)
        self._check_history()
        if self.text_features and not self.text_tokenizer:
            raise ConfigError(
                f"configuration key 'data.text_features' is {self.text_features!r}, but "
                "'data.text_tokenizer' is empty; expected that of the vectors, such as 't5-base'"
            )
        if self.image_features and self.augments(train=True):
            raise ConfigError(
                f"configuration key 'data.image_features' is {self.image_features!r}, whose tokens are of "
                f"images as they are, but 'data.augment' is on with data.shift = {self.shift:g} and "
                f"data.jitter = {self.jitter:g}; expected data.augment=False"
            )
        if not self.offset_scales:
            raise ConfigError("configuration key 'data.offset_scales' is empty, expected e.g. (1.0,)")
        if self.codes and tuple(self.offset_scales) != (1.0,):
            raise ConfigError(
                f"configuration key 'data.codes' is {self.codes!r}, whose labels know one set of keyframes, "
                f"but 'data.offset_scales' is {tuple(self.offset_scales)}, expected (1.0,)"
            )
        for scale in self.offset_scales:
            check_range("data.offset_scales", scale, low=1e-6)
        for name, offsets_s in self.dataset_offsets_s:
            if len(offsets_s) != len(self.offsets_s):
                raise ConfigError(
                    f"configuration key 'data.dataset_offsets_s': {len(offsets_s)} offsets "
                    f"{tuple(offsets_s)} for {name!r}, expected {len(self.offsets_s)} as in data.offsets_s"
                )

    def offsets_of(self, dataset: str) -> tuple[float, ...]:
        """Seconds from frame 0 to each further keyframe of one dataset."""
        return tuple(dict(self.dataset_offsets_s).get(dataset, self.offsets_s))

    def scaled_offsets_of(self, dataset: str, train: bool) -> list[tuple[float, ...]]:
        """The same for each of `offset_scales`; unless training, for none but 1."""
        scales = self.offset_scales if train else (1.0,)
        return [tuple(scale * offset for offset in self.offsets_of(dataset)) for scale in scales]

    def _check_history(self):
        if self.history_s and not self.cameras:
            raise ConfigError(
                f"configuration key 'data.history_s' is {self.history_s}, but 'data.cameras' is empty; "
                f"expected the cameras to show, e.g. ({self.camera!r},)"
            )
        if self.cameras and (self.cameras[0] != self.camera or len(set(self.cameras)) != len(self.cameras)):
            raise ConfigError(
                f"configuration key 'data.cameras': {tuple(self.cameras)}, expected distinct roles, "
                f"data.camera {self.camera!r} first"
            )

    def augments(self, train: bool) -> bool:
        """Whether images are changed at random."""
        return bool(train and self.augment and (self.shift or self.jitter))

    @classmethod
    def of(cls, data_config: Mapping[str, Any]) -> StreamSettings:
        """Takes what it needs of a config's data section; other keys belong to other parts."""
        known = [field for field in dataclasses.fields(cls)]
        present = {field.name: data_config[field.name] for field in known if field.name in data_config}
        missing = [f.name for f in known if f.default is dataclasses.MISSING and f.name not in present]
        if missing:
            raise ConfigError(f"configuration section 'data' lacks {missing}; it has {sorted(data_config)}")
        return cls(**present | {"offsets_s": tuple(present["offsets_s"])})

    def preprocessing(self, train: bool) -> Preprocessing:
        """The image preprocessing; without augmentation unless training."""
        if not (train and self.augment):
            return Preprocessing(self.resolution)
        return Preprocessing(self.resolution, self.shift, self.jitter, self.jitter, self.jitter)
