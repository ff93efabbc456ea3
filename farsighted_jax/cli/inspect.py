"""`farsighted inspect data|config`: what a configuration means, and what its data hold."""

from __future__ import annotations

import argparse
import collections
import json
from collections.abc import Sequence
from typing import Any

from farsighted_jax.cli import arguments
from farsighted_jax.core.config import check_range

SUBJECTS = ("data", "config")
# Samples whose datasets are counted; of the loader, what is said besides how its memory is divided.
MIXTURE_SAMPLES = 10_000
LOADER = (
    "frames_per_s", "samples_per_s", "first_batch_s", "rss_mb", "rss_growth_mb", "seconds", "batch_size",
    "readers", "prefetch",
)  # fmt: skip


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="farsighted inspect", description=__doc__)
    parser.add_argument("subject", choices=SUBJECTS)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--episodes", type=int, help="look at this many episodes of each dataset (default: all)"
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=2.0,
        help="read batches for so long to time the loader (default: 2; 0: not)",
    )
    parser.add_argument("--out", metavar="FILE.html", help="draw samples as the model sees them, on one page")
    parser.add_argument("--clips", type=int, default=2, help="samples drawn of each dataset (default: 2)")
    flags, config = arguments.parse(parser, argv)
    check_range("--seconds", flags.seconds, low=0.0)
    check_range("--clips", flags.clips, low=1)
    if flags.subject == "config":
        report = config_report(config)
    else:
        report, stream = data_report(config, flags.episodes, flags.seconds)
        if flags.out:
            from farsighted_jax.viz.stream_page import write_stream_page

            report["page"] = str(write_stream_page(flags.out, stream, report, flags.clips))
    if flags.json:
        print(json.dumps(report, indent=2))
    else:
        print("\n".join(lines(report)))
    return 0


def data_report(config, max_episodes: int | None = None, seconds: float = 0.0) -> tuple[dict[str, Any], Any]:
    """What each dataset of the mixture holds, and the windows and batches it gives.

    Args:
      config: of a run.
      max_episodes: of each dataset that are looked at; None: all.
      seconds: how long the loader is timed; 0: not.

    Returns:
      The report for JSON, and the stream it is of.
    """
    from data_pipelines.dataset import open_split
    from data_pipelines.mixture import dataset_names, parse_mixture
    from data_pipelines.stream import open_stream
    from data_pipelines.validate import dataset_report

    data = config.data
    datasets = {}
    for name in dataset_names([(0, parse_mixture(data.mixture, data.dir))]):
        split = open_split(
            data.dir, name, data.split, on_corrupt=data.on_corrupt, cache_dir=data.cache_dir or None
        )
        datasets[name] = dataset_report(split, max_episodes)
    stream = open_stream(data, batch_size=config.batch_size, seed=config.seed)
    batch = stream.batch(0)
    report = {
        "datasets": datasets,
        "windows": stream.num_windows,
        "left_out": stream.counts,
        "fingerprint": stream.fingerprint,
        "batch": {name: f"{array.dtype}{list(array.shape)}" for name, array in batch.items()},
        "mixture": realised_mixture(stream),
        "loader": _loader(config, seconds) if seconds else {},
    }
    return report, stream


def realised_mixture(stream, samples: int = MIXTURE_SAMPLES) -> dict[str, Any]:
    """Weight of each dataset, and its share of the first samples, in whole batches; reads nothing."""
    steps = -(-samples // stream.batch_size)
    found = collections.Counter(int(row[0]) for step in range(steps) for row in stream.ids(step))
    total = sum(found.values())
    weights = stream.schedule[0][1]
    return {
        "samples": total,
        "datasets": {
            name: {"weight": weights[name], "share": found[index] / total}
            for index, name in enumerate(weights)
        },
    }


def _loader(config, seconds):
    from farsighted_jax.bench import data as bench

    data = config.data
    measured = bench.run(
        data,
        batch_size=config.batch_size,
        seconds=seconds,
        readers=data.readers,
        prefetch=data.prefetch,
        warm_up=2,
    )
    return {name: measured[name] for name in LOADER} | measured["memory"]


def config_report(config, task=None) -> dict[str, Any]:
    """Resolved configuration and parameter counts of its task; reads no data and computes nothing."""
    import jax

    from farsighted_jax.cli.run import task_for, zero_batch
    from farsighted_jax.core import tree

    task = task or task_for(config)
    params, model_state = jax.eval_shape(task.init, jax.random.key(0), zero_batch(config, task))
    trainable, frozen = tree.partition(params, tuple(config.optimizer.freeze))
    return {
        "trainable_params": tree.num_elements(trainable),
        "frozen_params": tree.num_elements((frozen, task.pretrained_shapes())),
        "model_state_elements": tree.num_elements(model_state),
        "config": config.to_dict(),
    }


def lines(value: Any, indent: int = 0) -> list[str]:
    """A report as indented text; short lists stand on one line."""
    pad = "  " * indent
    out = []
    for key, item in value.items():
        if isinstance(item, dict) and item:
            out += [f"{pad}{key}:", *lines(item, indent + 1)]
        else:
            out.append(f"{pad}{key}: {_shown(item)}")
    return out


def _shown(item):
    if isinstance(item, float):
        return f"{item:.6g}"
    if isinstance(item, list | tuple):
        return "[" + ", ".join(_shown(value) for value in item) + "]"
    return str(item)
