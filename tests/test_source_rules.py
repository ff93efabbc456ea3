"""What no source file may contain: ways for data to become code, machine paths, sprawl."""

import ast
import re

import pytest
from source_tree import PACKAGES, ROOT, imports, project_sources, source_files

UNSAFE_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib", "jsonpickle"}
# Configuration files are Python by design, and the table of commands names only our own modules.
RUNS_CODE = {"farsighted_jax/core/config.py", "farsighted_jax/cli/main.py"}

MAX_LINES = 400
VAGUE_NAMES = {"utils", "util", "common", "helpers", "helper", "misc"}
# In pieces, so that this file does not contain what it forbids.
MACHINE_PATH = re.compile(r"(?<![\w.$}/])/(?:root|home|Users|work|tmp|mnt)" + r"/\w")


def safety_faults(relative, source):
    """Every way in which data could become code, as readable lines."""
    tree = ast.parse(source)
    faults = [
        f"{relative}:{line}: imports {target}"
        for target, line, _ in imports(tree, "x", False)
        if target.partition(".")[0] in UNSAFE_MODULES
    ]
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and (reason := _unsafe_call(node, relative)):
            faults.append(f"{relative}:{node.lineno}: {reason}")
    return faults


def _unsafe_call(node, relative):
    name = ast.unparse(node.func)
    if name in ("eval", "exec", "compile", "__import__", "torch.load", "yaml.load", "yaml.unsafe_load"):
        return f"calls {name}"
    for keyword in node.keywords:
        if keyword.arg == "allow_pickle" and ast.unparse(keyword.value) != "False":
            return "allow_pickle is on"
        if keyword.arg == "shell" and ast.unparse(keyword.value) != "False":
            return "runs a shell"
    runs = name.rpartition(".")[2] in ("import_module", "run_path", "run_module")
    literal = node.args and isinstance(node.args[0], ast.Constant)
    if runs and not literal and relative not in RUNS_CODE:
        return f"{name} of a name that is not a literal"
    return None


def test_data_never_becomes_code():
    faults = [fault for path, source in project_sources().items() for fault in safety_faults(path, source)]
    assert not faults, "\n".join(faults)


def test_files_are_small_and_named_for_what_they_hold():
    files = source_files(*PACKAGES, "configs", "tests")
    lines = {p.relative_to(ROOT).as_posix(): len(p.read_text(encoding="utf-8").splitlines()) for p in files}
    long = {name: count for name, count in lines.items() if count > MAX_LINES}
    vague = [p.relative_to(ROOT).as_posix() for p in files if p.stem in VAGUE_NAMES]
    assert not long, f"longer than {MAX_LINES} lines: {long}"
    assert not vague


def test_test_files_have_unique_names():
    names = [path.name for path in source_files("tests") if path.name != "conftest.py"]
    assert sorted(names) == sorted(set(names))


def test_no_path_of_one_machine():
    files = [*source_files(*PACKAGES, "configs", "tests")]
    for pattern in ("*.md", "*.toml", "setup.py", "launch/*", ".ci/*", ".github/workflows/*"):
        files += [path for path in ROOT.glob(pattern) if path.is_file()]
    faults = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in files
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if MACHINE_PATH.search(line)
    ]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "def f():\n    from cloudpickle import loads",
        "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=flag)",
        "torch.load(path)",
        "yaml.load(text, Loader=yaml.Loader)",
        "e" + "val(text)",
        "e" + "xec(text)",
        "importlib.import_module(features['class'])",
        "subprocess.run(command, shell=True)",
    ],
)
def test_code_from_data_is_caught(source):
    assert len(safety_faults("farsighted_jax/core/a.py", source)) == 1


def test_harmless_relatives_of_code_from_data_pass():
    source = "jax.eval_shape(f)\nast.literal_eval(x)\nre.compile(p)\nnp.load(p, allow_pickle=False)\nm.eval()"
    assert safety_faults("farsighted_jax/core/a.py", source) == []


def test_a_machine_path_is_caught():
    assert MACHINE_PATH.search("open('" + "/ro" + "ot/data')")
    assert not MACHINE_PATH.search("https://x.org/work/of, $base/tmp/x, ../home/x, .github/workflows")
