import importlib
import subprocess
import sys
import types
from argparse import ArgumentParser
from pathlib import Path

import pytest

from farsighted_jax import __version__
from farsighted_jax.cli import arguments, installation, main
from farsighted_jax.core.batch import BatchError
from farsighted_jax.core.config import ConfigError
from farsighted_jax.core.spec import SpecError

ROOT = Path(__file__).resolve().parents[2]
CONFIG = """
import ml_collections

def get_config(arg=None):
    return ml_collections.ConfigDict({"seed": 0, "model": {"width": 8, "rate": 0.5}, "arg": arg or ""})
"""


@pytest.fixture
def config_path(tmp_path):
    path = tmp_path / "c.py"
    path.write_text(CONFIG)
    return str(path)


@pytest.fixture
def command(monkeypatch):
    """Makes `farsighted probe` a command that runs a given function."""

    def install(function):
        module = types.ModuleType("probe_command")
        module.main = function
        monkeypatch.setitem(sys.modules, "probe_command", module)
        monkeypatch.setitem(main.COMMANDS, "probe", ("probe_command", "a test"))

    monkeypatch.delenv("FARSIGHTED_DEBUG", raising=False)
    return install


def raising(error):
    def run(argv):
        raise error

    return run


@pytest.mark.parametrize("argv", [[], ["--help"], ["-h"]])
def test_help_lists_every_command(argv, capsys):
    assert main.main(argv) == 0
    text = capsys.readouterr().out
    for name, (_, description) in main.COMMANDS.items():
        assert name in text and description in text


def test_version(capsys):
    assert main.main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == f"farsighted-jax {__version__}"


@pytest.mark.parametrize(("typed", "meant"), [("tarin", "train"), ("eval", "evaluate"), ("docter", "doctor")])
def test_an_unknown_command_names_the_nearest(typed, meant, capsys):
    assert main.main([typed]) == 2
    error = capsys.readouterr().err
    assert repr(typed) in error and f"did you mean {meant!r}" in error


def test_a_command_like_no_other_lists_all(capsys):
    assert main.main(["xyzzy"]) == 2
    error = capsys.readouterr().err
    assert "did you mean" not in error and "evaluate" in error


@pytest.mark.parametrize(("returned", "status"), [(0, 0), (None, 0), (3, 3)])
def test_a_command_gets_its_arguments_and_gives_its_status(command, returned, status):
    seen = []
    command(lambda argv: seen.extend(argv) or returned)
    assert main.main(["probe", "a", "--b=c"]) == status
    assert seen == ["a", "--b=c"]


@pytest.mark.parametrize(
    ("error", "status"),
    [(ConfigError("key 'a' is wrong"), 2), (SpecError("field b"), 1), (BatchError("field 'rgb'"), 1)],
)
def test_a_typed_error_is_one_line(command, capsys, error, status):
    command(raising(error))
    assert main.main(["probe"]) == status
    assert capsys.readouterr().err == f"farsighted: error: {error}\n"


def test_an_unforeseen_error_keeps_its_traceback(command):
    command(raising(ValueError("a bug")))
    with pytest.raises(ValueError, match="a bug"):
        main.main(["probe"])


def test_debugging_keeps_every_traceback(command, monkeypatch):
    monkeypatch.setenv("FARSIGHTED_DEBUG", "1")
    command(raising(SpecError("field b")))
    with pytest.raises(SpecError):
        main.main(["probe"])


def test_a_missing_optional_package_names_its_extra(command, capsys):
    command(raising(ModuleNotFoundError("No module named 'matplotlib.pyplot'", name="matplotlib.pyplot")))
    assert main.main(["probe"]) == 1
    error = capsys.readouterr().err
    assert "'matplotlib'" in error and installation.pip_command("plot") in error


def test_a_missing_package_behind_an_import_error_names_its_extra(command, capsys):
    error = ImportError("Please install gcsfs")
    error.__cause__ = ModuleNotFoundError("No module named 'gcsfs'", name="gcsfs")
    command(raising(error))
    assert main.main(["probe"]) == 1
    assert installation.pip_command("gcs") in capsys.readouterr().err


def test_a_missing_module_of_our_own_is_a_bug(command):
    command(raising(ModuleNotFoundError("no", name="farsighted_jax.nothing")))
    with pytest.raises(ModuleNotFoundError):
        main.main(["probe"])


def test_an_interrupt_is_one_line(command, capsys):
    command(raising(KeyboardInterrupt()))
    assert main.main(["probe"]) == 130
    assert capsys.readouterr().err == "farsighted: error: interrupted\n"


def test_every_command_that_is_listed_exists():
    for module, _ in main.COMMANDS.values():
        assert callable(importlib.import_module(module).main), module


def parsed(argv):
    parser = ArgumentParser(prog="farsighted probe")
    parser.add_argument("--workdir", required=True)
    parser.add_argument("--json", action="store_true")
    return arguments.parse(parser, argv)


@pytest.mark.parametrize("form", [["--config.model.width=16"], ["--config.model.width", "16"]])
@pytest.mark.parametrize("named", ["separate", "joined"])
def test_flags_and_overrides_mix_in_any_order(config_path, form, named):
    config_flag = (
        ["--config", f"{config_path}:tiny"] if named == "separate" else [f"--config={config_path}:tiny"]
    )
    for argv in (
        [*config_flag, *form, "--workdir", "w", "--json"],
        ["--json", *form, "--workdir=w", *config_flag],
    ):
        namespace, config = parsed(argv)
        assert namespace.workdir == "w" and namespace.json
        assert config.to_dict() == {"seed": 0, "model": {"width": 16, "rate": 0.5}, "arg": "tiny"}
        assert config.is_locked


def test_values_may_be_negative_or_hold_an_equals_sign(config_path):
    _, config = parsed(["--config", config_path, "--config.seed", "-3", "--config.arg=a=b", "--workdir", "w"])
    assert config.seed == -3 and config.arg == "a=b"


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--config.model.widht=1"], ["'model.widht'", "did you mean 'model.width'"]),
        (["--config.seed=x"], ["'seed'", "'x'", "int"]),
        (["--config.seed"], ["--config.seed", "needs a value"]),
        (["--config.seed", "--json"], ["--config.seed", "needs a value"]),
        (["--wrkdir=v"], ["'--wrkdir=v'", "did you mean '--workdir'"]),
        (["--conf", "x"], ["'--conf'", "did you mean '--config'"]),
        (["stray"], ["'stray'"]),
        (["--work", "v"], ["'--work'", "did you mean '--workdir'"]),
    ],
)
def test_a_mistake_exits_with_two_and_names_itself(config_path, capsys, argv, words):
    with pytest.raises(SystemExit) as caught:
        parsed(["--config", config_path, "--workdir", "w", *argv])
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("farsighted: error: ") and error.count("\n") == 1
    for word in words:
        assert word in error


@pytest.mark.parametrize("argv", [[], ["--config", "absent.py"], ["--config"]])
def test_no_configuration_exits_with_two(capsys, argv):
    with pytest.raises(SystemExit) as caught:
        parsed(["--workdir", "w", *argv])
    assert caught.value.code == 2
    assert "config" in capsys.readouterr().err


def test_help_mentions_the_configuration(capsys):
    with pytest.raises(SystemExit) as caught:
        parsed(["--help"])
    assert caught.value.code == 0
    assert "--config FILE[:ARG]" in capsys.readouterr().out


def test_a_mistake_is_found_without_jax(config_path):
    code = (
        "import sys, argparse\n"
        "from farsighted_jax.cli import main, arguments\n"
        "try:\n"
        f"    arguments.parse(argparse.ArgumentParser(), ['--config', {config_path!r}, '--config.sed=1'])\n"
        "except SystemExit as stop:\n"
        "    assert stop.code == 2\n"
        "    print(sorted({'jax', 'tensorflow'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout == "[]\n", done.stderr
    assert "did you mean 'seed'" in done.stderr


def test_the_module_is_a_program():
    command = [sys.executable, "-m", "farsighted_jax.cli.main", "tarin"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "did you mean 'train'" in done.stderr
