"""Modules that read video stand on floors: no circle among their imports, those inside functions included."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

PACKAGE = "vdet_ssl.data.video"
FOLDER = Path(__file__).resolve().parents[3].joinpath(*PACKAGE.split("."))


def _imports(path):
    """Yield the modules of the package that a file of it imports, without the package itself."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.module != PACKAGE, f"{path.name} imports the package's face, which imports it"
            if node.module.startswith(f"{PACKAGE}."):
                yield node.module.removeprefix(f"{PACKAGE}.")


def test_there_is_no_circle():
    graph = {path.stem: set(_imports(path)) for path in FOLDER.glob("*.py")}
    order = list(TopologicalSorter(graph).static_order())  # CycleError names a circle
    assert order.index("info") < order.index("pyav_reader") < order.index("reader") < order.index("__init__")
    assert not any(
        "av" in line.split() for line in (FOLDER / "planning.py").read_text().splitlines() if "import" in line
    )
