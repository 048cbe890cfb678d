"""Packaging; see README.md for how to install (detectron2 first: tools/install_detectron2.py)."""

import re
from pathlib import Path

from setuptools import find_packages, setup

root = Path(__file__).parent

setup(
    name="vdet_ssl",
    version=re.search(r'__version__ = "(.+)"', (root / "vdet_ssl/__init__.py").read_text())[1],
    description="Unsupervised spatiotemporal pre-training and action detection on detectron2",
    long_description=(root / "README.md").read_text() if (root / "README.md").exists() else "",
    long_description_content_type="text/markdown",
    author="The vdet_ssl authors",
    license="Apache-2.0",
    license_files=["LICENSE"],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.11",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Scientific/Engineering :: Image Recognition",
        "Typing :: Typed",
    ],
    packages=find_packages(include=["vdet_ssl", "vdet_ssl.*"]),
    package_data={"vdet_ssl": ["py.typed"]},
    python_requires=">=3.11",
    install_requires=[
        "torch>=2.6",
        "torchvision",
        "detectron2>=0.6",
        "fvcore",
        "iopath",
        "pycocotools",
        "opencv-python",
        "pandas",
        "pyarrow",  # pandas reads and writes video manifests (parquet) with it
        "filelock",
        "fsspec",
        "matplotlib",
        "numpy",
        "pyyaml",
        "tabulate",
        "tqdm",
        "yacs",
        "av>=18",  # earlier ones leave cycles that hold a closed file until the garbage collector runs
    ],
    extras_require={
        "test": [
            "mypy",
            "pandas-stubs",
            "pytest",
            "ruff>=0.17,<0.18",
            "scipy",
            "types-PyYAML",
            "types-tabulate",
            "types-tqdm",
        ],
        "docs": ["mkdocs-material>=9.5,<10", "mkdocstrings[python]>=0.26,<2"],
    },
)
