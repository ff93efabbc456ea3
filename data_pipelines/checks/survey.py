"""One pass over a split for all that the checks look at: all numbers, and a sample of the images."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from data_pipelines.checks.finding import Finding
from data_pipelines.errors import RecordError
from data_pipelines.prefetch import read_ahead
from data_pipelines.running_statistics import RunningStatistics
from data_pipelines.statistics import SplitStatistics
from data_pipelines.trajectory import oriented
from farsighted_jax.core.spec import CameraSpec

IMAGE_EPISODES = 200
IMAGES_PER_EPISODE = 4
_READERS = 4
_TIMEOUT_S = 600.0


@dataclasses.dataclass(frozen=True)
class SeenEpisode:
    """The numbers of an episode: its number, steps L, float32[L, M], float32[L, I], text, float64[L] s."""

    number: int
    num_steps: int
    actions: np.ndarray | None
    states: np.ndarray | None
    instruction: bytes
    timestamps: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class SeenImage:
    """One decoded image: where it stands, pixels, mean and standard deviation of its values, its digest."""

    camera: str
    episode: int
    step: int
    height: int
    width: int
    mean: float
    spread: float
    digest: str


@dataclasses.dataclass(frozen=True)
class SeenDepth:
    """One depth map: shares of pixels measured and beyond the limit; 1 %, 50 % and 99 % in m (0 without)."""

    camera: str
    episode: int
    step: int
    measured: float
    beyond: float
    low_m: float
    median_m: float
    high_m: float


@dataclasses.dataclass(frozen=True)
class Survey:
    """What was seen of a split.

    Attributes:
      split: the open split.
      asked: numbers of the episodes that were read.
      episodes: those that could be read, in order.
      images: of the sampled episodes.
      depths: likewise.
      failures: number and error of episodes, and of sampled images, that could not be read.
    """

    split: Any
    asked: Sequence[int]
    episodes: list[SeenEpisode]
    images: list[SeenImage]
    depths: list[SeenDepth]
    failures: list[tuple[int, RecordError]]

    @property
    def spec(self):
        """Meaning of the features."""
        return self.split.spec

    @property
    def place(self) -> str:
        """Dataset and split."""
        return f"{self.split.name}:{self.split.split}"

    def finding(
        self, severity: str, check: str, found: str, mend: str = "", episode: int | None = None
    ) -> Finding:
        """A finding of this split, or of one of its episodes."""
        place = self.place if episode is None else f"{self.place}, episode {episode}"
        return Finding(severity, check, place, found, mend)

    @functools.cached_property
    def statistics(self) -> SplitStatistics:
        """Statistics of what was read; episodes that were not have length 0."""
        lengths = np.zeros(self.split.num_episodes, np.int32)
        actions, states = RunningStatistics(0), RunningStatistics(1)
        for episode in self.episodes:
            lengths[episode.number] = episode.num_steps
            if episode.actions is not None:
                actions.add(oriented(episode.actions, self.spec.action))
            if episode.states is not None:
                states.add(episode.states)
        return SplitStatistics(lengths, *(found if found.count else None for found in (actions, states)))

    def moving(self) -> Iterator[SeenEpisode]:
        """Episodes with actions and at least two steps."""
        return (e for e in self.episodes if e.actions is not None and e.num_steps > 1)


def evenly(count: int, most: int) -> list[int]:
    """At most `most` of the numbers below `count`, evenly spread; all if `most` is 0."""
    if not most or most >= count:
        return list(range(count))
    return np.unique(np.linspace(0, count - 1, most).round().astype(int)).tolist()


def survey(
    split: Any, *, max_episodes: int = 0, image_episodes: int = IMAGE_EPISODES, every_image: bool = False
) -> Survey:
    """Reads a split; what cannot be read is kept as a failure.

    Args:
      split: an open split with on_corrupt="strict".
      max_episodes: read at most so many, evenly spread; 0 for all.
      image_episodes: decode `IMAGES_PER_EPISODE` images of so many of them; 0 for all.
      every_image: decode all images of all of them.
    """
    asked = evenly(split.num_episodes, max_episodes)
    chosen = range(len(asked)) if every_image else evenly(len(asked), image_episodes)
    with_images = {asked[i] for i in chosen}

    def read(number):
        try:
            return _seen(split, number, number in with_images, every_image)
        except RecordError as error:
            return error

    episodes, images, depths, failures = [], [], [], []
    ahead = read_ahead(read, asked, readers=_READERS, prefetch=4 * _READERS, timeout_s=_TIMEOUT_S)
    for number, found in ahead:
        if isinstance(found, RecordError):
            failures.append((number, found))
            continue
        episode, of_images, of_depths, errors = found
        episodes.append(episode)
        images += of_images
        depths += of_depths
        failures += [(number, error) for error in errors]
    return Survey(split, asked, episodes, images, depths, failures)


def _seen(split, number, with_images, every_image):
    episode, images, depths, errors = split.episode(number), [], [], []
    steps = evenly(episode.num_steps, 0 if every_image else IMAGES_PER_EPISODE) if with_images else ()
    for camera in split.spec.cameras:
        for step in steps:
            try:
                images.append(_image(episode, camera, step))
                if camera.depth_key:
                    depths.append(_depth(episode, camera, step))
            except RecordError as error:
                errors.append(error)
    numbers = SeenEpisode(
        number,
        episode.num_steps,
        episode.actions,
        episode.states,
        episode.instruction,
        episode.timestamps,
    )
    return numbers, images, depths, errors


def _image(episode, camera: CameraSpec, step):
    image_HWC = episode.rgb(step, camera.name)
    digest = hashlib.sha256(np.ascontiguousarray(image_HWC).tobytes()).hexdigest()
    spread = float(image_HWC.reshape(-1, 3).std(0).max())
    return SeenImage(
        camera.name, episode.index, step, *image_HWC.shape[:2], float(image_HWC.mean()), spread, digest
    )


def _depth(episode, camera: CameraSpec, step):
    metres = episode.depth(step, camera.name) * np.float32(camera.depth_unit_m)
    positive = metres[np.isfinite(metres) & (metres > 0)]
    kept = positive[positive <= camera.depth_max_m]
    quantiles = np.quantile(positive, [0.01, 0.5, 0.99]) if len(positive) else np.zeros(3)
    shares = len(kept) / metres.size, (len(positive) - len(kept)) / metres.size
    return SeenDepth(camera.name, episode.index, step, *shares, *map(float, quantiles))
