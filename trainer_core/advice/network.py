"""Warnings about the adapter's size and strength."""

from __future__ import annotations

from collections.abc import Iterator

from ..config import NetworkConfig
from ..networks import ALGORITHMS
from ..networks.lokr import factors
from .base import Outlook, is_adaptive, optimizer_name, warning

_SCALED = ("lora", "locon", "loha", "lokr", "dylora", "glora")  # by alpha / rank
_WIDTHS = (320, 640, 1280)  # of the attention layers of every UNet that is trained here
_LARGE = ("lora", "locon", "dylora")


@warning(
    "alpha-below-rank", looks_at="network.alpha network.rank", source="guides 1 and 2: alpha = rank; guide 0: half"
)
def alpha_below_rank(outlook: Outlook) -> Iterator[str]:
    """alpha is less than a quarter of the rank with an optimizer that adapts (less than a sixteenth with another): the
    adapter is scaled down, gradients too, and D-Adaptation and Prodigy make up for it with a larger d, sometimes too
    large. Guide 1's "128/1 multiplies the learning rate by 128" has the direction wrong, not the trouble."""
    network, optimizer = outlook.config.network, outlook.config.optimizer
    lowest = 1 / 4 if is_adaptive(optimizer) else 1 / 16
    if _is_scaled(outlook) and 0 < network.alpha < lowest * network.rank:
        consequence = (
            f", for which {optimizer_name(optimizer)} makes up with a larger d and may overshoot"
            if is_adaptive(optimizer)
            else ", so that it hardly learns"
        )
        yield (
            f"alpha {network.alpha:g} at rank {network.rank} scales the adapter by {network.alpha / network.rank:.2g}"
            f"{consequence}; set alpha to the rank or half of it unless you mean that"
        )


@warning("alpha-above-rank", looks_at="network.alpha network.rank", source="guide 1; kohya_ss #1758 (NaN)")
def alpha_above_rank(outlook: Outlook) -> Iterator[str]:
    """alpha is more than twice the rank: every step moves the weights that much further, up to losses that are no
    numbers."""
    network = outlook.config.network
    if _is_scaled(outlook) and network.alpha > 2 * network.rank:
        yield (
            f"alpha {network.alpha:g} at rank {network.rank} makes every change {network.alpha / network.rank:.3g} "
            "times as large, which may end in losses that are not numbers; set alpha to the rank or half of it"
        )


@warning("large-rank", looks_at="network.rank network.algo", source="guide 2")
def large_rank(outlook: Outlook) -> Iterator[str]:
    """The rank of a LoRA, LoCon or DyLoRA is 128 or more: it learns local noise that no resizing takes out again, where
    ranks of 1 to 32 hold a character."""
    network = outlook.config.network
    if ALGORITHMS.canonical(network.algo) in _LARGE and network.rank >= 128:
        yield (
            f"rank {network.rank} learns local noise along with the subject, and resizing does not take it out again; "
            "8 to 32 hold a character"
        )


@warning(
    "alpha-without-a-say",
    looks_at="network.alpha network.rank network.factor network.full_matrix",
    source="LyCORIS's lokr, whose scale is 1 there",
)
def alpha_without_a_say(outlook: Outlook) -> Iterator[str]:
    """LoKr's matrices are both whole, under full_matrix everywhere, else where the rank is at least half of the larger
    one's sides; the strength is 1 there, whatever alpha is."""
    network = outlook.config.network
    widths = _whole_widths(network)
    if widths and network.alpha != network.rank:
        where = (
            "under full_matrix" if network.full_matrix else f"at rank {network.rank} on layers {_listed(widths)} wide"
        )
        yield (
            f"alpha {network.alpha:g} has no say in lokr {where}: both matrices are whole there, at a strength of 1; "
            "set alpha to the rank" + ("" if network.full_matrix else ", or lower the rank")
        )


def _is_scaled(outlook: Outlook) -> bool:
    network = outlook.config.network
    is_whole = len(_whole_widths(network)) == len(_WIDTHS)
    return ALGORITHMS.canonical(network.algo) in _SCALED and not (network.rs_lora or is_whole)


def _whole_widths(network: NetworkConfig) -> list[int]:
    """Of the widths of the UNet's layers, those on which LoKr keeps both matrices whole; none for other algorithms."""
    if ALGORITHMS.canonical(network.algo) != "lokr":
        return []
    sides = [(width, *factors(width, network.factor)) for width in _WIDTHS]
    return [
        width
        for width, small, large in sides
        if network.full_matrix
        or (network.rank >= large / 2 and not (network.decompose_both and network.rank < small / 2))
    ]


def _listed(numbers: list[int]) -> str:
    *others, last = map(str, numbers)
    return f"{', '.join(others)} and {last}" if others else last
