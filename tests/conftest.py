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
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

import pytest  # noqa: E402  (after the environment is set)
from xla_flags import PATIENCE, QUICK_COMPILATION, with_flags  # noqa: E402

# They take longest. Begun first, they leave no worker alone with them at the end.
LONGEST = ("train", "sharding", "lam", "layers")
# Their files share what they compile.
TOGETHER = ("lam",)


def pytest_configure(config):
    """Lets simulated devices wait, and makes compiling quick; the slow tier runs what users run."""
    wanted = PATIENCE | (QUICK_COMPILATION if "not slow" in config.option.markexpr else {})
    os.environ["XLA_FLAGS"] = with_flags(os.environ["XLA_FLAGS"], wanted)
    if "not slow" not in config.option.markexpr:
        # Two sharded programs in flight have been seen to wait for each other's threads for ever.
        os.environ.setdefault("JAX_CPU_ENABLE_ASYNC_DISPATCH", "false")
        # XLA takes as many threads as there are cores, or devices if those are more. With eight devices on
        # two cores, programs have been seen to wait every other time for threads that wait for them.
        os.environ.setdefault("NPROC", "64")


def pytest_collection_modifyitems(items):
    """Puts the longest folders first, in the same order for every worker."""
    folders = [item.path.relative_to(ROOT / "tests").parts[0] for item in items]
    rank = {name: place for place, name in enumerate(LONGEST)}
    order = sorted(range(len(items)), key=lambda i: rank.get(folders[i], len(LONGEST)))
    items[:] = [items[i] for i in order]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """With `--dist loadfile`: a file to one worker, and so the folders of `TOGETHER`."""
    if config.getvalue("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class ByFileOrFolder(LoadFileScheduling):
        def _split_scope(self, nodeid):
            folder = next((name for name in TOGETHER if nodeid.startswith(f"tests/{name}/")), None)
            return folder or super()._split_scope(nodeid)

    return ByFileOrFolder(config, log)


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
