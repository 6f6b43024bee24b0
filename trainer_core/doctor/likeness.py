"""Which pictures show nearly the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

NEAR_BITS = 8  # of 64: saved anew, made smaller, a few words put on it; other pictures differ in 16 to 48
_ROWS = 256


def look_alikes(looks: Sequence[int | None]) -> list[tuple[int, ...]]:
    """Groups of places whose hashes differ in at most NEAR_BITS bits, directly or over others of the group.

    looks: 64-bit hashes; None is like nothing. Groups and their members are in order; nobody is in two."""
    places_of: dict[int, list[int]] = {}
    for place, each in enumerate(looks):
        if each is not None:
            places_of.setdefault(each, []).append(place)
    hashes = list(places_of)
    leader = list(range(len(hashes)))

    def led_by(number: int) -> int:
        while leader[number] != number:
            leader[number] = leader[leader[number]]
            number = leader[number]
        return number

    for one, other in _near_pairs(np.array(hashes, np.uint64)):
        first, second = sorted((led_by(one), led_by(other)))
        leader[second] = first
    groups: dict[int, list[int]] = {}
    for number, each in enumerate(hashes):
        groups.setdefault(led_by(number), []).extend(places_of[each])
    return [tuple(sorted(group)) for group in groups.values() if len(group) > 1]


def _near_pairs(hashes: np.ndarray) -> Iterator[tuple[int, int]]:
    for start in range(0, len(hashes), _ROWS):
        apart = _bits(hashes[start : start + _ROWS, None] ^ hashes[None, start:])
        for row, column in np.argwhere(apart <= NEAR_BITS).tolist():
            if row < column:
                yield start + row, start + column


def _bits(values: np.ndarray) -> np.ndarray:
    """How many bits are set in each uint64."""
    if hasattr(np, "bitwise_count"):  # numpy 2
        return np.bitwise_count(values)
    pairs = values - ((values >> np.uint64(1)) & np.uint64(0x5555555555555555))
    fours = (pairs & np.uint64(0x3333333333333333)) + ((pairs >> np.uint64(2)) & np.uint64(0x3333333333333333))
    eights = (fours + (fours >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return (eights * np.uint64(0x0101010101010101)) >> np.uint64(56)
