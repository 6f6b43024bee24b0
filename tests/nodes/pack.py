"""The pack as ComfyUI sees it: a package under a name that it did not choose, so that only relative imports work."""

from __future__ import annotations

import importlib
import sys
import types
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]
_NAME = "custom_nodes_x_lazylora"


def load(module: str) -> types.ModuleType:
    """A module of the pack, e.g. "nodes.inputs"."""
    if _NAME not in sys.modules:
        package = types.ModuleType(_NAME)
        package.__path__ = [str(_ROOT)]
        sys.modules[_NAME] = package
    return importlib.import_module(f"{_NAME}.{module}")
