"""Copies an RLDS dataset, local or behind a URI, to a local folder as ArrayRecord shards, which read fastest.

Every record is checked when it is read and compared when it is written; what a kill interrupts goes on at
the shard. Without --resize episodes are copied byte for byte. With --resize N images become N x N by the
filter that training uses, so that a training at data.resolution=N reads less and sees the same images; those
stored as JPEG are encoded once more (quality 95) and differ by that. The statistics of depth are then of the
resized maps. For another resolution images are resized a second time.
"""

from __future__ import annotations

import argparse

from farsighted_jax.cli import arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    parser.add_argument("source", help="the dataset's folder, or that of a version: local, gs:// or https://")
    parser.add_argument("target", help="local folder of datasets; the copy becomes TARGET/NAME/VERSION")
    parser.add_argument("--resize", type=int, metavar="N", help="height and width of the images in pixels")
    parser.add_argument("--threads", type=int, default=4, help="shards in work at once (default: 4)")


def main(parser: argparse.ArgumentParser, flags: argparse.Namespace) -> int:
    """Runs the command; returns its exit status."""
    from data_pipelines.mirror import mirror

    for name in ("resize", "threads"):
        value = getattr(flags, name)
        if value is not None and value < 1:
            arguments.fail(parser, f"--{name} is {value}, expected >= 1")
    folder = mirror(flags.source, flags.target, resize=flags.resize, threads=flags.threads, progress=print)
    print(f"dataset: {folder}")
    return 0
