"""The tiny world's words: a CLIP-style tokenizer in which every world word is one token, and a small text encoder."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import CLIPTextModel, CLIPTokenizer

WIDTH = 96
MAX_TOKENS = 77
START, END = "<|startoftext|>", "<|endoftext|>"
WORD_END = "</w>"


def build_tokenizer(words: Iterable[str], folder: Path) -> CLIPTokenizer:
    """Write a CLIP byte-pair tokenizer for the words into a folder and load it from there.

    Words outside the list fall apart into letters, so any prompt can be read."""
    from transformers import CLIPTokenizer

    folder.mkdir(parents=True, exist_ok=True)
    merges = whole_word_merges(words)
    alphabet = list(_byte_alphabet())
    pieces = [*alphabet, *(c + WORD_END for c in alphabet), *("".join(pair) for pair in merges), START, END]
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    specials = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": MAX_TOKENS, **specials}
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    (folder / "special_tokens_map.json").write_text(json.dumps(specials, indent=2), encoding="utf-8")
    return CLIPTokenizer.from_pretrained(folder)


def build_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """An untrained CLIPTextModel of two layers whose words start far apart, so that the UNet hears them sooner."""
    from torch.nn.init import normal_
    from transformers import CLIPTextConfig, CLIPTextModel

    text_encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH,
            intermediate_size=4 * WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=MAX_TOKENS,
            projection_dim=WIDTH,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    normal_(text_encoder.get_input_embeddings().weight, std=0.3)
    return text_encoder


def whole_word_merges(words: Iterable[str]) -> list[tuple[str, str]]:
    """Byte-pair merges under which every word becomes a single piece.

    Each word is first split by the merges so far; only what is still apart is joined, at lower rank, so that no
    earlier word changes."""
    merges: list[tuple[str, str]] = []
    for word in words:
        pieces = _split(word, merges)
        while len(pieces) > 1:
            merges.append((pieces[0], pieces[1]))
            pieces = [pieces[0] + pieces[1], *pieces[2:]]
    return merges


def _split(word: str, merges: list[tuple[str, str]]) -> list[str]:
    rank = {pair: i for i, pair in enumerate(merges)}
    pieces = [*word[:-1], word[-1] + WORD_END]
    while True:
        pairs = [pair for pair in itertools.pairwise(pieces) if pair in rank]
        if not pairs:
            return pieces
        best = min(pairs, key=rank.__getitem__)
        joined, i = [], 0
        while i < len(pieces):
            if tuple(pieces[i : i + 2]) == best:
                joined.append(pieces[i] + pieces[i + 1])
                i += 2
            else:
                joined.append(pieces[i])
                i += 1
        pieces = joined


def _byte_alphabet() -> list[str]:
    """The 256 printable stand-ins for bytes that GPT-2 and CLIP use."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    stand_ins = {byte: chr(byte) for byte in printable}
    others = [byte for byte in range(256) if byte not in stand_ins]
    stand_ins.update({byte: chr(256 + i) for i, byte in enumerate(others)})
    return [stand_ins[byte] for byte in range(256)]
