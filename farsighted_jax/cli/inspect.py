"""`farsighted inspect data|config`: what a configuration means, and what its data hold."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

from farsighted_jax.cli import arguments

SUBJECTS = ("data", "config")


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="farsighted inspect", description=__doc__)
    parser.add_argument("subject", choices=SUBJECTS)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--episodes", type=int, help="look at this many episodes of each dataset (default: all)"
    )
    flags, config = arguments.parse(parser, argv)
    report = data_report(config, flags.episodes) if flags.subject == "data" else config_report(config)
    if flags.json:
        print(json.dumps(report, indent=2))
    else:
        print("\n".join(lines(report)))
    return 0


def data_report(config, max_episodes: int | None = None) -> dict[str, Any]:
    """What each dataset of the mixture holds, and the windows and batches it gives."""
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
    return {
        "datasets": datasets,
        "windows": stream.num_windows,
        "left_out": stream.counts,
        "fingerprint": stream.fingerprint,
        "batch": {name: f"{array.dtype}{list(array.shape)}" for name, array in batch.items()},
    }


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
