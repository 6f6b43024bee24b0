"""Valid samples made wrong: bytes flipped, cut, doubled and swapped, words of the format put where none belong."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

_ANYWHERE = (
    *(b"\x00", b"\xff", b"\xff\xfe", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\r", b"\n\n", b"\\", b'"', b"'", b"{}", b"[]"),
    *(b"null", b"NaN", b"Infinity", b"1e999", b"-1", b"0", b"9" * 400, b"9" * 5000, b"\\ud800", b"\\u0000", b"=", b","),
    *(
        "é".encode(),
        "\u2028".encode(),
        "\u202e".encode(),
        "😀".encode(),
        b"../",
        b"__proto__",
        b"[" * 3000,
        b"(" * 3000,
    ),
)


def mutated(samples: Sequence[bytes], words: Sequence[bytes], dice: random.Random) -> bytes:
    """One of the samples after a few random changes, or, now and then, bytes that never were a sample.

    words: what means something in the format."""
    if dice.random() < 0.03:
        return dice.randbytes(dice.randrange(200))
    content = dice.choice(samples)
    for _ in range(dice.choice((1, 1, 2, 3, 6, 12))):
        content = dice.choice(_CHANGES)(content, (*words, *_ANYWHERE), samples, dice)
    return content


def _flipped(content: bytes, words: Sequence[bytes], samples: Sequence[bytes], dice: random.Random) -> bytes:
    if not content:
        return content
    place = dice.randrange(len(content))
    return content[:place] + bytes([content[place] ^ 1 << dice.randrange(8)]) + content[place + 1 :]


def _cut(content: bytes, words: Sequence[bytes], samples: Sequence[bytes], dice: random.Random) -> bytes:
    start, end = _part(content, dice)
    return content[:start] + content[end:]


def _truncated(content: bytes, words: Sequence[bytes], samples: Sequence[bytes], dice: random.Random) -> bytes:
    return content[: dice.randrange(len(content) + 1)]


def _doubled(content: bytes, words: Sequence[bytes], samples: Sequence[bytes], dice: random.Random) -> bytes:
    start, end = _part(content, dice)
    times = dice.choice((2, 2, 3, max(1, min(2000, 100_000 // max(1, end - start)))))
    return content[:start] + content[start:end] * times + content[end:]


def _with_word(content: bytes, words: Sequence[bytes], samples: Sequence[bytes], dice: random.Random) -> bytes:
    start, end = _part(content, dice)
    return content[:start] + dice.choice(words) + content[start if dice.random() < 0.5 else end :]


def _spliced(content: bytes, words: Sequence[bytes], samples: Sequence[bytes], dice: random.Random) -> bytes:
    other = dice.choice(samples)
    start, end = _part(other, dice)
    place = dice.randrange(len(content) + 1)
    return content[:place] + other[start:end] + content[place:]


def _part(content: bytes, dice: random.Random) -> tuple[int, int]:
    start = dice.randrange(len(content) + 1)
    return start, min(len(content), start + dice.choice((1, 3, 10, 50, 1000)))


_Change = Callable[[bytes, Sequence[bytes], Sequence[bytes], random.Random], bytes]
_CHANGES: tuple[_Change, ...] = (_flipped, _cut, _truncated, _doubled, _with_word, _with_word, _spliced)
