"""Gradio without its habit to write type stubs, over and over, into the folder where it is installed."""

import sys
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType
from typing import Any

MODULE = "gradio.component_meta"
"""Where each component renders its stub again on every import: more than a second, and a folder that changes."""


class _Quiet(SourceFileLoader):
    """Loads that module, and takes the writing out of it."""

    def exec_module(self, module: ModuleType) -> None:
        """Load it."""
        super().exec_module(module)
        module.create_or_modify_pyi = lambda *_: None  # type: ignore[attr-defined]


class _Finder:
    """Finds that module, and no other."""

    def find_spec(self, name: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Return what loads it."""
        if name != MODULE:
            return None
        spec = PathFinder.find_spec(name, path)
        if spec is not None and type(spec.loader) is SourceFileLoader:
            spec.loader = _Quiet(name, spec.loader.path)
        return spec


def write_no_stubs() -> None:
    """Do so from now on; says nothing where Gradio is imported already."""
    if MODULE not in sys.modules and not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
