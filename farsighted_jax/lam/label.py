"""Labelling a dataset: the codes of every window of every episode."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from data_pipelines.clips import EpisodeFrames, clip_batch, clip_steps
from data_pipelines.code_dataset import MISSING, CodeWriter, EpisodeCodes
from data_pipelines.errors import RecordError
from data_pipelines.frame import Preprocessing
from data_pipelines.prefetch import read_ahead
from data_pipelines.split import EpisodeSplit
from farsighted_jax.lam.inference import LatentActions

# Windows of several episodes are encoded together; so many batches at a time bound both memory and padding.
GROUP_BATCHES = 4


@dataclasses.dataclass(frozen=True)
class LabelSettings:
    """How windows are cut and encoded.

    Attributes:
      offsets_s: seconds from frame 0 to each keyframe.
      preprocessing: of every image.
      camera: role of the camera.
      depth: (center, scale) of log depth, or None to read none.
      blank_depth: where none is read, see `data_pipelines.clips.clip_batch`.
      batch_size: windows encoded at once.
      readers: threads that decode episodes.
      timeout_s: longest wait for an episode.
    """

    offsets_s: tuple[float, ...]
    preprocessing: Preprocessing
    camera: str = "primary"
    depth: tuple[float, float] | None = None
    blank_depth: tuple[float, float] | None = None
    batch_size: int = 64
    readers: int = 4
    timeout_s: float = 300.0


def label_shards(
    actions: LatentActions,
    split: EpisodeSplit,
    writer: CodeWriter,
    settings: LabelSettings,
    shards: Sequence[int],
    report: Callable[[str], None] = print,
) -> int:
    """Writes the shards that are not done yet.

    Args:
      actions: the model.
      split: what to label.
      writer: of the side dataset.
      settings: see there.
      shards: those of this host.
      report: gets one line a shard.

    Returns:
      Number of episodes labelled now.

    Raises:
      RecordError: a damaged episode; with on_corrupt="skip" it gets no valid code instead.
    """
    labelled = 0
    for position, shard in enumerate(shards, start=1):
        episodes = writer.episodes(shard)
        place = f"shard {shard} of {writer.num_shards} ({position}/{len(shards)} of this host)"
        if writer.is_done(shard):
            report(f"{place}: done before, verified")
            continue
        writer.write(shard, labelled_episodes(actions, split, settings, episodes))
        labelled += len(episodes)
        report(f"{place}: {len(episodes)} episodes")
    return labelled


def labelled_episodes(
    actions: LatentActions, split: EpisodeSplit, settings: LabelSettings, episodes: Sequence[int]
) -> Iterator[EpisodeCodes]:
    """Codes of the given episodes, in order; images are decoded ahead by threads."""

    def windows(number):
        num_steps = 0
        try:
            source = EpisodeFrames(split, number, camera=settings.camera, depth=settings.depth)
            num_steps = source.num_frames
            starts = range(source.num_frames - clip_steps(source, settings.offsets_s)[0])
            if not starts:
                return num_steps, None
            return num_steps, clip_batch(
                source, starts, settings.offsets_s, settings.preprocessing, settings.blank_depth
            )
        except RecordError:
            if split.on_corrupt == "strict":
                raise
            return num_steps, None

    ahead = read_ahead(
        windows,
        episodes,
        readers=settings.readers,
        prefetch=2 * settings.readers,
        timeout_s=settings.timeout_s,
    )
    group, rows = [], 0
    for number, (num_steps, batch) in ahead:
        group.append((number, num_steps, batch))
        rows += 0 if batch is None else len(batch["rgb"])
        if rows >= GROUP_BATCHES * settings.batch_size:
            yield from _encoded(actions, settings, group)
            group, rows = [], 0
    yield from _encoded(actions, settings, group)


def _encoded(actions, settings, group):
    batches = [batch for _, _, batch in group if batch is not None]
    codes = np.zeros((0, len(settings.offsets_s), actions.num_slots), np.int32)
    if batches:
        joined = {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
        codes = actions.encode_rows(joined, settings.batch_size)["code"]
    first = 0
    for number, num_steps, batch in group:
        code_LtZ = np.full((num_steps, *codes.shape[1:]), MISSING, np.int32)
        valid_Lt = np.zeros(code_LtZ.shape[:2], bool)
        if batch is not None:
            num = len(batch["rgb"])
            valid_Lt[:num] = batch["frame_valid"][:, 1:]
            code_LtZ[:num] = np.where(valid_Lt[:num, :, None], codes[first : first + num], MISSING)
            first += num
        yield EpisodeCodes(number, code_LtZ, valid_Lt)
