import json
import os
import signal
import subprocess
import sys

import pytest

from farsighted_jax.train import guard


def test_workdir_is_made_and_left_empty(tmp_path):
    guard.check_workdir(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []


def test_file_in_place_of_the_folder_or_a_parent_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(guard.WorkdirError, match="file' cannot be used: it is a file"):
        guard.check_workdir(tmp_path / "file")
    with pytest.raises(guard.WorkdirError, match="below"):
        guard.check_workdir(tmp_path / "file" / "below")


def test_folder_that_cannot_be_written_is_refused(tmp_path, monkeypatch):
    def refuse(*arguments, **settings):
        raise PermissionError(13, "Permission denied", str(tmp_path))

    monkeypatch.setattr(guard.tempfile, "NamedTemporaryFile", refuse)
    with pytest.raises(guard.WorkdirError, match="Permission denied"):
        guard.check_workdir(tmp_path)


def test_second_run_is_refused_and_the_first_learns_of_a_takeover(tmp_path):
    first = guard.RunLock(tmp_path)
    with pytest.raises(guard.RunLockError, match=str(os.getpid())):
        guard.RunLock(tmp_path)
    first.check()
    second = guard.RunLock(tmp_path, takeover=True)
    second.check()
    with pytest.raises(guard.RunLockError, match="taken over"):
        first.check()
    second.release()
    guard.RunLock(tmp_path).release()


def test_lock_ends_with_its_process(tmp_path):
    code = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom farsighted_jax.train.guard import RunLock\n"
        "lock = RunLock(Path(sys.argv[1]))\nos.kill(os.getpid(), signal.SIGKILL)\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    killed = subprocess.run([sys.executable, "-c", code, tmp_path], env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert json.loads((tmp_path / guard.LOCK).read_text())["pid"] != os.getpid()
    guard.RunLock(tmp_path).release()


@pytest.mark.parametrize("number, status", [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_first_signal_is_remembered_and_handlers_come_back(number, status):
    before = signal.getsignal(number)
    with guard.InterruptGuard() as interrupts:
        assert interrupts.signal_number is None
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), signal.SIGTERM)
        assert interrupts.signal_number == number
    assert signal.getsignal(number) is before
    assert guard.Interrupted(number, step=3).code == status
