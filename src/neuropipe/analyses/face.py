"""The face of an analysis' package: public names that are imported when they are first used."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any

__all__ = ["make_lazy"]


class _Face(ModuleType):
    """A package whose public names stand in ``_public``, name -> ``"module:attribute"``.

    A submodule may have the name of a public function (``figures``): the function is what the
    attribute gives, also after the submodule was imported.
    """

    _public: Mapping[str, str]

    def __getattr__(self, name: str) -> Any:
        if name not in self._public:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        module, _, attribute = self._public[name].partition(":")
        return getattr(importlib.import_module(module), attribute)

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in self._public and isinstance(value, ModuleType)):
            super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted(self._public)


def make_lazy(package: str, public: Mapping[str, str]) -> list[str]:
    """Let a package import its public names when they are used; return them for ``__all__``.

    Parameters
    ----------
    package : str
        ``__name__`` of the package.
    public : mapping
        Public name -> ``"module:attribute"``.
    """
    module = sys.modules[package]
    module.__dict__["_public"] = dict(public)
    module.__class__ = _Face
    return sorted(public)
