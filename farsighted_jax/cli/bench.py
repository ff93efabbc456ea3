"""`farsighted bench data|step|policy|serve|attention|lam|compare`: measures a part of the system, and where.

data       frames a second, memory and time to the first batch of the data pipeline.
step       samples a second, utilisation and memory of the training step, on random input.
policy     latency of one action chunk, with and without caching, and of its parts, on random input.
serve      latency, rate and health check of `farsighted serve --policy RELEASE` through its socket.
attention  every attention of the training step alone, in its kernel and without, on random input.
lam        quality of a latent action model over seeds.
compare    variants of a configuration over seeds, beside each other: a table and a figure.

lam and compare keep finished cells and resume one that was cut off. Where their runs are gone, --known takes
the cells of a table.json whose configuration is still the same.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from farsighted_jax.cli import arguments

SUBJECTS = ("data", "step", "policy", "serve", "attention", "lam", "compare")


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="farsighted bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("subject", choices=SUBJECTS)
    parser.add_argument("--json", action="store_true", help="print one JSON object on one line")
    parser.add_argument(
        "--batches", type=int, default=0, help="data: read this many batches (0: by --seconds)"
    )
    parser.add_argument("--seconds", type=float, default=10.0, help="data: read for this long (default: 10)")
    parser.add_argument(
        "--beside-tf-data",
        action="store_true",
        help="data: measure a plain tf.data pipeline of the same windows, too (needs the extra build)",
    )
    parser.add_argument(
        "--beside-torch",
        action="store_true",
        help="step: measure the same LAM in torch in turn, on CPU in float32 (needs the package torch)",
    )
    parser.add_argument(
        "--warm-up",
        type=int,
        default=10,
        help="data: batches before time counts (default: 10); an epoch of them shows what memory gives",
    )
    parser.add_argument(
        "--steps", type=int, default=20, help="step, policy, attention, serve: time this many (default: 20)"
    )
    parser.add_argument("--policy", help="serve: release, in place of a configuration")
    parser.add_argument("--clients", type=int, default=64, help="serve: at once (default: 64)")
    parser.add_argument("--batch", type=int, default=8, help="serve: requests answered at once (default: 8)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="lam, compare: a cell each")
    parser.add_argument("--variants", nargs="+", default=[], help="compare: only these (default: all)")
    parser.add_argument("--known", help="lam, compare: table.json whose cells need not be run again")
    parser.add_argument("--out", help="lam, compare: folder of the table and its runs")
    serves = list(argv[:1]) == ["serve"]
    if serves:
        flags = arguments.parse_flags(parser, argv)
    else:
        flags, reference, overrides = arguments.parse_reference(parser, argv)
    arguments.at_least(parser, flags, 1, "steps", "clients", "batch")
    if serves:
        return _serve(parser, flags)
    measured = {"data": _data, "step": _step, "policy": _policy, "attention": _attention}
    if flags.subject in measured:
        _, config = arguments.parse(parser, argv)
        flags.reference = reference
        result = measured[flags.subject](config, flags)
        print(json.dumps(result, indent=None if flags.json else 2))
        return 0
    if not flags.out:
        arguments.fail(parser, f"bench {flags.subject} needs --out DIR")
    table = _table(_comparison(parser, flags, reference, overrides), flags)
    print(json.dumps(table) if flags.json else (Path(flags.out) / "table.md").read_text(encoding="utf-8"))
    return 0


def _data(config, flags):
    from farsighted_jax.bench import data

    options = {
        "batch_size": config.batch_size,
        "seconds": flags.seconds,
        "readers": config.data.readers,
        "prefetch": config.data.prefetch,
        "warm_up": flags.warm_up,
    }
    if flags.beside_tf_data:
        return data.beside_tf_data(config.data, **options)
    return data.run(config.data, num_batches=flags.batches or None, **options)


def _step(config, flags):
    import sys

    from farsighted_jax.bench import beside_torch, step
    from farsighted_jax.cli.run import keep_memory_on_cpu, task_for

    # The result alone goes to stdout.
    keep_memory_on_cpu()
    task = task_for(config)
    options = {"steps": flags.steps, "report": lambda line: print(line, file=sys.stderr)}
    if flags.beside_torch:
        return beside_torch.run(config, **options)
    return step.run(task, config, **options)


def _policy(config, flags):
    import sys

    from farsighted_jax.bench import policy
    from farsighted_jax.cli.policy_run import policy_zeros
    from farsighted_jax.cli.untrained import untrained_task
    from farsighted_jax.core import config as config_lib

    config_lib.check_choice("task", config.task, ("policy_finetune",))
    task = untrained_task(config, flags.reference)
    result = policy.run(
        task,
        policy_zeros(config, task),
        steps=flags.steps,
        report=lambda line: print(line, file=sys.stderr),
    )
    return {"variant": config.model.variant, **result}


def _serve(parser, flags):
    import sys

    from farsighted_jax.bench import serve

    if not flags.policy:
        arguments.fail(parser, "bench serve needs --policy RELEASE")
    options = {"clients": flags.clients, "batch": flags.batch, "steps": flags.steps}
    result = serve.run(flags.policy, **options, report=lambda line: print(line, file=sys.stderr))
    print(json.dumps(result, indent=None if flags.json else 2))
    return 0


def _attention(config, flags):
    import sys

    from farsighted_jax.bench import attention
    from farsighted_jax.cli.untrained import sample_batch, untrained_task

    task = untrained_task(config, flags.reference)
    return attention.run(
        task,
        config,
        sample_batch(config, task),
        steps=flags.steps,
        report=lambda line: print(line, file=sys.stderr),
    )


def _comparison(parser, flags, reference, overrides):
    from farsighted_jax.bench import compare
    from farsighted_jax.core import config as config_lib

    try:
        if flags.subject == "compare":
            return compare.read(reference, overrides, flags.variants)
        return compare.Comparison({"lam": config_lib.load(reference, overrides)}, compare.LAM_COLUMNS)
    except config_lib.ConfigError as error:
        arguments.fail(parser, str(error))


def _table(comparison, flags):
    import jax

    from farsighted_jax.bench import compare
    from farsighted_jax.cli.evaluate import evaluate_run
    from farsighted_jax.cli.run import keep_memory_on_cpu
    from farsighted_jax.cli.train import run

    def evaluate(folder):
        result = evaluate_run(folder)
        rollout = json.loads((folder / "config.json").read_text(encoding="utf-8"))["eval"].get("rollout")
        if rollout:
            result["closed_loop"] = closed_loop(folder, rollout)
        # The next cell has shapes of its own; what was compiled would only fill the memory.
        jax.clear_caches()
        return result

    keep_memory_on_cpu()
    known = _known(flags.known) if flags.known else None
    table = compare.run(comparison, flags.seeds, flags.out, train=run, evaluate=evaluate, known=known)
    _draw(Path(flags.out) / "table.png", table)
    return table


def closed_loop(folder: Path, options: Sequence[str]) -> dict:
    """What `farsighted rollout run` finds of a run's policy; its release and episodes stay with the run."""
    from farsighted_jax.cli import rollout
    from farsighted_jax.cli.publish import publish

    release, out = folder / "release", folder / "closed_loop"
    if not release.exists():
        publish(folder, release)
    rollout.main(["run", "--policy", str(release), *options, "--out", str(out)])
    return json.loads((out / "results.json").read_text(encoding="utf-8"))


def _known(path):
    from farsighted_jax.core import config as config_lib

    try:
        table = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise config_lib.ConfigError(f"--known {path}: {error}") from error
    if not isinstance(table, dict) or not {"cells", "curves", "hosts"} <= table.keys():
        raise config_lib.ConfigError(f"--known {path}: expected the table.json of a comparison")
    return table


def _draw(path, table):
    from farsighted_jax.viz.comparison import comparison_figure

    try:
        print(f"figure: {comparison_figure(path, table)}")
    except ImportError as error:
        print(f"no figure drawn: {error}")
