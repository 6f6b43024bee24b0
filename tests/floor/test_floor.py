"""The trainer uses nothing that the oldest web UI lacks. The suite itself is run there, too: see CONTRIBUTING.md."""

from tests.floor.__main__ import THERE
from tests.floor.names import names_in, used_names


def test_every_name_of_another_package_is_there_in_the_oldest_versions():
    there = set(THERE.read_text(encoding="utf-8").splitlines())
    new = [f"{place} uses {name}" for name, place in used_names().items() if name not in there]
    assert not new, "not known from torch 2.1 and numpy 1.26; look there by `python -m tests.floor`: " + ", ".join(new)


def test_names_are_found_however_they_are_imported():
    source = """
import numpy as np
import torch.nn.functional as F
import torch
from torch import nn
from PIL import Image as Pictures
from . import torch as ours
if TYPE_CHECKING:
    from torch.newer import Type
def f(x: torch.Newest) -> torch.Newest:
    from torch.later import thing
    if hasattr(np, "bitwise_count"):
        np.bitwise_count(x)
    return F.linear(nn.Linear, torch.later.much, Pictures.open, thing.member, ours.own)
"""
    assert {name for name, _ in names_in(source)} == {
        "torch.nn",
        "torch.nn.functional.linear",
        "torch.nn.Linear",
        "torch.later",
        "torch.later.thing",
        "torch.later.thing.member",
        "torch.later.much",
        "PIL.Image",
        "PIL.Image.open",
    }
