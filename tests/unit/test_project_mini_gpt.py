"""The rubric of the project on a small GPT, on models whose bits are known."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from companion.exercises.projects import grade
from companion.exercises.projects import mini_gpt as project

VOCAB = 88


@pytest.fixture(autouse=True)
def shorter_text(monkeypatch):
    monkeypatch.setattr(project, "EXCERPT", 64 * 20)
    project.scored_text.cache_clear()
    yield
    project.scored_text.cache_clear()


class Foretells(nn.Module):
    """Logits from a function of the ids, plus a parameter, for its device."""

    def __init__(self, logits):
        super().__init__()
        self.logits = logits
        self.zero = nn.Parameter(torch.zeros(()))

    def forward(self, ids):
        return self.logits(ids) + self.zero


def even(ids):
    return torch.zeros(*ids.shape, VOCAB, device=ids.device)


def by_last_character(ids):
    """The true frequencies after each character of the scored text: an oracle."""
    text = project.scored_text()
    counts = torch.zeros(VOCAB, VOCAB).index_put(
        (text[:-1], text[1:]), torch.ones(len(text) - 1), accumulate=True
    )
    return (counts + 1e-9).log()[ids]


def ahead(ids):
    return 20.0 * F.one_hot(ids.roll(-1, dims=1), VOCAB)


def of_the_batch(ids):
    """Causal in each text, but with a statistic over all of them."""
    return even(ids) + 20 * F.one_hot(ids, VOCAB).float().mean(dim=0)


def in_the_same_text(ids):
    """What was read, averaged over the whole text."""
    return even(ids) + 20 * F.one_hot(ids, VOCAB).float().mean(dim=1, keepdim=True)


def test_even_guesses_cost_the_logarithm_of_the_vocabulary():
    assert project.held_out_bits(Foretells(even)) == pytest.approx(math.log2(VOCAB))


def test_an_oracle_reaches_its_conditional_entropy():
    text = project.scored_text()
    log_p = by_last_character(text[:-1]).log_softmax(-1).double()
    exact = -log_p.gather(1, text[1:, None]).mean().item() / math.log(2)
    assert project.held_out_bits(Foretells(by_last_character)) == pytest.approx(
        exact, abs=0.01
    )
    assert 2.8 < exact < 3.6  # the levels lie below what one character tells


def test_it_measures_as_the_stage_does():
    model = Foretells(by_last_character)
    with torch.no_grad():
        staged = project.bits_of_text(
            model, project.scored_text(), project.LENGTH, project.STRIDE
        )
    assert project.held_out_bits(model) == pytest.approx(staged, abs=0.01)


@pytest.mark.parametrize("cheat", [ahead, of_the_batch, in_the_same_text])
def test_a_model_that_sees_what_it_may_not_gets_no_bits(cheat):
    found = grade("mini_gpt", model=Foretells(cheat))
    assert found["causality"].level == found["bits"].level == found.level == 0
    assert "sees the future" in found["bits"].found


def test_a_causal_model_is_not_blamed():
    assert project.looks_ahead(Foretells(by_last_character)) == 0


def test_words_are_looked_up_in_the_training_plays():
    assert project.share_of_known_words("to BE, or not:\nthe king! xqz") == 75.0
    with pytest.raises(ValueError, match="no word"):
        project.share_of_known_words("a b, c")


def test_wrong_logits_are_told():
    found = grade("mini_gpt", model=Foretells(lambda ids: even(ids)[:, -1]))
    assert "must map ids (4, 128) to logits" in found["bits"].found


def test_size_is_in_thousands():
    assert project.thousands_of_parameters(nn.Linear(100, 49)) == pytest.approx(4.949)
    found = grade("mini_gpt", model=nn.Linear(2000, 2000))
    assert found["size"].level == 0
