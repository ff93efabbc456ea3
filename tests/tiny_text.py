"""A frozen text encoder, its tokenizer and a policy, all small enough for tests."""

import contextlib

import pytest
from tiny_networks import use_tiny_networks, write_network
from tiny_tokenizer import write_tokenizer

from farsighted_jax.policy.model import VARIANTS


@contextlib.contextmanager
def tiny_text(folder, width):
    """Gives the folder, with `tokenizer.json`, weights of "t5-tiny" and a variant "tiny" of this width."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FARSIGHTED_CACHE", str(folder / "cache"))
        use_tiny_networks(patch)
        patch.setitem(VARIANTS, "tiny", {"width": width, "num_heads": 2, "depth": 1, "head_depth": 2})
        write_network("t5-tiny")
        write_tokenizer(folder / "tokenizer.json")
        yield folder
