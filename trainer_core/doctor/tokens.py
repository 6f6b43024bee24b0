"""How many tokens a caption is to CLIP's text encoder, where no tokenizer is at hand."""

from __future__ import annotations

import re

# what CLIP's tokenizer parts a text into before it looks for word pieces: words, single digits, runs of other signs
_PIECE = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d|[^\W\d_]+|\d|[^\s\w]+|_+", re.IGNORECASE)
_LETTERS_PER_TOKEN = 9  # most English words up to this length are one token


def estimated_tokens(caption: str) -> int:
    """About how many tokens the caption is, without the begin and end marks."""
    return sum(-(-len(piece) // _LETTERS_PER_TOKEN) for piece in _PIECE.findall(caption))
