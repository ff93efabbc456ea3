"""Settings and fixtures of the whole test suite."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# jax reads these once, at its first use; a plug-in that imports it earlier would make them void.
assert "jax" not in sys.modules, "jax was imported before tests/conftest.py could set up its devices"
NUM_DEVICES = 8
os.environ.setdefault("JAX_PLATFORMS", "cpu")
if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
    flag = f"--xla_force_host_platform_device_count={NUM_DEVICES}"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}".strip()
os.environ.setdefault("MPLBACKEND", "agg")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".cache" / "jax-tests"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")

import pytest  # noqa: E402  (after the environment is set)


def pytest_addoption(parser):
    parser.addoption("--update-golden", action="store_true", help="rewrite the golden files")
    parser.addoption("--golden", metavar="PATH", help="reference file to compare with")


@pytest.fixture(scope="session")
def bridge_dir():
    """The folder of real robot data beside the repository; tests that use it are skipped without it."""
    folder = ROOT.parent / "shared" / "data"
    if not (folder / "bridge_dataset").is_dir():
        pytest.skip("no real robot data beside the repository (../shared/data)")
    return folder


@pytest.fixture(scope="session")
def shared_dir():
    """The folder with reference numbers beside the repository, or a skip."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip("no ../shared beside the repository")
    return folder


@pytest.fixture(scope="session")
def golden_path(request):
    """The file named by --golden, or None."""
    given = request.config.getoption("--golden")
    return Path(given).resolve() if given else None


@pytest.fixture(scope="session")
def update_golden(request):
    """Whether golden files are to be rewritten rather than compared with."""
    return request.config.getoption("--update-golden")
