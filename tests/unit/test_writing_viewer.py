"""The writing viewer, from Python: what it records is what the model does."""

from __future__ import annotations

import functools

import pytest
import torch

from companion import record_attention
from companion.analysis import decoding
from companion.figures import Writing, WritingViewer
from companion.layers import KeyValueCache


@functools.cache
def speller() -> torch.nn.Module:
    return decoding.new_speller(seed=0).eval()


def written(length: int = 5) -> torch.Tensor:
    """Some words: a fresh speller writes none that are worth reading."""
    return torch.tensor([[5, 12, 30, 4, decoding.STOP_ID]])[:, -length:]


def writing(name: str = "24, fresh", number: int = 24, length: int = 5) -> Writing:
    pairs = decoding.number_pairs([number])
    return Writing.of(
        name,
        speller(),
        pairs.source_ids,
        written(length).to(pairs.source_ids.device),
        pairs.target_ids[:, 1:],
        source_tokens=decoding.DIGITS,
        target_tokens=decoding.WORDS,
        start_id=decoding.START_ID,
        source_mask=pairs.source_mask,
    )


def test_tokens_are_those_that_were_read_and_written() -> None:
    record = writing()
    assert record.source == ["2", "4", "⊣"]
    assert record.written == [decoding.WORDS[i] for i in (5, 12, 30, 4, 2)]
    assert record.read == ["⊢", *record.written[:-1]]
    assert record.wanted == ["four", "and", "twenty", "⊣"]
    assert not record.is_right(0) and not record.is_right(4)


def test_right_means_the_wanted_token_in_its_place() -> None:
    pairs = decoding.number_pairs([24])
    record = Writing.of(
        "24",
        speller(),
        pairs.source_ids,
        pairs.target_ids[:, 1:],
        pairs.target_ids[:, 1:],
        source_tokens=decoding.DIGITS,
        target_tokens=decoding.WORDS,
        start_id=decoding.START_ID,
    )
    assert [record.is_right(step) for step in range(5)] == [True] * 4 + [False]


def test_each_step_is_what_writing_token_by_token_gives() -> None:
    record, model = writing(), speller()
    pairs, cache = decoding.number_pairs([24]), KeyValueCache()
    read = torch.tensor([[decoding.START_ID, *written()[0, :-1].tolist()]])
    memory = model.encode(pairs.source_ids, pairs.source_mask)
    for step, token in enumerate(read.to(memory.device).split(1, dim=1)):
        with record_attention(model) as maps, torch.no_grad():
            logits = model.decode(token, memory, pairs.source_mask, cache=cache)
        across, back = (
            maps[f"decoder.layers.1.{kind}"][0][0, :, 0].mean(dim=0).tolist()
            for kind in ("cross_attention", "self_attention")
        )
        assert record.across[step] == pytest.approx(across, abs=6e-4)
        assert record.back[step] == pytest.approx(back, abs=6e-4)
        p, ids = logits[0, -1].softmax(dim=-1).topk(5)
        assert [name for name, _ in record.candidates[step]] == [
            decoding.WORDS[i] for i in ids.tolist()
        ]
        shares = [share for _, share in record.candidates[step]]
        assert shares == pytest.approx(p.tolist(), abs=6e-5)


def test_the_cost_counts_tokens_through_the_decoder() -> None:
    viewer = WritingViewer([writing()], step=4)
    assert viewer.tokens_computed() == (1, 4)
    viewer.cached = False
    assert viewer.tokens_computed() == (4, 10)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="writings must hold at least one"):
        WritingViewer([])
    with pytest.raises(ValueError, match="step must be from 1 to 5, but it is 6"):
        WritingViewer([writing()], step=6)
    with pytest.raises(ValueError, match="writing must be from 0 to 0, but it is 1"):
        WritingViewer([writing()], writing=1)
    names = {"source_tokens": decoding.DIGITS, "target_tokens": decoding.WORDS}
    two = decoding.number_pairs([24, 25])
    with pytest.raises(ValueError, match="must hold one text, but they hold 2 and 2"):
        Writing.of("", speller(), *two, two.target_ids, start_id=1, **names)
    one = decoding.number_pairs([24])
    training = decoding.new_speller(seed=0).train()
    with pytest.raises(ValueError, match="model must be in evaluation mode"):
        Writing.of("", training, *one, one.target_ids, start_id=1, **names)


def test_page_holds_the_state_and_is_the_same_each_time() -> None:
    one, two = (WritingViewer([writing("<24>")], step=2) for _ in range(2))
    assert one.to_html() == two.to_html()
    assert one.to_html() != WritingViewer([writing("<24>")], step=3).to_html()
    assert len(one.to_html()) < 40_000
    assert "&lt;24&gt;" in one.fallback()
    assert (
        repr(one) == "<interactive figure: 1 texts as they were written, step by step>"
    )
