"""Who may import whom, read from the imports themselves."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BELOW = {
    "errors": set(),
    "files": {"errors"},
    "safe_pickle": {"errors"},
    "config": {"errors"},
    "structures": {"errors"},
    "metrics": {"errors", "structures"},
    "layers": {"errors"},
    "losses": set(),
    "data": {"config", "errors", "safe_pickle", "structures"},
    "modeling": {"config", "errors", "layers", "losses"},
    "solver": {"config", "errors"},
    "checkpoint": {"config", "errors"},
    "visualization": {"data", "errors", "structures"},
    "evaluation": {"config", "data", "errors", "metrics", "structures"},
    "engine": {
        "checkpoint",
        "config",
        "data",
        "errors",
        "evaluation",
        "modeling",
        "solver",
        "structures",
        "visualization",
    },
}


def imported_modules(path):
    """Yield the absolute names of all modules that a file imports."""
    package = list(path.relative_to(ROOT).with_suffix("").parts[:-1])
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = base + (node.module.split(".") if node.module else [])
            yield ".".join(module)
            yield from (".".join([*module, alias.name]) for alias in node.names)


@pytest.mark.parametrize("path", sorted((ROOT / "vdet_ssl").rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_the_core_imports_only_what_lies_below(path):
    parts = path.relative_to(ROOT / "vdet_ssl").with_suffix("").parts
    if parts == ("__init__",):
        return
    allowed = BELOW[parts[0]] | {parts[0]}
    for name in imported_modules(path):
        words = name.split(".")
        assert words[0] not in ("projects", "tools", "datasets", "tests"), f"{path} imports {name}"
        if words[0] == "vdet_ssl" and len(words) > 1:
            assert words[1] in allowed, f"{path} imports {name}"


def test_projects_do_not_import_each_other():
    projects = [p.name for p in (ROOT / "projects").iterdir() if p.is_dir()]
    for path in (ROOT / "projects").rglob("*.py"):
        own = path.relative_to(ROOT / "projects").parts[0]
        for name in imported_modules(path):
            assert not any(name.startswith(f"projects.{p}") for p in projects if p != own), f"{path} imports {name}"
