"""A command in a process of its own, with the smallest variant of the latent action model as "tiny"."""

import sys

from tool_cases import VARIANT

from farsighted_jax.cli.main import main
from farsighted_jax.lam.model import VARIANTS

if __name__ == "__main__":
    VARIANTS["tiny"] = VARIANT
    sys.exit(main(sys.argv[1:]))
