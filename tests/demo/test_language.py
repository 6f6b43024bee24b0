from trainer_core.demo.language import _split, whole_word_merges
from trainer_core.demo.world import vocabulary


def test_every_world_word_is_one_piece():
    merges = whole_word_merges(vocabulary())
    assert all(_split(word, merges) == [word + "</w>"] for word in vocabulary())


def test_the_trigger_word_is_none_of_the_worlds_words():
    assert _split("zqk", whole_word_merges(vocabulary())) == ["z", "q", "k</w>"]


def test_later_words_leave_earlier_ones_whole():
    words = ["cat", "at", "scat", "a", "sat", "cats"]
    merges = whole_word_merges(words)
    assert all(_split(word, merges) == [word + "</w>"] for word in words)
