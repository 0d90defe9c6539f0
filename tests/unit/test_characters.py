"""Text as a stream of characters: alphabet, splits, windows."""

from __future__ import annotations

import pytest
import torch

from companion.data.characters import (
    TEST_PLAYS,
    Characters,
    RandomWindows,
    even_windows,
    shakespeare_by_play,
    split_by_position,
)
from companion.data.texts import shakespeare

TEXT = "to be or not to be, that is the question"


def test_encoding_comes_back():
    characters = Characters(TEXT, special=("<end>",))
    assert characters.vocab_size == len(set(TEXT)) + 1
    ids = characters.encode(TEXT)
    assert characters.decode(ids) == TEXT
    assert characters.decode([0, characters.ids["<end>"]]) == " <end>"


def test_bad_alphabets_and_texts():
    with pytest.raises(ValueError, match="alphabet's .* holds 'Z'"):
        Characters(TEXT).encode("toZ")
    with pytest.raises(ValueError, match="at least one character"):
        Characters("")
    with pytest.raises(ValueError, match="names of two characters"):
        Characters(TEXT, special=("x",))


def test_split_by_position_loses_nothing():
    split = split_by_position(TEXT * 10, 0.1, 0.2)
    text = "".join(split.characters.decode(part) for part in split[:3])
    assert text == TEXT * 10
    assert [len(part) for part in split[:3]] == [280, 40, 80]
    for shares in ((0.5, 0.5), (0.0, 0.1), (-0.1, 0.1)):
        with pytest.raises(ValueError, match="positive shares"):
            split_by_position(TEXT, *shares)


def test_split_by_play_holds_whole_plays_out():
    split = shakespeare_by_play()
    test = split.characters.decode(split.test)
    assert all(shakespeare(play) in test for play in TEST_PLAYS)
    train = split.characters.decode(split.train)
    for play in TEST_PLAYS:
        text = shakespeare(play)
        middle = text[len(text) // 2 : len(text) // 2 + 200]
        assert middle in test and middle not in train
    assert len(split.train) > 4_500_000
    assert len(split.validation) > 200_000 < len(split.test)


def test_random_windows_are_pieces_of_the_text():
    ids = torch.arange(50)
    windows = RandomWindows(ids, 8, 4, 5, seed=3)
    batches = list(windows)
    assert len(batches) == len(windows) == 5
    for batch in batches:
        assert batch.shape == (4, 9)
        assert torch.equal(batch - batch[:, :1], torch.arange(9).expand(4, 9))
    assert torch.cat(batches).max() <= 49
    again = list(windows)
    assert all(torch.equal(a, b) for a, b in zip(batches, again, strict=True))
    windows.set_epoch(1)
    assert not torch.equal(next(iter(windows)), batches[0])


def test_every_place_can_be_drawn():
    ids = torch.arange(6)
    starts = torch.cat([b[:, 0] for b in RandomWindows(ids, 3, 16, 20)])
    assert set(starts.tolist()) == {0, 1, 2}
    with pytest.raises(ValueError, match="length must be below the 6 tokens"):
        RandomWindows(ids, 6, 1, 1)


def test_even_windows_reach_from_end_to_end():
    windows = even_windows(torch.arange(100), 9, 4)
    assert windows.shape == (4, 10)
    assert windows[0, 0] == 0 and windows[-1, -1] == 99
    with pytest.raises(ValueError, match="number must be at least 1"):
        even_windows(torch.arange(100), 100, 1)
