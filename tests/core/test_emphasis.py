"""Weights in captions: A1111's syntax, and each token's weight on its own hidden state."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainer_core.hosts.base import TextOptions
from trainer_core.hosts.diffusers import DiffusersHost
from trainer_core.hosts.emphasis import weighted_ids, weighted_parts
from trainer_core.hosts.tokens import Marks, token_rows

WEIGHTED = TextOptions(weighted=True)


@pytest.mark.parametrize(
    ("caption", "parts"),
    [  # the first six and the long one are the examples in A1111's own description of its syntax
        ("normal text", [("normal text", 1.0)]),
        ("an (important) word", [("an ", 1.0), ("important", 1.1), (" word", 1.0)]),
        ("(unbalanced", [("unbalanced", 1.1)]),
        (r"\(literal\]", [("(literal]", 1.0)]),
        ("(unnecessary)(parens)", [("unnecessaryparens", 1.1)]),
        ("", [("", 1.0)]),
        (
            "a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).",
            [
                *(("a ", 1.0), ("house", 1.573), (" ", 1.1), ("on", 1.0), (" a ", 1.1)),
                *(("hill", 0.55), (", sun, ", 1.1), ("sky", 1.4641), (".", 1.1)),
            ],
        ),
        ("(hat:.5), (cat:-1)", [("hat", 0.5), (", ", 1.0), ("cat", -1.0)]),
        ("[shadow", [("shadow", 1 / 1.1)]),
        (r"shiroko \(blue archive\), (1girl:1.2)", [("shiroko (blue archive), ", 1.0), ("1girl", 1.2)]),
        ("a) b] c:1.2) d: e", [("a) b] c:1.2) d: e", 1.0)]),
        ("(a:1.2.3)", [("a:1.2.3", 1.1)]),
    ],
)
def test_the_syntax_is_a1111s(caption, parts):
    found = weighted_parts(caption)
    assert [text for text, _ in found] == [text for text, _ in parts]
    assert [weight for _, weight in found] == pytest.approx([weight for _, weight in parts])


@given(caption=st.text("ab ,:.12()[]\\", max_size=40))
def test_any_text_has_parts_and_loses_nothing_but_syntax(caption):
    parts = weighted_parts(caption)
    letters = "".join(character for character in caption if character in "ab ,")
    assert "".join(character for text, _ in parts for character in text if character in "ab ,") == letters
    assert all(before[1] != after[1] for before, after in pairwise(parts))


@given(caption=st.text("ab ,", max_size=40))
def test_without_brackets_nothing_is_weighed(caption):
    assert weighted_parts(caption) == [(caption, 1.0)]


def letters(texts):
    return [[ord(letter) for letter in text] for text in texts]


def test_every_token_has_its_parts_weight():
    ids, weights = weighted_ids("ab(cd:1.5)[e]", letters)
    assert ids == [ord(letter) for letter in "abcde"]
    assert weights == [1, 1, 1.5, 1.5, 1 / 1.1]


def test_weights_go_with_their_chunks_and_start_end_and_padding_count_one():
    rows = token_rows(["x" * 74 + "(yz:2)", "(w:3)"], letters, Marks(1, 2, 0), TextOptions(chunks=2, weighted=True))
    assert rows.ids.shape == (4, 77) and rows.weights is not None and rows.weights.shape == (4, 77, 1)
    expected = torch.ones(4, 77)
    expected[0, 75] = expected[1, 1] = 2  # y is the first chunk's last token, z the second's first
    expected[2, 1] = 3
    assert torch.equal(rows.weights[..., 0], expected)
    assert rows.lengths == [77, 3, 3, 2]
    cut = token_rows(["x" * 75 + "(y:2)"], letters, Marks(1, 2, 0), WEIGHTED)
    assert cut.weights is not None and bool((cut.weights == 1).all())


@pytest.mark.parametrize("xl", [False, True], ids=["sd1", "sdxl"])
@pytest.mark.parametrize("chunks", [1, 2])
def test_hidden_states_are_multiplied_and_pooled_text_is_not(make_pipeline, xl, chunks):
    host = DiffusersHost(make_pipeline(xl=xl))
    with host.borrowed([], "fp32", False), torch.no_grad():
        plain = host.encode_texts(["a b c d", "a"], TextOptions(chunks=chunks))
        ours = host.encode_texts(["a (b:1.5) [c] d", "a"], TextOptions(chunks=chunks, weighted=True))
        same = host.encode_texts(["a b c d", "a"], TextOptions(chunks=chunks, weighted=True))
    weights = torch.ones(2, 77 * chunks, 1)
    weights[0, 2], weights[0, 3] = 1.5, 1 / 1.1
    assert torch.equal(ours.tokens, plain.tokens * weights)
    assert torch.equal(same.tokens, plain.tokens), "where nothing is weighed, nothing changes"
    if xl:
        assert torch.equal(ours.pooled, plain.pooled)


def test_brackets_are_letters_unless_they_are_weights(make_pipeline):
    host = DiffusersHost(make_pipeline())
    with host.borrowed([], "fp32", False), torch.no_grad():
        literal, weighed = (host.encode_texts(["(a)"], options).tokens for options in (TextOptions(), WEIGHTED))
    assert not torch.allclose(literal, weighed)


def test_gradients_pass_through_the_weights(make_pipeline):
    host = DiffusersHost(make_pipeline())
    embedding = host.components()["te1"].get_input_embeddings()
    gradients = []
    for caption in ("(a:2)", "a"):
        with host.borrowed(["te1"], "fp32", False):
            embedding.weight.requires_grad_(True)
            # a plain sum would come out of the last LayerNorm with next to no gradient
            token = host.encode_texts([caption], WEIGHTED).tokens[0, 1]
            (token * torch.linspace(-1, 1, len(token))).sum().backward()
            gradients.append(embedding.weight.grad.clone())
            embedding.weight.grad = None
    assert float(gradients[1].abs().max()) > 1e-3
    torch.testing.assert_close(gradients[0], 2 * gradients[1])
