"""Long captions: the token ids of kohya's 150 and 225, chunk by chunk, and their place in the joined conditioning."""

from __future__ import annotations

import pytest
import torch

from trainer_core.config import text_chunks
from trainer_core.hosts.base import TextOptions
from trainer_core.hosts.tokens import Marks, chunked_tokens, joined_chunks

START, END = 1000, 1001


def kohyas_chunks(ids, chunks, pad):
    """sd-scripts' rule: one long row as its tokenizer pads and cuts it, sliced by 75, each slice wrapped again."""
    longest = 75 * chunks
    row = [START, *ids[:longest], END]
    row += [pad] * (longest + 2 - len(row))
    found = []
    for i in range(1, longest + 1, 75):
        chunk = [START, *row[i : i + 75], row[-1]]
        if pad != END:
            if chunk[-2] not in (END, pad):
                chunk[-1] = END
            if chunk[1] == pad:
                chunk[1] = END
        found.append(chunk)
    return found


@pytest.mark.parametrize("pad", [END, 0], ids=["SD 1", "SD 2 and SDXL's second"])
@pytest.mark.parametrize("chunks", [2, 3])
@pytest.mark.parametrize("length", [0, 1, 74, 75, 76, 149, 150, 151, 224, 225, 226, 400])
def test_chunks_are_kohyas(length, chunks, pad):
    ids = [10 + number for number in range(length)]
    found = chunked_tokens([ids], chunks, Marks(START, END, pad)).tolist()
    assert found == kohyas_chunks(ids, chunks, pad)
    assert all(len(row) == 77 and row[0] == START and END in row for row in found), "each has its start and end"


def test_captions_stay_apart_and_their_chunks_in_order():
    rows = chunked_tokens([list(range(1, 200)), [7]], 3, Marks(START, END, END))
    assert rows.shape == (6, 77) and rows.dtype == torch.int64
    assert [int(row[1]) for row in rows] == [1, 76, 151, 7, END, END]
    hidden = rows[..., None].float()
    joined = joined_chunks(hidden, 3)
    assert joined.shape == (2, 231, 1)
    assert torch.equal(joined[0, :, 0], rows[:3].flatten().float())


@pytest.mark.parametrize(("tokens", "chunks"), [(75, 1), (76, 2), (150, 2), (225, 3)])
def test_a_length_in_tokens_is_a_number_of_chunks(tokens, chunks):
    assert text_chunks(tokens) == chunks


@pytest.mark.parametrize("xl", [False, True])
def test_225_tokens_reach_the_model_and_those_behind_do_not(make_pipeline, xl):
    """The tiny tokenizer makes a token of every letter: 240 letters, of which the last 15 are cut off."""
    from trainer_core.hosts.diffusers import DiffusersHost

    host = DiffusersHost(make_pipeline(xl=xl))
    letters = "abcdefgh" * 30
    options = TextOptions(chunks=3)
    with host.borrowed([], "fp32", False), torch.no_grad():
        whole, same, other = (
            host.encode_texts([text], options) for text in (letters, letters[:225] + "zz", letters[:150] + "zz")
        )
    assert whole.tokens.shape[1] == 231
    assert torch.allclose(whole.tokens[:, :154], other.tokens[:, :154]) and not torch.allclose(
        whole.tokens, other.tokens
    )
    assert torch.equal(whole.tokens, same.tokens), "what stands behind is not read"
    if xl:
        assert whole.pooled is not None and other.pooled is not None
        assert torch.allclose(whole.pooled, other.pooled), "pooled text is the first chunk's"
