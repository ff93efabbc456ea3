"""`farsighted image-features`: tokens of every frame by a latent action model's frozen image encoder, once.

A run with `data.image_features` reads them in place of running the encoder in every
step. Shards that are done are verified and skipped, so that the same line resumes;
hosts share the shards: processes that know of each other, or jobs that do not, by
--process-index and --process-count.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from farsighted_jax.cli import arguments, hosts


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="farsighted image-features", description=__doc__)
    parser.add_argument("--out", required=True, help="folder to write to")
    parser.add_argument("--split", help="whole split of each dataset (default: that of data.split)")
    parser.add_argument("--batch-size", type=int, default=64, help="frames encoded at once (default: 64)")
    parser.add_argument("--process-index", type=int, help="this job, of several on their own")
    parser.add_argument("--process-count", type=int, help="how many such jobs there are")
    hosts.add_flags(parser)
    flags, config = arguments.parse(parser, argv)
    arguments.at_least(parser, flags, 1, "batch_size")
    if flags.process_count is not None:
        arguments.at_least(parser, flags, 1, "process_count")
    with hosts.session(parser, flags):
        from farsighted_jax.core import hosts as processes

        processes.check_alike({"options": hosts.own_options(flags), "config": config.to_dict()})
        run(
            config,
            Path(flags.out),
            split=flags.split,
            batch_size=flags.batch_size,
            process=(flags.process_index, flags.process_count),
        )
    return 0


def run(
    config,
    out: Path,
    *,
    split: str | None = None,
    batch_size: int = 64,
    process: tuple[int | None, int | None] = (None, None),
    report=print,
) -> list[Path]:
    """Encodes this host's shards of each dataset of a mixture that are not done yet.

    Args:
      config: of a latent action model; its data, `model.image_encoder` and `model.dtype` are read.
      out: folder, see `data_pipelines.image_features`.
      split: whole split of each dataset; that of `data.split` by default.
      batch_size: frames encoded at once.
      process: this host and the number of hosts, in place of jax's.
      report: gets lines of progress.

    Returns:
      Folders of the splits.

    Raises:
      ConfigError: a configuration without a frozen image encoder.
      ImageFeatureError: `out` holds other tokens, or `split` is a slice.
      PretrainedFolderError, DatasetError, RecordError: what is read cannot be used.
    """
    import jax

    from data_pipelines.dataset import open_split
    from data_pipelines.dataset_info import split_range
    from data_pipelines.mixture import parse_mixture
    from farsighted_jax.core.config import check_range

    encoder = _encoder_name(config)
    index = jax.process_index() if process[0] is None else process[0]
    count = jax.process_count() if process[1] is None else process[1]
    check_range("process_index", index, 0, count - 1)
    data = config.data
    options = {"on_corrupt": data.on_corrupt, "cache_dir": data.cache_dir or None}
    names = parse_mixture(data.mixture, data.dir)
    splits = [open_split(data.dir, name, split or split_range(data.split)[0], **options) for name in names]
    encode = _Encode(encoder, config.model.dtype, data.resolution, batch_size)
    return [_encoded_split(config, out, encode, opened, (index, count), report) for opened in splits]


def check_stored(config, stored: Mapping[str, Any] | None, folder: Path | None = None) -> None:
    """Compares the encoder of stored tokens (`Stream.image_features`) with that of a run.

    Args:
      config: of a latent action model.
      stored: values of `data_pipelines.image_features.ENCODER`, or None: there is nothing to compare.
      folder: run folder that training goes on in.

    Raises:
      ConfigError: another encoder, dtype or weights; lists each difference.
      PretrainedFolderError: no weights of the encoder here.
    """
    from farsighted_jax.core.config import ConfigError, difference

    if stored is None:
        return
    name, dtype = config.model.image_encoder, config.model.dtype
    kept_in = folder or (Path(config.init) if config.init else None)
    digest = (kept_in and _kept_digest(kept_in, name)) or _loaded(name, dtype)[1]
    expected = {"encoder": name, "dtype": dtype, "digest": digest}
    if changes := difference({key: stored[key] for key in expected}, expected):
        raise ConfigError(
            f"configuration key 'data.image_features': the tokens in {config.data.image_features} are of "
            f"another encoder than this run's, found -> expected: {'; '.join(changes)}; run "
            "`farsighted image-features` with this configuration and another --out"
        )


def _encoder_name(config):
    from farsighted_jax.core.config import ConfigError, check_choice
    from farsighted_jax.lam.task import OWN_ENCODER, lam_task

    check_choice("task", config.task, ("lam",))
    lam_task(config)
    if config.model.image_encoder == OWN_ENCODER:
        raise ConfigError(
            f"configuration key 'model.image_encoder' is {OWN_ENCODER!r}, which is trained, so that its "
            "tokens change; expected a frozen network, such as 'dinov2-vitb14'"
        )
    return config.model.image_encoder


def _encoded_split(config, out, encode, split, process, report):
    import time

    from data_pipelines import image_features
    from data_pipelines.every_frame import every_frame
    from data_pipelines.frame import Preprocessing
    from data_pipelines.statistics import split_statistics
    from farsighted_jax.core import hosts

    data, place = config.data, f"{split.name}:{split.split}"
    preprocessing = Preprocessing(data.resolution)
    lengths = split_statistics(split, data.cache_dir or None).lengths
    about = image_features.described(split, data.camera, preprocessing, encode.about)
    writer = image_features.ImageFeatureWriter(out, split, lengths, about)
    begin, num_frames = time.perf_counter(), 0
    for shard in range(writer.num_shards)[process[0] :: process[1]]:
        where = f"{place}: shard {shard} of {writer.num_shards}"
        if writer.is_done(shard):
            report(f"{where}: done before, verified")
            continue
        episodes = writer.episodes(shard)
        frames = every_frame(
            split, lengths, episodes, camera=data.camera, preprocessing=preprocessing, readers=data.readers
        )
        writer.write(shard, encode.tokens(frames))
        num = int(lengths[episodes.start : episodes.stop].sum())
        num_frames += num
        report(f"{where}: {len(episodes)} episodes, {num} frames")
    rate = num_frames / (time.perf_counter() - begin)
    hosts.wait_for_all("computing image features")
    state = "complete" if writer.is_complete() else "other hosts are not done yet"
    report(f"{place}: {num_frames} frames encoded, {rate:.1f} a second; {state}")
    report(f"image features: {writer.folder}")
    return writer.folder


def _loaded(name, dtype):
    """Weights of a network where `farsighted convert` writes them, and their digest in that dtype."""
    import jax
    from jax.sharding import SingleDeviceSharding

    from farsighted_jax.checkpoint.digest import content_digests, tree_digest
    from farsighted_jax.pretrained import folder

    # Of several processes each has a device of its own.
    here = SingleDeviceSharding(jax.local_devices()[0])
    params = folder.load(folder.default_folder(name), model=name, dtype=dtype, sharding=here).params
    return params, tree_digest(content_digests(params))


def _kept_digest(folder, name) -> str:
    """The same digest of the weights that a run folder or release has; "" where it has none."""
    from farsighted_jax.checkpoint import manifest, release
    from farsighted_jax.checkpoint.digest import tree_digest
    from farsighted_jax.checkpoint.manager import FROZEN
    from farsighted_jax.core.task import PRETRAINED

    released, kept = release.found(folder), folder / FROZEN
    if released is None and not (kept / manifest.NAME).is_file():
        return ""
    digests = (released.body if released else manifest.read(kept))["digests"]["params"]
    prefix = f"{PRETRAINED}/{name}/"
    own = {path.removeprefix(prefix): value for path, value in digests.items() if path.startswith(prefix)}
    return tree_digest(own) if own else ""


class _Encode:
    """Frames to the bits of their tokens, by the function that a training step calls, over all devices here.

    Attributes:
      about: values of `data_pipelines.image_features.ENCODER`.
    """

    def __init__(self, name, dtype, resolution, batch_size):
        import jax
        import jax.numpy as jnp
        from jax.sharding import NamedSharding, PartitionSpec

        from farsighted_jax.core.task import PRETRAINED
        from farsighted_jax.lam.networks import FrozenNetworks, token_bits
        from farsighted_jax.sharding.mesh import make_mesh
        from farsighted_jax.sharding.place import batch_sharding

        networks = FrozenNetworks(image_encoder=name, dtype=jnp.dtype(dtype))
        devices = jax.local_devices()
        mesh = make_mesh({"data": -1, "fsdp": 1, "tensor": 1}, devices)
        self._size, self._rows = resolution, -(-batch_size // len(devices)) * len(devices)
        params, digest = _loaded(name, dtype)
        self._params = jax.device_put({PRETRAINED: {name: params}}, NamedSharding(mesh, PartitionSpec()))
        self._placed = batch_sharding(mesh)
        self._bits = jax.jit(lambda params, rgb: token_bits(networks.tokens(params, rgb)))
        shape = jax.eval_shape(self._bits, self._params, self._blank()).shape
        made_by = {"encoder": name, "digest": digest, "dtype": dtype}
        self.about = {**made_by, "num_tokens": shape[1], "width": shape[2]}

    def tokens(self, frames: Iterable) -> Iterator:
        """`every_frame.Frame` -> `image_features.FrameTokens`, in one shape, so that it is compiled once."""
        import jax

        from data_pipelines.image_features import FrameTokens

        frames = iter(frames)
        while some := list(itertools.islice(frames, self._rows)):
            rgb_BHWC = self._blank()
            for row, frame in enumerate(some):
                if frame.rgb_HWC is not None:
                    rgb_BHWC[row] = frame.rgb_HWC
            token_BNE = np.asarray(self._bits(self._params, jax.device_put(rgb_BHWC, self._placed)))
            for frame, token_NE in zip(some, token_BNE, strict=False):
                yield FrameTokens(frame.episode, frame.step, None if frame.rgb_HWC is None else token_NE)

    def _blank(self):
        return np.zeros((self._rows, self._size, self._size, 3), np.uint8)
