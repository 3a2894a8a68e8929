"""Fingerprints of code: what a module computes, without its comments and docstrings."""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["CodeState", "code_fingerprint", "module_fingerprints"]


def _strip_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if not isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        if ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:]
    return tree


def source_fingerprint(source: str) -> str:
    """Return the hash of Python source without comments, docstrings, layout and positions.

    Examples
    --------
    >>> source_fingerprint("x = 1  # one") == source_fingerprint("x=1")
    True
    """
    tree = _strip_docstrings(ast.parse(source))
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()[:16]


def _module_files(name: str) -> list[tuple[str, Path]]:
    """Return (name, file) of a module, or of every module and data file of a package."""
    spec = importlib.util.find_spec(name)
    if spec is None:
        raise ModuleNotFoundError(f"{name}: no such module")
    if not spec.submodule_search_locations:
        return [(name, Path(str(spec.origin)))]
    found = []
    for location in spec.submodule_search_locations:
        folder = Path(location)
        files = (path for path in sorted(folder.rglob("*")) if path.is_file())
        kept = (path for path in files if "__pycache__" not in path.parts and path.name[0] != ".")
        found += [(_dotted(name, folder, file), file) for file in kept]
    return found


def _dotted(package: str, folder: Path, file: Path) -> str:
    relative = file.relative_to(folder)
    if file.suffix != ".py":
        return f"{package}/{relative}"
    return ".".join([package, *relative.with_suffix("").parts]).removesuffix(".__init__")


@functools.lru_cache(maxsize=4096)
def _fingerprint_file(file: str, size: int, modified_ns: int) -> str:
    path = Path(file)
    if path.suffix == ".py":
        return source_fingerprint(path.read_text(encoding="utf-8"))
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def module_fingerprints(names: Sequence[str]) -> dict[str, str]:
    """Return name -> fingerprint, for modules and for all modules and data files of packages.

    Parameters
    ----------
    names : sequence of str
        Dotted names. A package stands for all its modules and for the data files beside them.
    """
    found: dict[str, str] = {}
    for name in names:
        for module, file in _module_files(name):
            facts = file.stat()
            found[module] = _fingerprint_file(str(file), facts.st_size, facts.st_mtime_ns)
    return dict(sorted(found.items()))


def code_fingerprint(names: Sequence[str]) -> str:
    """Return one hash over `module_fingerprints`."""
    return _one_hash(module_fingerprints(names))


def _one_hash(modules: Mapping[str, str]) -> str:
    parts = "\n".join(f"{name} {digest}" for name, digest in modules.items())
    return hashlib.sha256(parts.encode()).hexdigest()[:16]


class CodeState:
    """Fingerprints of the code at one moment: whatever many jobs share is looked at once."""

    def __init__(self) -> None:
        self._modules: dict[str, dict[str, str]] = {}
        self._fingerprints: dict[tuple[str, ...], str] = {}

    def modules(self, names: Sequence[str]) -> dict[str, str]:
        """Return what `module_fingerprints` told when it was first asked."""
        found: dict[str, str] = {}
        for name in names:
            if name not in self._modules:
                self._modules[name] = module_fingerprints([name])
            found |= self._modules[name]
        return dict(sorted(found.items()))

    def fingerprint(self, names: Sequence[str]) -> str:
        """Return what `code_fingerprint` told when it was first asked."""
        key = tuple(names)
        if key not in self._fingerprints:
            self._fingerprints[key] = _one_hash(self.modules(key))
        return self._fingerprints[key]
