"""`farsighted train`: trains, or resumes where the run folder's last checkpoint ended."""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Sequence
from pathlib import Path

from farsighted_jax.cli import arguments, hosts


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="farsighted train", description=__doc__)
    parser.add_argument("--workdir", required=True, help="run folder: checkpoints, metrics.jsonl, figures")
    parser.add_argument(
        "--takeover", action="store_true", help="take the folder over from a run that holds it"
    )
    parser.add_argument(
        "--profile-steps",
        metavar="FIRST:LAST",
        help="trace these steps, counted from 1, into WORKDIR/profile",
    )
    hosts.add_flags(parser)
    began = time.perf_counter()
    flags, config = arguments.parse(parser, argv)
    profile = _steps(parser, flags.profile_steps)
    with hosts.session(parser, flags, saves_on_sigterm=True):
        from farsighted_jax.cli.run import keep_memory_on_cpu

        keep_memory_on_cpu()
        run(config, flags.workdir, takeover=flags.takeover, profile=profile, began=began)
    return 0


def _steps(parser, text):
    """FIRST:LAST as a range that holds both."""
    if text is None:
        return range(0)
    match = re.fullmatch(r"(\d+):(\d+)", text)
    steps = range(int(match[1]), int(match[2]) + 1) if match else range(0)
    if not steps or steps[0] < 1:
        arguments.fail(parser, f"--profile-steps is {text!r}, expected FIRST:LAST with 1 <= FIRST <= LAST")
    return steps


def run(
    config,
    workdir: str | Path,
    *,
    takeover: bool = False,
    profile: Sequence[int] = (),
    began: float | None = None,
):
    """Trains a configuration in a folder and draws its curves; returns `train.loop.TrainResult`."""
    from farsighted_jax.bench.model_flops import model_flops
    from farsighted_jax.cli.run import parts_for, stream_for, used_schedule
    from farsighted_jax.cli.untrained import sample_batch
    from farsighted_jax.cli.utilization import utilization_metrics
    from farsighted_jax.core import hosts as processes
    from farsighted_jax.core.config import to_json
    from farsighted_jax.lam.frozen import LAM
    from farsighted_jax.pretrained.networks import check_present
    from farsighted_jax.sharding import place
    from farsighted_jax.sharding.mesh import check_batch_size, make_mesh
    from farsighted_jax.train.loop import train
    from farsighted_jax.train.resume import is_resumed

    processes.check_alike({"config": json.loads(to_json(config))})
    with processes.together("opening the run"):
        resumed = is_resumed(Path(workdir))
        parts = parts_for(config, Path(workdir) if resumed else None, resumed)
        if not (resumed or config.init):
            check_present(name for name in parts.task.pretrained_shapes() if name != LAM)
        options = used_schedule(config, Path(workdir)) if resumed else {}
        mesh = make_mesh(config.mesh)
        check_batch_size(mesh, config.batch_size, config.optimizer.accumulation)
        stream = stream_for(config, rows=place.process_rows(mesh, config.batch_size), **options)
        parts.check_stream(stream)
    flops = model_flops(config, parts.task, sample_batch(config, parts.task))
    kind = mesh.devices.flat[0].device_kind
    utilization = utilization_metrics(flops, config.model.dtype, kind, mesh.size)
    result = train(
        parts.task,
        stream,
        config,
        workdir,
        mesh=mesh,
        init=config.init,
        load_pretrained=parts.load_pretrained,
        documents=parts.documents,
        takeover=takeover,
        on_log=[lambda step, state, values: stream.metrics, utilization],
        profile=profile,
        began=began,
    )
    if processes.is_first():
        _draw_curves(Path(workdir))
    processes.wait_for_all("curves")
    return result


def _draw_curves(workdir: Path) -> None:
    from farsighted_jax.viz.curves import training_curves

    try:
        path = training_curves(workdir / "figures" / "curves.png", workdir / "metrics.jsonl")
    except ImportError as error:
        print(f"no curves drawn: {error}")
    else:
        print(f"curves: {path}")
