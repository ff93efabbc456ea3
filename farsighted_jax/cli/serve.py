"""`farsighted serve`: a released policy as a server that openpi's clients talk to.

    farsighted serve --policy RELEASE --layout libero
    python examples/libero/main.py --args.host 127.0.0.1    # in a clone of openpi

All is compiled before the port is bound. GET /healthz says when it is ready, GET /metrics what it has done.
Frames of a policy's history come with the request: who sends one image a camera is answered as when an
episode begins. Needs the extra `serve`.
"""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import Sequence

from farsighted_jax.cli import arguments

OWN = "observation"


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns its exit status."""
    from farsighted_jax.serving.key_layouts import LAYOUTS
    from farsighted_jax.serving.service import EXTRAS

    parser = argparse.ArgumentParser(
        prog="farsighted serve", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--policy", required=True, help="release: a folder, gs://... or hf://...")
    parser.add_argument("--embodiment", help="dataset whose robot it acts for, where it knows several")
    parser.add_argument(
        "--layout", choices=[OWN, *LAYOUTS], default=OWN,
        help=f"what clients call things; {OWN} (default): rgb, depth, state, instruction",
    )  # fmt: skip
    parser.add_argument(
        "--camera",
        action="append",
        default=[],
        metavar="ROLE=KEY",
        help="another key for a camera; repeatable",
    )
    parser.add_argument("--state", nargs="+", default=[], metavar="KEY", help="other keys for the state")
    parser.add_argument("--outputs", nargs="+", default=[], choices=EXTRAS, help="may be asked for too")
    parser.add_argument("--batch", type=int, default=8, help="requests answered at once (default: 8)")
    parser.add_argument("--queue", type=int, default=128, help="requests that wait at most (default: 128)")
    parser.add_argument("--deadline", type=float, default=60.0, help="seconds for an answer (default: 60)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, default=8000, help="0 for a free one (default: 8000)")
    parser.add_argument(
        "--token", default=os.environ.get("FARSIGHTED_TOKEN", ""),
        help="clients' api_key, needed at another address (default: $FARSIGHTED_TOKEN)",
    )  # fmt: skip
    flags = arguments.parse_flags(parser, argv)
    arguments.at_least(parser, flags, 1, "batch", "queue")
    arguments.at_least(parser, flags, 0, "port")
    arguments.at_least(parser, flags, 0.001, "deadline")
    cameras = dict(pair.partition("=")[::2] for pair in flags.camera)
    if flags.layout == OWN and (cameras or flags.state):
        arguments.fail(parser, f"--camera and --state change a layout, expected one of {list(LAYOUTS)}")
    asyncio.run(_server(flags, cameras).serve(flags.host, flags.port, token=flags.token, ready=_told(flags)))
    return 0


def _server(flags, cameras):
    from farsighted_jax.rollout.openpi_clients import actions_for
    from farsighted_jax.serving import listening
    from farsighted_jax.serving.key_layouts import layout_for
    from farsighted_jax.serving.policy import load
    from farsighted_jax.serving.server import PolicyServer
    from farsighted_jax.serving.service import PolicyService, roboarena_metadata

    listening.check_address(flags.host, flags.token)
    policy = load(flags.policy, embodiment=flags.embodiment)
    options = {"outputs": flags.outputs, "batch_size": flags.batch}
    if flags.layout != OWN:
        options["layout"] = layout_for(flags.layout, policy, cameras, tuple(flags.state))
        if policy.spec.action:
            options["act"] = actions_for(flags.layout, policy.spec.action)
    service = PolicyService(policy, **options)
    metadata = roboarena_metadata(policy) if flags.layout == "roboarena" else None
    return PolicyServer(service, metadata=metadata, capacity=flags.queue, deadline_s=flags.deadline)


def _told(flags):
    def ready(port):
        print(f"{flags.policy}: ws://{flags.host}:{port}", flush=True)

    return ready
