"""Lists of a number for each UNet block, which sd-scripts cuts or fills up to the model's number of blocks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from .given import Given, is_off, is_unset
from .notation import as_text
from .report import INERT, UNSUPPORTED

_CURVES = ("cosine", "sine", "linear", "reverse_linear", "zeros")
# Blocks of SD 1 and 2, and of SDXL.
_RATES = {"down_lr_weight": (12, 9), "mid_lr_weight": (1, 3), "up_lr_weight": (12, 9)}
_SIZES, _ALL_BLOCKS = ("block_dims", "block_alphas", "conv_block_dims", "conv_block_alphas"), (25, 23)


def rates_by_block(found: Mapping[str, Given]) -> Iterable[Given]:
    """Rates as long as `get_block_lr_weight` makes them: what is missing is 1, what is left over is left out, and an
    empty place is 0."""
    for name, lengths in _RATES.items():
        given = _list_in(found, f"network_args.{name}")
        if given is None or as_text(given.meaning).partition("+")[0].strip() in _CURVES:
            continue
        numbers = [each.strip() for each in as_text(given.meaning).split(",")]
        if len(numbers) == 1 and name != "mid_lr_weight":
            yield replace(given, verdict=INERT, why="is no curve that sd-scripts knows: all are 1 there")
            continue
        wanted = _length(len(numbers), lengths, found)
        made = ",".join([*(each or "0" for each in numbers), *["1"] * wanted][:wanted])
        if why := _what_was_done(numbers, wanted):
            yield replace(given, meaning=made, why=why)


def sizes_by_block(found: Mapping[str, Given]) -> Iterable[Given]:
    """Ranks and alphas of another length, which sd-scripts refuses."""
    for name in _SIZES:
        given = _list_in(found, f"network_args.{name}")
        if given is None:
            continue
        count = len(as_text(given.meaning).split(","))
        if count != (wanted := _length(count, _ALL_BLOCKS, found)):
            yield replace(given, verdict=UNSUPPORTED, why=f"{count} numbers for {wanted} blocks: refused there, too")


def _list_in(found: Mapping[str, Given], argument: str) -> Given | None:
    given = found.get(argument)
    return None if given is None or given.verdict or is_unset(given.meaning) else given


def _length(count: int, lengths: tuple[int, int], found: Mapping[str, Given]) -> int:
    """The number of blocks: SDXL's where the recipe says so, or says nothing and gives as many numbers."""
    of_sd, of_sdxl = lengths
    if "sdxl" in found:
        return of_sd if is_off(found["sdxl"].meaning) else of_sdxl
    return of_sdxl if count == of_sdxl else of_sd


def _what_was_done(numbers: list[Any], wanted: int) -> str:
    if len(numbers) < wanted:
        return f"{len(numbers)} of {wanted}: sd-scripts takes 1 for the others"
    if len(numbers) > wanted:
        return f"{len(numbers)} for {wanted}: sd-scripts leaves out the last"
    return "" if all(numbers) else "an empty place is 0 in sd-scripts"
