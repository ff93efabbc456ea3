"""`farsighted label`: codes of every window of every episode, as an RLDS side dataset.

Shards that are done are verified and skipped, so that the same line resumes;
hosts share the shards: processes that know of each other, or jobs that do not, by
--process-index and --process-count.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from farsighted_jax.cli import arguments, hosts

EPISODES_PER_SHARD = 256


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="farsighted label", description=__doc__)
    parser.add_argument("--checkpoint", required=True, help="run folder")
    parser.add_argument("--data", help="folder of datasets (default: the run's)")
    parser.add_argument("--mixture", help="what to label, one side dataset each (default: the run's)")
    parser.add_argument("--split", default="train", help="a whole split (default: train)")
    parser.add_argument("--out", required=True, help="folder of datasets to write to")
    parser.add_argument("--shards", type=int, help=f"files (default: one for {EPISODES_PER_SHARD} episodes)")
    parser.add_argument("--batch-size", type=int, help="windows encoded at once (default: the run's)")
    parser.add_argument("--step", type=int, help="training step (default: the newest)")
    parser.add_argument("--process-index", type=int, help="this job, of several on their own")
    parser.add_argument("--process-count", type=int, help="how many such jobs there are")
    hosts.add_flags(parser)
    flags = arguments.parse_flags(parser, argv)
    for name in ("shards", "batch_size", "process_count"):
        if getattr(flags, name) is not None and getattr(flags, name) < 1:
            arguments.fail(parser, f"--{name.replace('_', '-')} is {getattr(flags, name)}, expected >= 1")
    with hosts.session(parser, flags):
        from farsighted_jax.core import hosts as processes

        processes.check_alike({"options": hosts.own_options(flags)})
        run(
            Path(flags.out),
            flags.checkpoint,
            data_dir=flags.data,
            mixture=flags.mixture,
            split=flags.split,
            num_shards=flags.shards,
            batch_size=flags.batch_size,
            step=flags.step,
            process=(flags.process_index, flags.process_count),
        )
    return 0


def run(
    out: Path,
    checkpoint: str,
    *,
    data_dir: str | None = None,
    mixture: str | None = None,
    split: str = "train",
    num_shards: int | None = None,
    batch_size: int | None = None,
    step: int | None = None,
    process: tuple[int | None, int | None] = (None, None),
    report=print,
) -> list[Path]:
    """Labels this host's shards of each dataset of a mixture.

    Args:
      out: folder of datasets to write to.
      checkpoint: run folder.
      data_dir: folder of datasets, the run's by default.
      mixture: what to label, the run's by default.
      split: whole split of each dataset.
      num_shards: files a dataset.
      batch_size: windows encoded at once.
      step: training step, the newest by default.
      process: this host and the number of hosts, in place of jax's.
      report: gets lines of progress.

    Returns:
      Folders of the side datasets.

    Raises:
      LabelError: `out` holds other labels, or `split` is a slice.
      DatasetError, RecordError, KeyframeError: a dataset cannot be used.
    """
    import jax

    from data_pipelines.mixture import parse_mixture
    from farsighted_jax.cli.clips import load_model
    from farsighted_jax.core.config import check_range

    index = jax.process_index() if process[0] is None else process[0]
    count = jax.process_count() if process[1] is None else process[1]
    check_range("process_index", index, 0, count - 1)
    devices = jax.local_devices()
    model = load_model(checkpoint, step, devices)
    data = model.run.config.data
    rows = batch_size or model.run.config.eval.batch_size
    rows = -(-rows // len(devices)) * len(devices)
    folders = []
    for name in parse_mixture(mixture or data.mixture, data_dir or data.dir):
        opened = model.open_split(data_dir or data.dir, name, split)
        shards = num_shards or -(-opened.num_episodes // EPISODES_PER_SHARD)
        folders.append(
            _label(out, model, opened, min(shards, opened.num_episodes), rows, (index, count), report)
        )
    return folders


def _label(out, model, split, num_shards, rows, process, report):
    import time

    from data_pipelines.code_dataset import CodeWriter
    from data_pipelines.trajectory import keyframe_steps
    from farsighted_jax.core import hosts
    from farsighted_jax.lam.label import LabelSettings, label_shards

    data = model.run.config.data
    offsets_s = model.offsets_of(split.name)
    steps = keyframe_steps(split.spec.hz, offsets_s, split.name)
    writer = CodeWriter(out, labels_of(model, split, steps, num_shards))
    settings = LabelSettings(
        offsets_s,
        model.preprocessing,
        camera=data.camera,
        depth=model.depth_constants(split),
        blank_depth=model.blank_depth(split.name),
        batch_size=rows,
        readers=data.readers,
    )
    begin = time.perf_counter()
    labelled = label_shards(
        model.actions,
        split,
        writer,
        settings,
        range(num_shards)[process[0] :: process[1]],
        report=lambda line: report(f"{split.name}:{split.split}: {line}"),
    )
    rate = labelled / (time.perf_counter() - begin)
    hosts.wait_for_all("labelling")
    done = hosts.from_first(writer.finish, "completing the labels")
    state = "complete" if done else "other hosts are not done yet"
    report(f"{split.name}:{split.split}: {labelled} episodes labelled, {rate:.1f} a second; {state}")
    report(f"codes: {writer.folder}")
    return writer.folder


def labels_of(model, split, steps, num_shards) -> dict:
    """What a side dataset says about itself; two with different labels never mix."""
    return {
        "source": {
            "dataset": split.name,
            "version": split.version,
            "split": split.split,
            "fingerprint": split.fingerprint,
            "num_episodes": split.num_episodes,
            "camera": model.run.config.data.camera,
            "hz": split.spec.hz,
        },
        "offsets_s": list(model.offsets_of(split.name)),
        "model": model.describe(),
        "keyframe_steps": list(steps),
        "num_slots": model.actions.num_slots,
        "codebook_size": model.actions.codebook_size,
        "num_shards": num_shards,
    }


def open_labels(directory: str | Path, model, split):
    """The stored codes of a split, a `data_pipelines.code_dataset.CodeReader`.

    Args:
      directory: folder of datasets that `run` has written to.
      model: whose codes they must be.
      split: whose codes they must be; a whole one.

    Raises:
      DatasetError: there are none of this split, or it is not finished.
      LabelError: they were made by another model, at other keyframes or from other
        data; the message lists each difference.
    """
    from data_pipelines.code_dataset import CodeReader, LabelError
    from data_pipelines.trajectory import keyframe_steps
    from farsighted_jax.core.config import difference

    reader = CodeReader(directory, split.name, split.split)
    steps = keyframe_steps(split.spec.hz, model.offsets_of(split.name), split.name)
    expected = labels_of(model, split, steps, reader.labels.get("num_shards"))
    changes = difference(reader.labels, expected)
    if changes:
        raise LabelError(
            f"{directory}: labels of {split.name}:{split.split} that do not fit ({'; '.join(changes)}); "
            "label again with this checkpoint and dataset"
        )
    return reader
