"""The package is a line of levels: each imports only from those before it.

Read from the source, so that imports inside functions count too.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "seqmodels"
LEVELS = [
    "errors",
    "locations",
    "cells",
    "scan",
    "engines",
    "layers",
    "initialisers",
    "models",
    "data",
    "sampling",
    "exporting",
    "analysis",
    "runs",
    "training",
    "config",
    "commands",
    "cli",
    "__main__",
]
# Third parties that take seconds to import, or whose objects must not spread.
LIMITED = {
    "lightning": {"training", "commands", "cli"},
    "hydra": {"runs", "config", "commands", "cli"},
    "omegaconf": {"runs", "config", "commands", "cli"},
}
FILES = sorted(path.relative_to(SOURCE) for path in SOURCE.rglob("*.py"))
each_file = pytest.mark.parametrize("file", FILES, ids=str)


def imported(tree: ast.AST, package: tuple[str, ...]) -> Iterator[str]:
    """Absolute names of all the modules that a source imports, wherever in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*base, *filter(None, [node.module])))
            # `from seqmodels import runs` imports a module, too.
            yield from (f"{module}.{alias.name}" for alias in node.names)


def imports_of(file: Path) -> set[str]:
    tree = ast.parse((SOURCE / file).read_text(encoding="utf-8"))
    return set(imported(tree, ("seqmodels", *file.parent.parts)))


def level(file: Path) -> str:
    return file.with_suffix("").parts[0]


def test_relative_and_late_imports_are_seen() -> None:
    source = "def f():\n    from ..runs import Record\n    import torch.nn\nfrom . import base\n"
    found = set(imported(ast.parse(source), ("seqmodels", "cells")))
    assert found == {"seqmodels.runs.Record", "torch.nn", "seqmodels.cells.base"}


@each_file
def test_every_file_belongs_to_a_level(file: Path) -> None:
    assert level(file) in LEVELS or str(file) == "__init__.py"


@each_file
def test_levels_import_only_from_those_before_them(file: Path) -> None:
    own = level(file)
    for name in imports_of(file):
        parts = name.split(".")
        if parts[0] == "seqmodels" and len(parts) > 1 and parts[1] in LEVELS:
            assert own in LEVELS, f"{file} imports {name}: the package itself must stay light"
            assert LEVELS.index(parts[1]) <= LEVELS.index(own), f"{file} imports {name}"


@each_file
def test_heavy_third_parties_stay_where_they_belong(file: Path) -> None:
    for name in imports_of(file):
        allowed = LIMITED.get(name.split(".")[0])
        assert allowed is None or level(file) in allowed, f"{file} imports {name}"


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("seqmodels", ["torch", "hydra", "lightning", "numpy"]),
        ("seqmodels.layers", ["lightning", "hydra", "omegaconf"]),
        ("seqmodels.initialisers", ["lightning", "hydra", "omegaconf"]),
    ],
)
def test_importing_stays_light(module: str, absent: list[str]) -> None:
    code = f"import sys, {module}; print([m for m in {absent} if m in sys.modules])"
    environment = {"PYTHONPATH": str(SOURCE.parent)}
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    assert result.stdout.strip() == "[]"
