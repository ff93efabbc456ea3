import pytest
from checkpoint_items import saved_run


@pytest.fixture
def run_folder(tmp_path):
    """Makes a run folder with the given saved steps; returns (folder, step -> state digest)."""

    def make(steps, name="run", frozen=None):
        return tmp_path / name, saved_run(tmp_path / name, steps, frozen)

    return make
