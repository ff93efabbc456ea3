"""Reference networks of torch and transformers with random weights, and how far ours is from them."""

import jax
import numpy as np
import pytest

REASON = (
    "parity tests compare with torch and transformers; get them with: pip install -e '.[parity]' "
    "(--extra-index-url https://download.pytorch.org/whl/cpu for torch without CUDA)"
)
TOLERANCE = 1e-5


def required():
    """(torch, transformers), or a skip that says how to get them."""
    torch = pytest.importorskip("torch", reason=REASON)
    transformers = pytest.importorskip("transformers", reason=REASON)
    return torch, transformers


def randomised(network, seed=0):
    """Fills every parameter with random values, so that none (a zero bias, a unit scale) is neutral."""
    torch, _ = required()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim > 1 and "token" not in name and "position" not in name:
                parameter.copy_(noise * (parameter[0].numel() ** -0.5))
            elif name.endswith("weight") or "lambda" in name:
                parameter.copy_(1 + 0.3 * noise)
            else:
                parameter.copy_(0.3 * noise)
    return network.eval()


def state(network):
    """The network's state dict as numpy arrays."""
    return {name: value.detach().numpy() for name, value in network.state_dict().items()}


def random_rgb(*shape, seed=0):
    """float32 image within [0, 1]."""
    return np.random.default_rng(seed).uniform(size=(*shape, 3)).astype(np.float32)


def jitted_output(module, params, *inputs, **options):
    """The module's output, compiled as one function, as numpy arrays."""
    run = jax.jit(lambda params, *inputs: module.apply({"params": params}, *inputs, **options))
    return jax.tree.map(np.asarray, run(params, *inputs))


def assert_close(found, want, tolerance=TOLERANCE):
    """Largest difference relative to the largest reference value."""
    want = np.asarray(want)
    assert found.shape == want.shape
    largest = np.abs(want).max()
    assert largest > 0, "the reference is zero everywhere"
    assert np.abs(found - want).max() <= tolerance * largest, np.abs(found - want).max() / largest
