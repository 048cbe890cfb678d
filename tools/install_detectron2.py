#!/usr/bin/env python3
"""Install detectron2 0.6 as pure Python, unless detectron2 can already be imported.

detectron2 is not on the package index under its own name; `pb1-detectron2==0.6` holds the Python files of
the official v0.6 without the C++ sources, so a plain `pip install` of it fails to compile.  This script takes
that archive (checked by hash), makes the changes listed in `main` and installs the result as a distribution
named `detectron2`.  torch has to be installed first.  Nothing happens when detectron2 is already there: its
main branch built from source, conda-forge's package, or an earlier run of this script.
"""

import argparse
import importlib.util
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ARCHIVE = "pb1-detectron2==0.6"
SHA256 = "5d2e9e51e523ec72f6a31cca04b0a515492e9514b773a3d134cedc0677170b29"

# What 0.6 itself requires, without its developers' tools (black) and caffe2's (future, pydot).
PYPROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"

[project]
name = "detectron2"
version = "0.6"
description = "detectron2 0.6, pure Python: without the operators that need its C++ extension"
requires-python = ">=3.11"
dependencies = [
  "Pillow>=7.1", "matplotlib", "pycocotools>=2.0.2", "termcolor>=1.1", "yacs>=0.1.8", "tabulate", "cloudpickle",
  "tqdm>4.29.0", "tensorboard", "fvcore>=0.1.5,<0.1.6", "iopath>=0.1.7,<0.1.10", "omegaconf>=2.1", "hydra-core>=1.1",
]

[tool.setuptools.packages.find]
include = ["detectron2*"]

[tool.setuptools.package-data]
"detectron2.model_zoo" = ["configs/**/*"]
"""

# Stands where the compiled extension would be.
NO_EXTENSION = '''"""Placeholder for detectron2's compiled extension, which this installation does not have."""


def get_compiler_version():
    return "none (pure Python installation)"


def get_cuda_version():
    return "none (pure Python installation)"


def has_cuda():
    return False


def __getattr__(name):
    raise AttributeError(
        f"detectron2._C.{name}: this detectron2 was installed without its C++ extension. "
        "Rotated boxes, deformable convolution and COCOEvaluator(use_fast_impl=True) need detectron2 built from source."
    )
'''


def pip(*arguments):
    subprocess.run([sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments], check=True)


def replace(path, old, new):
    """Replace `old` by `new` in a file; raise if it is not there exactly once."""
    text = path.read_text()
    if text.count(old) != 1:
        raise RuntimeError(f"{path}: expected {old!r} once, found it {text.count(old)} times")
    path.write_text(text.replace(old, new))


def download(folder):
    """Download the archive, check its hash, unpack it and return the unpacked folder."""
    requirement = folder / "requirement.txt"
    requirement.write_text(f"{ARCHIVE} --hash=sha256:{SHA256}\n")
    # pip reads the archive's metadata by running its setup.py, which imports torch: hence no build isolation.
    pip("download", "--quiet", "--no-deps", "--no-build-isolation", "--no-binary", ":all:", "--require-hashes",
        "--dest", str(folder), "-r", str(requirement))  # fmt: skip
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    (root,) = [path for path in folder.iterdir() if path.is_dir()]
    return root


def main():
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    if importlib.util.find_spec("detectron2") is not None:
        print("detectron2 is already installed; nothing to do.")
        return
    if importlib.util.find_spec("torch") is None:
        sys.exit("Install torch and torchvision first: pip install torch torchvision")
    pip("install", "--quiet", "setuptools", "wheel")
    with tempfile.TemporaryDirectory() as folder:
        root = download(Path(folder))
        # 1. Pillow 10 removed the old name of the same filter.
        replace(root / "detectron2/data/transforms/transform.py", "Image.LINEAR", "Image.BILINEAR")
        # 2. setuptools 81 removed pkg_resources.
        zoo = root / "detectron2/model_zoo/model_zoo.py"
        replace(zoo, "import pkg_resources\n", "from importlib.resources import files\n")
        replace(
            zoo,
            'pkg_resources.resource_filename(\n        "detectron2.model_zoo", os.path.join("configs", config_path)\n    )',
            'str(files("detectron2.model_zoo") / "configs" / config_path)',
        )
        # 3. `from detectron2 import _C` has to succeed; what needs the extension then fails when it is called.
        (root / "detectron2/_C.py").write_text(NO_EXTENSION)
        for name in ("setup.py", "setup.cfg"):
            (root / name).unlink()
        (root / "pyproject.toml").write_text(PYPROJECT)
        pip("install", "--quiet", "--no-build-isolation", str(root))
    print("Installed detectron2 0.6 (pure Python).")


if __name__ == "__main__":
    main()
