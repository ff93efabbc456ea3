import subprocess
import sys

import pytest
from source_tree import ROOT

CODE = """
import resource
import numpy as np
from farsighted_jax.core.allocator import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.empty(2**26, np.uint8).fill(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

before, kept = [faults(), faults()][1], keep_freed_memory()
print(kept, before, [faults(), faults()][1])
"""


def test_memory_that_was_freed_needs_no_new_pages():
    done = subprocess.run([sys.executable, "-c", CODE], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    kept, before, after = done.stdout.split()
    if kept == "False":
        pytest.skip("the C library is not glibc")
    assert int(before) > 16 and int(after) < int(before) / 4
