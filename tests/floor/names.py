"""Which names of other packages the trainer uses, read from its source."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# What the oldest web UI brings, and the trainer's own requirements with it.
PACKAGES = ("PIL", "numpy", "safetensors", "torch", "transformers")
# What runs without a UI only, beside diffusers' own and newer transformers.
_NOT_IN_A_UI = ("bench", "demo", "experiments", "hosts/diffusers")


def used_names() -> dict[str, str]:
    """Every dotted name of PACKAGES that the trainer uses inside a UI, with a place where it does."""
    core = ROOT / "trainer_core"
    found = {}
    for path in sorted(core.rglob("*.py")):
        if not path.relative_to(core).as_posix().startswith(_NOT_IN_A_UI):
            for name, line in names_in(path.read_text(encoding="utf-8")):
                found.setdefault(name, f"{path.relative_to(ROOT).as_posix()}:{line}")
    return found


def names_in(source: str) -> Iterator[tuple[str, int]]:
    """The dotted names of PACKAGES in a file, each with its line; what stands under TYPE_CHECKING is never run."""
    tree = ast.parse(source)
    nodes = list(_run(tree))
    known = dict(_bound(nodes))
    asked_for = {_asked_for(node, known) for node in nodes}
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and _is_theirs(node.module) and not node.level:
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)
        elif isinstance(node, ast.Attribute):
            name = _dotted(node, known)
            if name is not None and name not in asked_for:
                yield name, node.lineno


def _run(node: ast.AST) -> Iterator[ast.AST]:
    """Every node that is run or evaluated: no annotations, which nobody evaluates, and nothing for type checkers."""
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
                continue
            if isinstance(child, ast.AST):
                yield child
                yield from _run(child)


def _bound(nodes: Iterable[ast.AST]) -> Iterator[tuple[str, str]]:
    """The names that a file's imports bind, and what they stand for."""
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in filter(lambda each: _is_theirs(each.name), node.names):
                yield (alias.asname, alias.name) if alias.asname else (alias.name.partition(".")[0],) * 2
        elif isinstance(node, ast.ImportFrom) and _is_theirs(node.module) and not node.level:
            yield from ((alias.asname or alias.name, f"{node.module}.{alias.name}") for alias in node.names)


def _dotted(node: ast.expr, known: dict[str, str]) -> str | None:
    if isinstance(node, ast.Name):
        return known.get(node.id)
    if isinstance(node, ast.Attribute):
        start = _dotted(node.value, known)
        return None if start is None else f"{start}.{node.attr}"
    return None


def _asked_for(node: ast.AST, known: dict[str, str]) -> str | None:
    """The name that `hasattr(np, "bitwise_count")` asks for: the file does without where it is missing."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "hasattr":
        owner, attribute = _dotted(node.args[0], known), node.args[1]
        if owner is not None and isinstance(attribute, ast.Constant):
            return f"{owner}.{attribute.value}"
    return None


def _is_theirs(module: str | None) -> bool:
    return (module or "").partition(".")[0] in PACKAGES
