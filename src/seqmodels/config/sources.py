"""Names in source files: what a dotted name means, found with `ast`, nothing imported."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path


class UncertainError(Exception):
    """The source does not tell."""


class NotThere(Exception):
    """`prefix` is there and holds `candidates`; the name after it is not."""

    def __init__(self, prefix: str, candidates: list[str]) -> None:
        super().__init__(prefix)
        self.prefix = prefix
        self.candidates = candidates


@dataclass(frozen=True)
class Module:
    """A parsed module: what each of its top-level statements binds."""

    name: str
    folder: Path | None  # of a package
    bindings: dict[str, ast.stmt]
    complete: bool  # False: star imports or a module __getattr__ may bind more

    @property
    def package(self) -> str:
        """The package that relative imports start from."""
        return self.name if self.folder else self.name.rpartition(".")[0]

    def candidates(self) -> list[str]:
        """The names that can be had from here."""
        public = [name for name in self.bindings if not name.startswith("_")]
        if self.folder:
            public += [p.stem for p in self.folder.glob("*.py") if p.stem != "__init__"]
            public += [p.parent.name for p in self.folder.glob("*/__init__.py")]
        return public


Found = Module | tuple[Module, ast.stmt]


def bindings_of(body: list[ast.stmt]) -> Iterator[tuple[str, ast.stmt]]:
    """(name, statement) for every binding, those inside `if` and `try` too."""
    for stmt in body:
        if isinstance(stmt, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield stmt.name, stmt
        elif isinstance(stmt, ast.Import):
            for alias in stmt.names:
                yield alias.asname or alias.name.split(".")[0], stmt
        elif isinstance(stmt, ast.ImportFrom):
            for alias in stmt.names:
                yield alias.asname or alias.name, stmt
        elif isinstance(stmt, ast.Assign):
            for target in stmt.targets:
                if isinstance(target, ast.Name):
                    yield target.id, stmt
        elif isinstance(stmt, ast.AnnAssign) and isinstance(stmt.target, ast.Name):
            yield stmt.target.id, stmt
        elif isinstance(stmt, ast.If):
            yield from bindings_of(stmt.body + stmt.orelse)
        elif isinstance(stmt, ast.Try):
            yield from bindings_of([*stmt.body, *(s for h in stmt.handlers for s in h.body)])


@cache
def module_of(name: str) -> Module | None:
    parent, _, last = name.rpartition(".")
    folder = file = None
    if not parent:
        spec = importlib.util.find_spec(name)  # of a top-level name: imports nothing
        if spec is None or not spec.origin or not spec.origin.endswith(".py"):
            return None
        file = Path(spec.origin)
        folder = file.parent if spec.submodule_search_locations else None
    else:
        above = module_of(parent)
        if above is None or above.folder is None:
            return None
        if (above.folder / last / "__init__.py").is_file():
            folder = above.folder / last
            file = folder / "__init__.py"
        elif (above.folder / f"{last}.py").is_file():
            file = above.folder / f"{last}.py"
        else:
            return None
    tree = ast.parse(file.read_text(encoding="utf-8"), filename=str(file))
    bindings: dict[str, ast.stmt] = {}
    for bound, stmt in bindings_of(tree.body):
        bindings.setdefault(bound, stmt)
    complete = "*" not in bindings and "__getattr__" not in bindings
    return Module(name, folder, bindings, complete)


def lookup(module: Module, name: str, seen: frozenset[tuple[str, str]] = frozenset()) -> Found:
    """What `name` means in `module`, imports followed."""
    stmt = module.bindings.get(name)
    if stmt is None or (module.name, name) in seen:
        submodule = module_of(f"{module.name}.{name}") if module.folder else None
        if submodule is not None:
            return submodule
        if not module.complete:
            raise UncertainError(f"{module.name}.{name}")
        raise NotThere(module.name, module.candidates())
    seen = seen | {(module.name, name)}
    if isinstance(stmt, ast.Import):
        alias = next(a for a in stmt.names if (a.asname or a.name.split(".")[0]) == name)
        return _imported(alias.name if alias.asname else name)
    if isinstance(stmt, ast.ImportFrom):
        source = stmt.module or ""
        if stmt.level:
            parents = module.package.split(".")
            base = parents[: len(parents) - stmt.level + 1]
            source = ".".join([*base, source] if source else base)
        alias = next(a for a in stmt.names if (a.asname or a.name) == name)
        return lookup(_imported(source), alias.name, seen)
    return module, stmt


def _imported(name: str) -> Module:
    module = module_of(name)
    if module is None:
        raise UncertainError(name)
    return module


def dotted_name(node: ast.expr) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{dotted_name(node.value)}.{node.attr}"
    raise UncertainError(ast.dump(node))


def resolve(dotted: str, module: Module) -> Found:
    first, *rest = dotted.split(".")
    try:
        found = lookup(module, first)
        for part in rest:
            if not isinstance(found, Module):
                raise UncertainError(dotted)
            found = lookup(found, part)
    except NotThere:
        raise UncertainError(dotted) from None
    return found
