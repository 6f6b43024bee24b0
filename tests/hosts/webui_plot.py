"""As much of A1111's X/Y/Z plot as its axes meet: the classes, the loop over cells, the state it leaves."""

from __future__ import annotations

import copy
import sys
from collections.abc import Sequence
from types import ModuleType, SimpleNamespace
from typing import Any


class AxisOption:
    def __init__(self, label, type, apply, format_value=None, confirm=None, cost=0.0, choices=None, prepare=None):
        self.label, self.type, self.apply, self.confirm = label, type, apply, confirm
        self.format_value, self.cost, self.choices, self.prepare = format_value, cost, choices, prepare


class PlotHost:
    """The host's modules around a plot script that was loaded as `xyz_grid.py`."""

    def __init__(self, monkeypatch, files: Sequence[str] = ()):
        """files: the stems of the LoRAs that the host finds when it looks again."""
        self.plot = ModuleType("xyz_grid.py")
        self.plot.AxisOption = AxisOption
        self.plot.axis_options = [AxisOption("Nothing", str, lambda p, x, xs: None)]
        script = type("Script", (), {"__module__": "xyz_grid.py"})
        other = type("Script", (), {"__module__": "other.py"})
        self.state = SimpleNamespace()
        scripts = SimpleNamespace(
            scripts_data=[
                SimpleNamespace(script_class=other, module=ModuleType("other.py")),
                SimpleNamespace(script_class=script, module=self.plot),
            ]
        )
        modules = ModuleType("modules")
        modules.scripts, modules.shared = scripts, SimpleNamespace(state=self.state)
        known: dict[str, str] = {}
        networks = ModuleType("networks")
        networks.available_network_aliases = known
        networks.list_available_networks = lambda: known.update(dict.fromkeys(files, ""))
        monkeypatch.setitem(sys.modules, "modules", modules)
        monkeypatch.setitem(sys.modules, "networks", networks)

    def axis(self, label: str) -> AxisOption:
        """The axis of that label; there may be one only."""
        (found,) = [each for each in self.plot.axis_options if each.label == label]
        return found

    def prompts(self, prompt: str, *axes: tuple[str, Sequence[Any]], **fields: str) -> list[str]:
        """The prompt of each cell; the axes are applied in this order, the first in the outer loop."""
        chosen = [(self.axis(label), values) for label, values in axes]
        chosen += [(self.axis("Nothing"), [0])] * (3 - len(chosen))
        for letter, (axis, values) in zip("xyz", chosen):
            if axis.confirm:
                axis.confirm(None, values)
            setattr(self.state, f"xyz_plot_{letter}", SimpleNamespace(axis=axis, values=values))
        p = SimpleNamespace(prompt=prompt, **fields)
        (first, xs), (second, ys), _ = chosen
        self.cells = []
        for x in xs:
            for y in ys:
                cell = copy.copy(p)
                first.apply(cell, x, xs)
                second.apply(cell, y, ys)
                self.cells.append(cell)
        assert p.prompt == prompt, "the axes must write on the cell's copy only"
        return [cell.prompt for cell in self.cells]
