"""How threads wait is set before torch is imported, by every tool, unless the user has set it."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TOOLS = sorted(
    path
    for folder in ("tools", "datasets")
    for path in (ROOT / folder).glob("*.py")
    if path.name != "install_detectron2.py"  # runs before torch and this package are there
)


@pytest.mark.parametrize("path", TOOLS, ids=lambda path: path.stem)
def test_every_tool_imports_the_package_before_torch(path):
    tree = ast.parse(path.read_text())
    names = [
        name
        for node in tree.body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names])
    ]
    heavy = [name for name in names if name.split(".")[0] in ("torch", "torchvision", "detectron2", "fvcore")]
    assert not heavy, f"{path} imports {heavy} at its top, maybe before vdet_ssl"


@pytest.mark.parametrize("given, expected", [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_the_package_sets_a_passive_wait_unless_the_user_says_otherwise(given, expected):
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environment |= {} if given is None else {"OMP_WAIT_POLICY": given}
    code = "import vdet_ssl, os, sys; print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [expected, "False"]
