"""`farsighted plan`: would this run fit on those chips, and how fast might it be? No chips are needed.

The training step is compiled for the named chips on this machine's CPU: --topology v5e:16x16 are 256 chips of
TPU v5e, --topology v5p:4x4x4 --slices 2 two slices of 64. This needs the extra `plan` (libtpu). For GPUs,
--topology h100:8, it is compiled for as many simulated CPU devices: memory is then that of the CPU's program,
a rough guess. Neither data nor weights are read.

The TPU's compiler is asked for its least effort, a quarter of the time, which finds from 3 % less memory to
half as much again. If that leaves open whether the step fits, or with --full-effort, it compiles as
training does.

--table FILE plans the unfinished rows of a file such as configs/results/plans/plans.json, and writes the
table and its figure beside it.

Exit status: 0 if the step fits, 3 if it does not.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from farsighted_jax.cli import arguments

DOES_NOT_FIT = 3


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="farsighted plan", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--topology", help="CHIP:SHAPE in chips, e.g. v5e:16x16, v5p:8x8x8, h100:8")
    parser.add_argument("--slices", type=int, default=1, help="slices of TPUs, or nodes of GPUs (default: 1)")
    parser.add_argument(
        "--largest", action="store_true", help="compile a second time, to tell how large a batch fits"
    )
    parser.add_argument("--full-effort", action="store_true", help="compile for TPUs as training does")
    parser.add_argument("--json", action="store_true", help="print one JSON object on one line")
    parser.add_argument("--table", help="JSON file of rows; the only option then")
    if any(argument.startswith("--table") for argument in argv):
        return _table(arguments.parse_flags(parser, argv).table)
    flags, reference, _ = arguments.parse_reference(parser, argv)
    if not flags.topology:
        arguments.fail(parser, "--topology CHIP:SHAPE is required, e.g. v5e:16x16")
    _, config = arguments.parse(parser, argv)
    arguments.at_least(parser, flags, 1, "slices")
    options = {"largest": flags.largest, "full_effort": flags.full_effort}
    document = plan(config, reference, flags.topology, flags.slices, **options)
    if flags.json:
        print(json.dumps(document))
    else:
        from farsighted_jax.plan.report import text

        print(text(document))
    return 0 if document["fits"] else DOES_NOT_FIT


def _table(path):
    from pathlib import Path

    from farsighted_jax.plan import table
    from farsighted_jax.viz.plan_memory import plan_memory

    path = Path(path)
    found = table.fill(path, lambda line: print(line, file=sys.stderr))
    try:
        plan_memory(path.with_suffix(".png"), found)
    except ImportError as error:
        print(f"no figure drawn: {error}")
    print(table.markdown(found))
    return 0


def plan(
    config,
    reference: str,
    name: str,
    num_slices: int = 1,
    *,
    largest: bool = False,
    full_effort: bool = False,
):
    """Plans a configuration; see `plan.planner.run` for the result and errors.

    Args:
      config: resolved.
      reference: FILE[:ARG] it was read from.
      name: of the topology.
      num_slices: of it.
      largest: see `plan.planner.run`.
      full_effort: the same.
    """
    import jax

    from farsighted_jax.bench.model_flops import model_flops
    from farsighted_jax.cli.untrained import sample_batch, untrained_task
    from farsighted_jax.plan import planner
    from farsighted_jax.plan.topology import topology

    wanted = topology(name, num_slices)
    # A machine that has accelerators compiles for others without touching its own.
    jax.config.update("jax_platforms", "cpu")
    if not wanted.simulated:
        # What was compiled for absent chips can be put into the cache, but not be read from it.
        jax.config.update("jax_enable_compilation_cache", False)
    task = untrained_task(config, reference)
    sample = sample_batch(config, task)
    return planner.run(
        task,
        config,
        sample,
        wanted,
        flops_per_sample=sum(model_flops(config, task, sample).values()),
        largest=largest,
        full_effort=full_effort,
        report=lambda line: print(line, file=sys.stderr),
    )
