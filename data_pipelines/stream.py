"""Batches of a mixture: batch = f(seed, schedule, step), for any number of readers and hosts."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from data_pipelines import mixture
from data_pipelines.assemble import Assembler
from data_pipelines.dataset import open_split
from data_pipelines.draw import NO_DRAW, draw_sample
from data_pipelines.episode_cache import MB, EpisodeCache, plan
from data_pipelines.errors import DatasetError
from data_pipelines.language.instructions import Instructions, tokenizer_for
from data_pipelines.left_out import LeftOut
from data_pipelines.prefetch import read_ahead
from data_pipelines.sampler import Sampler
from data_pipelines.source import open_source
from data_pipelines.split import EpisodeSplit
from data_pipelines.stored_codes import CodeFormat, common_format
from data_pipelines.stored_tokens import common_encoder
from data_pipelines.stream_settings import StreamSettings
from data_pipelines.text_features import TextFeatures
from farsighted_jax.core.batch import check
from farsighted_jax.core.config import ConfigError, check_choice
from farsighted_jax.core.spec import DatasetSpec, to_dict

Batch = dict[str, np.ndarray]


def open_stream(
    data_config: Mapping[str, Any],
    *,
    batch_size: int,
    seed: int,
    train: bool = True,
    process_index: int = 0,
    process_count: int = 1,
    rows: Sequence[int] | None = None,
    schedule: Sequence[tuple[int, Mapping[str, float]]] | None = None,
    resumed_at: int | None = None,
    statistics: Mapping[str, Mapping[str, Any]] | None = None,
) -> Stream:
    """Opens a stream of batches and checks all that can be checked before reading images.

    Args:
      data_config: see `StreamSettings`.
      batch_size: rows of the global batch.
      seed: of order and augmentation.
      train: whether batches are augmented, if the config says so.
      process_index: this host.
      process_count: hosts; host p holds the rows [p, p + 1) * batch_size / process_count.
      rows: of the global batch, those that this host holds, in place of the last two.
      schedule: [(from_step, {dataset: weight}), ...] in place of the config's mixture.
      resumed_at: batches that a run has used of `schedule`; from there on the config's mixture holds. Where
        it is another, a segment starts; see `mixture.continued`.
      statistics: `Stream.statistics` of the training data. Evaluation passes
        these, so that both are normalised alike; by default the split's own.

    Raises:
      ConfigError: a missing or wrong setting, sizes that do not divide, or a memory budget that is too small.
      DatasetError, RecordError, KeyframeError, MixtureError, SpecError: naming the dataset.
      LabelError: stored codes that are not those of the datasets, or of several models.
      ImageFeatureError: stored tokens of other frames, or of several encoders.
      TextFeatureError: stored vectors of other texts, or made with another tokenizer or length.
    """
    settings = StreamSettings.of(data_config)
    _check_division(batch_size, process_index, process_count, settings.windows_per_episode)
    # Readers are threads already; OpenCV's own pool would fight them for the cores.
    cv2.setNumThreads(0)
    of_config = resumed_at is not None or not schedule
    if of_config:
        schedule = mixture.used(schedule or (), resumed_at or 0)
        mixed = mixture.parse_mixture(settings.mixture, settings.dir)
        names = tuple(dict.fromkeys([*mixture.dataset_names(schedule), *mixed]))
    else:
        schedule = mixture.checked_schedule(schedule)
        names = mixture.dataset_names(schedule)
    mixture.check_present(settings.mixture, settings.dir, names)
    for name, _ in settings.dataset_offsets_s:
        check_choice("data.dataset_offsets_s", name, names)
    splits = [
        open_split(
            settings.dir,
            name,
            settings.split,
            on_corrupt=settings.on_corrupt,
            cache_dir=settings.cache_dir or None,
        )
        for name in names
    ]
    with_depth = _with_depth(splits, settings)
    _check_cameras(splits, settings)
    given = statistics or {}
    sources, measured = [], {}
    for name, split in zip(names, splits, strict=True):
        source, measured[name] = open_source(split, settings, train, with_depth, given.get(name))
        sources.append(source)
    if of_config:
        num_steps = {name: int(source.lengths.sum()) for name, source in zip(names, sources, strict=True)}
        schedule = mixture.continued(schedule, resumed_at or 0, _weights(settings, num_steps))
    instructions, cache = _instructions(settings), EpisodeCache()
    assembler = Assembler(
        sources,
        settings.preprocessing(train),
        action_horizon=settings.action_horizon,
        normalization=settings.normalization,
        cache=cache,
        with_depth=with_depth,
        depth_noise=settings.depth_noise,
        plain_clip=settings.plain_clip and settings.augments(train),
        goal_within_s=(settings.goal_within_s or math.inf) if settings.goal else 0.0,
        instructions=instructions,
        text_features=_text_features(settings, instructions, splits),
    )
    check(assembler.empty(1))
    if rows is None:
        share = batch_size // process_count
        rows = range(process_index * share, (process_index + 1) * share)
    return Stream(
        settings=settings,
        sources=dict(zip(names, sources, strict=True)),
        assembler=assembler,
        cache=cache,
        schedule=schedule,
        statistics=measured,
        batch_size=batch_size,
        rows=tuple(rows),
        seed=seed,
        train=train,
    )


class Stream:
    """Batches of a mixture for one host.

    Attributes:
      names: datasets in the order of their index in a batch.
      specs: dataset -> DatasetSpec.
      schedule: ((from_step, {dataset: weight}), ...).
      statistics: dataset -> action, state and depth statistics, for JSON.
      preprocessing: what is done to an image, with the limits of the augmentation.
      normalization: mode of actions and states, see `core.normalization`.
      fingerprints: dataset -> digest of its content and meaning.
      fingerprint: digest over all of them.
      num_windows: windows of all datasets together.
      num_batches: batches of one `epoch`.
      batch_size: rows of the global batch.
      tokenizer: of the instructions, or None without text in the batches.
      codes: size, slots and model of the stored codes, or None without codes in the batches.
      image_features: `image_features.ENCODER` of the stored tokens, or None without them in the batches.
      text_features: `text_features.IDENTITY` of the stored vectors, or None without them in the batches.
    """

    def __init__(
        self, *, settings, sources, assembler, cache, schedule, statistics, batch_size, rows, seed, train
    ):
        """Use `open_stream`."""
        self.names, self.schedule, self.statistics, self.batch_size = (
            tuple(sources),
            schedule,
            statistics,
            batch_size,
        )
        self.specs: dict[str, DatasetSpec] = {name: source.split.spec for name, source in sources.items()}
        self.preprocessing, self.normalization = settings.preprocessing(train), settings.normalization
        self._settings, self._sources, self._assembler = settings, sources, assembler
        self._cache, self._ahead = cache, 1
        self._batch_bytes = len(rows) * sum(array.nbytes for array in assembler.empty(1).values())
        self._divide_memory(1, 1)
        self.tokenizer = assembler.instructions and assembler.instructions.tokenizer
        stored = {name: source.codes for name, source in sources.items() if source.codes}
        self.codes: CodeFormat | None = common_format(stored) if stored else None
        tokens = {name: source.tokens for name, source in sources.items() if source.tokens}
        self.image_features = common_encoder(tokens) if tokens else None
        self.text_features = assembler.text_features and assembler.text_features.identity
        self._rows, self._seed = rows, seed
        self._train = train
        self._windows = {name: source.windows for name, source in sources.items()}
        self._ends = np.cumsum(np.concatenate(list(self._windows.values())))
        self.num_windows = int(self._ends[-1])
        self.num_batches = -(-self.num_windows // batch_size)
        self._sampler = Sampler(
            self._windows,
            schedule,
            batch_size=batch_size,
            windows_per_episode=settings.windows_per_episode,
            seed=seed,
        )
        self.fingerprints = {
            name: _fingerprint(source, self.text_features) for name, source in sources.items()
        }
        self.fingerprint = _digest(self.fingerprints)
        epochs = dict(zip(sources, self._sampler.epochs, strict=True))
        self._left_out = LeftOut(sources, self._windows, epochs, statistics)

    @property
    def counts(self) -> dict[str, Any]:
        """What was left out and why: per dataset at opening, frames since then; and texts (if read) cut."""
        counts = self._left_out.counts()
        return counts | (self._assembler.instructions.counts if self._assembler.instructions else {})

    @property
    def metrics(self) -> dict[str, float]:
        """What was damaged until now, under "data/" for logs; 0 with on_corrupt="strict"."""
        return self._left_out.metrics()

    @property
    def memory(self) -> dict[str, Any]:
        """How the budget `data.memory_mb` is divided now, in MB (2**20 bytes), and how the cache does."""
        return {
            "budget_mb": self._settings.memory_mb,
            "batch_mb": round(self._batch_bytes / MB, 2),
            "batches_ahead": self._ahead,
            "kept_mb": round(self._cache.num_bytes / MB, 2),
            "kept_hits": self._cache.hits,
            "kept_misses": self._cache.misses,
        }

    def ids(self, step: int) -> np.ndarray:
        """(dataset, episode, step of frame 0) of this host's rows of a batch, int32[R, 3]; reads nothing."""
        return self._sampler.ids(step, self._rows)

    def batch(self, step: int) -> Batch:
        """This host's rows of batch `step` >= 0; see `core.batch.FIELDS`."""
        return self._filled(self.ids(step), step)

    def batches(self, first_step: int, *, readers: int = 4, prefetch: int = 8) -> Iterator[tuple[int, Batch]]:
        """(step, batch) from `first_step` on without end, read ahead by threads.

        At most `prefetch` batches are held, besides the caller's; fewer where `data.memory_mb` has no room.

        Raises:
          ReaderError: no batch within `timeout_s`.
          RecordError: as `batch`, with a note that names the step.
        """
        return self._read_ahead(self.batch, itertools.count(first_step), readers, prefetch)

    def epoch(self, *, readers: int = 4, prefetch: int = 8) -> Iterator[Batch]:
        """This host's rows of every window once, in fixed order, without augmentation.

        The last batch is filled up with rows that have no valid frame and ids -1.
        What is kept in memory is given back at the end.
        """
        try:
            for _, batch in self._read_ahead(self._epoch_batch, range(self.num_batches), readers, prefetch):
                yield batch
        finally:
            self._cache.clear()

    def ids_digest(self, batch: Mapping[str, np.ndarray]) -> str:
        """Hex digest of the (dataset, episode, step) ids of a batch, in order."""
        ids = np.stack([np.asarray(batch[name]) for name in ("dataset", "episode", "step")], axis=1)
        return hashlib.sha256(ids.astype("<i4").tobytes()).hexdigest()[:16]

    def check_fingerprints(self, saved: Mapping[str, str]) -> None:
        """Refuses data other than what a run began with.

        Raises:
          DatasetError: a dataset's content or specification differs; it is named.
        """
        changed = [
            name for name in self.names if saved.get(name, self.fingerprints[name]) != self.fingerprints[name]
        ]
        if changed:
            lines = [f"{name}: {saved[name][:16]} -> {self.fingerprints[name][:16]}" for name in changed]
            raise DatasetError(
                f"dataset content or specification changed since the checkpoint in {self._settings.dir!r}, "
                f"split {self._settings.split!r}: {'; '.join(lines)}"
            )

    def _read_ahead(self, function, items, readers, prefetch):
        self._divide_memory(prefetch, readers)
        return read_ahead(
            function, items, readers=readers, prefetch=self._ahead, timeout_s=self._settings.timeout_s
        )

    def _divide_memory(self, prefetch, readers):
        self._ahead, kept = plan(self._settings.memory_mb, self._batch_bytes, prefetch)
        self._cache.set_budget(kept, min(readers, self._ahead))

    def _epoch_batch(self, index):
        ids = np.full((len(self._rows), 3), -1, np.int32)
        offsets = np.cumsum([0] + [len(windows) for windows in self._windows.values()])
        for row, place_in_batch in enumerate(self._rows):
            flat = index * self.batch_size + place_in_batch
            if flat >= self.num_windows:
                continue
            place = int(np.searchsorted(self._ends, flat, side="right"))
            dataset = int(np.searchsorted(offsets, place, side="right")) - 1
            start = flat - (int(self._ends[place - 1]) if place else 0)
            ids[row] = dataset, place - offsets[dataset], start
        return self._filled(ids, None)

    def _filled(self, ids, step):
        batch = self._assembler.empty(len(ids))
        for row, row_ids in enumerate(ids):
            if row_ids[0] < 0:
                continue
            draw = NO_DRAW
            if step is not None:
                sample = step * self.batch_size + self._rows[row]
                draw = draw_sample(self._settings, self.preprocessing, self._seed, sample, self._train)
            unread = self._assembler.write(batch, row, row_ids, draw)
            if unread:
                self._left_out.add_unread(self.names[row_ids[0]], unread)
        return batch


def _check_division(batch_size, process_index, process_count, windows_per_episode):
    if not 0 <= process_index < process_count:
        raise ConfigError(f"process_index {process_index} is not within 0..{process_count - 1}")
    if batch_size < 1 or batch_size % (process_count * windows_per_episode):
        raise ConfigError(
            f"batch_size {batch_size} is not a positive multiple of {process_count} host(s) times "
            f"{windows_per_episode} window(s) per episode"
        )


def _weights(settings, num_steps):
    with warnings.catch_warnings():
        # Absent datasets have been told of.
        warnings.simplefilter("ignore")
        return mixture.parse_mixture(settings.mixture, settings.dir, num_steps)


def _instructions(settings):
    if not settings.text_tokenizer:
        return None
    return Instructions(tokenizer_for(settings.text_tokenizer), settings.text_length)


def _text_features(settings, instructions, splits):
    if not settings.text_features:
        return None
    expected = {"tokenizer": instructions.tokenizer.digest, "length": settings.text_length}
    found = TextFeatures(settings.text_features, expected)
    for split in splits:
        found.check_source(split)
    return found


def _with_depth(splits: Sequence[EpisodeSplit], settings: StreamSettings) -> bool:
    has = {split.name: bool(split.spec.camera(settings.camera).depth_key) for split in splits}
    if settings.depth == "on" and not all(has.values()):
        without = [name for name, has_depth in has.items() if not has_depth]
        raise ConfigError(
            f"configuration key 'data.depth' is 'on', but {without} has no depth for {settings.camera!r}"
        )
    return settings.depth != "off" and any(has.values())


def _check_cameras(splits, settings):
    roles = sorted({camera.name for split in splits for camera in split.spec.cameras})
    for role in settings.cameras:
        check_choice("data.cameras", role, roles)


def _fingerprint(source, text_features):
    content = [source.split.fingerprint, to_dict(source.split.spec), source.lengths.tolist()]
    tokens = source.tokens and source.tokens.encoder
    stored = [source.codes and source.codes.labels, tokens, text_features]
    return _digest(content + [part for part in stored if part])


def _digest(values):
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
