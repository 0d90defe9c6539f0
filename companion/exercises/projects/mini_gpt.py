"""The project "A small GPT of your own": its stages, and what its rubric measures."""

from __future__ import annotations

import functools
import math

import torch
import torch.nn.functional as F
from jaxtyping import Int
from torch import Generator, Tensor, nn

from companion.data.characters import CharacterSplit
from companion.exercises.exercise import Exercise, Inputs, Misconception, Property
from companion.exercises.projects.grading import Criterion, Project
from companion.generation.interface import evaluating

# Batches to learn from


def next_character_batch(
    text_ids: Int[Tensor, " characters"], starts: Int[Tensor, " batch"], length: int
) -> tuple[Int[Tensor, "batch length"], Int[Tensor, "batch length"]]:
    places = starts[:, None] + torch.arange(length + 1, device=text_ids.device)
    windows = text_ids[places]  # (batch, length + 1)
    return windows[:, :-1], windows[:, 1:]


def _same_characters(text_ids: Tensor, starts: Tensor, length: int):
    inputs, _ = next_character_batch(text_ids, starts, length)
    return inputs, inputs


def _one_to_the_left(text_ids: Tensor, starts: Tensor, length: int):
    inputs, targets = next_character_batch(text_ids, starts, length)
    return targets, inputs


def _turned_around(text_ids: Tensor, starts: Tensor, length: int):
    inputs, _ = next_character_batch(text_ids, starts, length)
    return inputs, inputs.roll(-1, dims=1)


def _over_the_rows(text_ids: Tensor, starts: Tensor, length: int):
    inputs, _ = next_character_batch(text_ids, starts, length)
    return inputs, inputs.flatten().roll(-1).view_as(inputs)


def _one_too_short(text_ids: Tensor, starts: Tensor, length: int):
    inputs, targets = next_character_batch(text_ids, starts, length)
    return inputs[:, :-1], targets[:, :-1]


def _two_ahead(text_ids: Tensor, starts: Tensor, length: int):
    inputs, _ = next_character_batch(text_ids, starts, length)
    return inputs, next_character_batch(text_ids, starts + 1, length)[1]


def _last_one_only(text_ids: Tensor, starts: Tensor, length: int):
    inputs, targets = next_character_batch(text_ids, starts, length)
    return inputs, targets[:, -1]


def _draw_texts(generator: Generator) -> list[Inputs]:
    drawn = []
    for size, batch, length in ((9, 2, 3), (20, 3, 5), (50, 5, 4)):
        text_ids = torch.randperm(size, generator=generator)
        starts = torch.randint(size - length - 1, (batch,), generator=generator)
        drawn.append((text_ids, starts, length))
    return drawn


def _targets_follow(answer, inputs: Inputs) -> bool:
    """In the text 0, 1, 2, ... each character is followed by the next number."""
    text_ids, starts, length = inputs
    read, wanted = answer(torch.arange(len(text_ids)).to(text_ids), starts, length)
    return torch.equal(wanted, read + 1)


# What each place is shown


def recent_characters(
    token_ids: Int[Tensor, "batch length"], number: int, blank: int
) -> Int[Tensor, "batch length number"]:
    length = token_ids.shape[1]
    before = F.pad(token_ids, (number - 1, 0), value=blank)
    shifted = [before[:, number - 1 - i :][:, :length] for i in range(number)]
    return torch.stack(shifted, dim=-1)


def _around_the_end(token_ids: Tensor, number: int, blank: int) -> Tensor:
    return torch.stack([token_ids.roll(i, dims=1) for i in range(number)], dim=-1)


def _the_next_ones(token_ids: Tensor, number: int, blank: int) -> Tensor:
    return recent_characters(token_ids.flip(1), number, blank).flip(1)


def _without_itself(token_ids: Tensor, number: int, blank: int) -> Tensor:
    return recent_characters(token_ids, number + 1, blank)[..., 1:]


def _oldest_first(token_ids: Tensor, number: int, blank: int) -> Tensor:
    return recent_characters(token_ids, number, blank).flip(-1)


def _zero_as_blank(token_ids: Tensor, number: int, blank: int) -> Tensor:
    return recent_characters(token_ids, number, 0)


def _first_one_again(token_ids: Tensor, number: int, blank: int) -> Tensor:
    before = token_ids[:, :1].expand(-1, number - 1)
    longer = torch.cat([before, token_ids], dim=1)
    return recent_characters(longer, number, blank)[:, number - 1 :]


def _from_the_row_above(token_ids: Tensor, number: int, blank: int) -> Tensor:
    one_row = recent_characters(token_ids.flatten()[None], number, blank)
    return one_row.view(*token_ids.shape, number)


def _draw_rows(generator: Generator) -> list[Inputs]:
    return [
        (torch.randint(1, 20, size, generator=generator), number, 20)
        for size, number in (((1, 3), 2), ((2, 5), 3), ((3, 6), 4), ((2, 2), 4))
    ]


def _nothing_from_the_future(answer, inputs: Inputs) -> bool:
    token_ids, number, blank = inputs
    changed = token_ids.clone()
    changed[:, -1] += 100
    before, after = answer(*inputs), answer(changed, number, blank)
    return torch.equal(before[:, :-1], after[:, :-1])


# Bits per character of a whole text


def bits_of_text(
    model: nn.Module, text_ids: Int[Tensor, " characters"], length: int, stride: int
) -> float:
    total, done = 0.0, 0  # done: characters foretold, of all but the first
    for start in range(0, len(text_ids) - 1, stride):
        window = text_ids[start : start + length + 1]
        logits = model(window[None, :-1])[0]
        losses = F.cross_entropy(logits, window[1:], reduction="none")
        new = losses[max(done - start, 0) :]  # the others had their turn
        total, done = total + new.sum().item(), done + len(new)
    return total / done / math.log(2)


def _nats(model: nn.Module, text_ids: Tensor, length: int, stride: int) -> float:
    return bits_of_text(model, text_ids, length, stride) * math.log(2)


def _each_time_again(
    model: nn.Module, text_ids: Tensor, length: int, stride: int
) -> float:
    """Every character of every window, so that where windows overlap two count."""
    losses = []
    for start in range(0, len(text_ids) - 1, stride):
        window = text_ids[start : start + length + 1]
        logits = model(window[None, :-1])[0]
        losses.append(F.cross_entropy(logits, window[1:], reduction="none"))
    return torch.cat(losses).mean().item() / math.log(2)


def _mean_of_windows(
    model: nn.Module, text_ids: Tensor, length: int, stride: int
) -> float:
    means, done = [], 0
    for start in range(0, len(text_ids) - 1, stride):
        window = text_ids[start : start + length + 1]
        logits = model(window[None, :-1])[0]
        losses = F.cross_entropy(logits, window[1:], reduction="none")
        new = losses[max(done - start, 0) :]
        done += len(new)
        if len(new):
            means.append(new.mean().item())
    return sum(means) / len(means) / math.log(2)


def _what_was_read(
    model: nn.Module, text_ids: Tensor, length: int, stride: int
) -> float:
    total, done = 0.0, 0
    for start in range(0, len(text_ids) - 1, stride):
        window = text_ids[start : start + length + 1]
        logits = model(window[None, :-1])[0]
        losses = F.cross_entropy(logits, window[:-1], reduction="none")
        new = losses[max(done - start, 0) :]
        total, done = total + new.sum().item(), done + len(new)
    return total / done / math.log(2)


def _without_overlap(
    model: nn.Module, text_ids: Tensor, length: int, stride: int
) -> float:
    return bits_of_text(model, text_ids, length, length)


def _without_the_rest(
    model: nn.Module, text_ids: Tensor, length: int, stride: int
) -> float:
    """Full windows only."""
    last = (len(text_ids) - 1 - length) // stride * stride + length
    return bits_of_text(model, text_ids[: last + 1], length, stride)


def _without_the_beginning(
    model: nn.Module, text_ids: Tensor, length: int, stride: int
) -> float:
    """The new part of each window, and so not the first characters of the first."""
    total, done, reached = 0.0, 0, length - stride
    for start in range(0, len(text_ids) - 1, stride):
        window = text_ids[start : start + length + 1]
        logits = model(window[None, :-1])[0]
        losses = F.cross_entropy(logits, window[1:], reduction="none")
        new = losses[max(reached - start, 0) :]
        total, done, reached = (
            total + new.sum().item(),
            done + len(new),
            reached + len(new),
        )
    return total / done / math.log(2)


class _Recalls(nn.Module):
    """Logits from all that was read, recent characters most: more context, other bits."""

    def __init__(self, vocab_size: int, generator: Generator) -> None:
        super().__init__()
        table = 2 * torch.randn(vocab_size, vocab_size, generator=generator)
        self.table = nn.Parameter(table, requires_grad=False)

    def forward(self, ids: Tensor) -> Tensor:
        steps = torch.arange(ids.shape[1], device=ids.device)
        ago = steps[:, None] - steps  # of the query and the key
        shares = 0.7 ** ago.clamp(min=0) * (ago >= 0)
        return shares @ self.table[ids]


def _draw_models(generator: Generator) -> list[Inputs]:
    drawn = []
    for vocab_size, characters, length, stride in (
        (3, 8, 4, 2),
        (5, 24, 8, 4),
        (4, 30, 6, 2),
        (6, 23, 5, 4),
        (5, 10, 4, 4),  # the last window foretells one character
    ):
        text_ids = torch.randint(vocab_size, (characters,), generator=generator)
        drawn.append((_Recalls(vocab_size, generator), text_ids, length, stride))
    return drawn


class _Even(nn.Module):
    """Foretells all of 8 characters alike."""

    def forward(self, ids: Tensor) -> Tensor:
        return torch.zeros(*ids.shape, 8, device=ids.device)


def _three_bits_for_eight(answer, inputs: Inputs) -> bool:
    found = answer(_Even(), *inputs[1:])
    return math.isclose(float(found), 3.0, rel_tol=1e-4)


EXERCISES: tuple[Exercise, ...] = (
    Exercise(
        name="next_character_batch",
        chapter="practice",
        title="A batch, and what it should foretell",
        difficulty=1,
        minutes=6,
        trains="shifts targets by one against inputs",
        reference=next_character_batch,
        inputs=_draw_texts,
        properties=(
            Property(
                "in the text 0, 1, 2, ... every target is its input plus 1",
                _targets_follow,
            ),
        ),
        misconceptions=(
            Misconception(
                "gives the inputs as targets",
                _same_characters,
                "Your targets are the inputs. A model that may see a character has "
                "nothing to foretell: its loss falls to zero and it learns to copy.",
            ),
            Misconception(
                "shifts the wrong way",
                _one_to_the_left,
                "Your targets are the characters before the inputs. Which character is "
                "not known yet when the input at a place is read?",
            ),
            Misconception(
                "wraps the first character around to the end",
                _turned_around,
                "You roll each window by one. Then the last target is the window's "
                "*first* character, and not the one that comes next in the text.",
            ),
            Misconception(
                "takes the last target from the next row",
                _over_the_rows,
                "The last target of a row is the first input of the next row. The rows "
                "are windows from anywhere in the text, and don't follow each other.",
            ),
            Misconception(
                "loses a place to the shift",
                _one_too_short,
                "Your rows are one place short. To foretell `length` characters, a "
                "window of how many characters must be cut?",
            ),
            Misconception(
                "foretells the character after the next",
                _two_ahead,
                "Your targets lie two places ahead, as if shifted twice. The target at "
                "a place is the character right after it.",
            ),
            Misconception(
                "asks for the last character only",
                _last_one_only,
                "You give one target a row. A causal model foretells at every place, and "
                "learns from `length` targets for the price of one.",
            ),
        ),
        hints=(
            "A window holds one character more than what is read.",
            "starts[:, None] + torch.arange(...) makes all places of all windows at "
            "once, and text_ids[places] reads them.",
            "With windows of length + 1 characters: windows[:, :-1] and windows[:, 1:]",
        ),
    ),
    Exercise(
        name="recent_characters",
        chapter="practice",
        title="The last few characters of every place",
        difficulty=2,
        minutes=10,
        trains="shifts a sequence without letting the future in",
        reference=recent_characters,
        inputs=_draw_rows,
        properties=(
            Property(
                "the last character of a row is shown to the last place only",
                _nothing_from_the_future,
            ),
        ),
        misconceptions=(
            Misconception(
                "wraps around, from the end to the beginning",
                _around_the_end,
                "torch.roll brings the end of the row to its beginning. So the first "
                "places are shown characters that they are to foretell: the bits look "
                "wonderful, and the model writes nonsense.",
            ),
            Misconception(
                "shows the characters that come next",
                _the_next_ones,
                "You shift to the left: each place sees what follows it. That is the "
                "answer, and not the question.",
            ),
            Misconception(
                "leaves out the character itself",
                _without_itself,
                "Your list begins with the character before. The place's own character "
                "has been read too, and it says most about the next one.",
            ),
            Misconception(
                "puts the oldest first",
                _oldest_first,
                "The order is turned around: index 0 should be the place's own "
                "character, index 1 the one before it.",
            ),
            Misconception(
                "fills up with the character 0",
                _zero_as_blank,
                "Where there is nothing yet you put id 0, which is a character of the "
                "text. Use `blank`.",
            ),
            Misconception(
                "repeats the first character",
                _first_one_again,
                "Before the beginning you repeat the first character. It did not stand "
                "there; say `blank`, that nothing did.",
            ),
            Misconception(
                "looks back into the row above",
                _from_the_row_above,
                "The first places look into the end of the row before. Rows of a batch "
                "have nothing to do with each other.",
            ),
        ),
        hints=(
            "Shift the whole row to the right by 0, 1, 2, ... places. What enters from "
            "the left?",
            "F.pad(token_ids, (i, 0), value=blank) puts i blanks before each row. Cut "
            "off what sticks out at the end.",
            "Stack F.pad(token_ids, (i, 0), value=blank)[:, :length] for i in "
            "range(number) along a new last axis.",
        ),
    ),
    Exercise(
        name="bits_of_text",
        chapter="practice",
        title="Bits per character of a long text",
        difficulty=3,
        minutes=15,
        trains="measures a language model so that the number can be compared",
        reference=bits_of_text,
        inputs=_draw_models,
        input_names=("model", "text_ids", "length", "stride"),
        tolerance=1e-4,
        properties=(
            Property(
                "eight characters that are all alike cost three bits each",
                _three_bits_for_eight,
            ),
        ),
        misconceptions=(
            Misconception(
                "stays with nats",
                _nats,
                "That is right, in nats. F.cross_entropy takes the natural logarithm; "
                "how many nats are in a bit?",
            ),
            Misconception(
                "counts where windows overlap twice",
                _each_time_again,
                "You average over everything in every window. Where two windows "
                "overlap, a character counts twice, once with little context: that is "
                "no code length of the text. Count each character in one window only.",
            ),
            Misconception(
                "averages the averages of windows",
                _mean_of_windows,
                "You take the mean of each window, and then the mean of these. The "
                "first and the last window score other numbers of characters than the "
                "rest; add up losses and divide once.",
            ),
            Misconception(
                "asks for the character that was just read",
                _what_was_read,
                "You compare the logits at a place with the character at that place. "
                "They are about the next one: shift by one.",
            ),
            Misconception(
                "cuts the text without overlap",
                _without_overlap,
                "Your windows don't overlap, so that the first characters of each are "
                "foretold from next to nothing. Move on by `stride`.",
            ),
            Misconception(
                "drops the end of the text",
                _without_the_rest,
                "You stop at the last full window. The characters after it belong to "
                "the text as well: the last window may be shorter.",
            ),
            Misconception(
                "leaves out the beginning of the text",
                _without_the_beginning,
                "You score the new part of each window, also in the first. There "
                "everything is new.",
            ),
        ),
        hints=(
            "Walk over the text in steps of `stride`. Which losses of a window have not "
            "been counted in the window before?",
            "Remember how many characters are done. The window that begins at `start` "
            "foretells the characters start + 1, start + 2, ...: the first done - start "
            "of its losses are old.",
            "total += losses[max(done - start, 0):].sum(), and at the end total / done / "
            "math.log(2), where done is len(text_ids) - 1.",
        ),
    ),
)

# The rubric


@functools.cache
def _split() -> CharacterSplit:
    """The same plays and the same ids as in `companion.analysis.mini_gpt.load_split`."""
    from companion.analysis.mini_gpt import load_split

    return load_split()


LENGTH, STRIDE = 128, 64
EXCERPT = 64 * 250  # characters of each test play's share of the excerpt


@functools.cache
def scored_text() -> Int[Tensor, " characters"]:
    """From the beginning of *Macbeth* and the end of *Twelfth Night*, on the CPU."""
    test = _split().test
    return torch.cat([test[:EXCERPT], test[-EXCERPT:]])


@torch.no_grad()
def _log_p(model: nn.Module, ids: Tensor) -> Tensor:
    """log p of every character after every place, in the precision of doubles."""
    where = next(model.parameters()).device
    logits = model(ids.to(where))
    wanted = (*ids.shape, _split().characters.vocab_size)
    if tuple(logits.shape) != wanted:
        raise ValueError(
            f"model must map ids {tuple(ids.shape)} to logits {wanted}, but it gives "
            f"{tuple(logits.shape)}"
        )
    return logits.double().log_softmax(dim=-1).cpu()


def looks_ahead(model: nn.Module) -> float:
    """How far a probability moves when only later characters or other texts change."""
    ids = scored_text()[: 4 * LENGTH].view(4, LENGTH)
    changed = ids.clone()
    half = LENGTH // 2
    changed[:, half:] = ids.flip(0)[:, half:].roll(1, 1)
    changed[2:, :half] = ids[2:, :half].roll(1, 1)
    with evaluating(model):
        before, after = (_log_p(model, x).exp() for x in (ids, changed))
    return (before - after)[:2, :half].abs().max().item()


def held_out_bits(model: nn.Module) -> float:
    """Bits per character of held-out plays, at most `LENGTH` characters at a time.

    Raises:
        ValueError: the model looks ahead, so that its bits are no code length.
    """
    if looks_ahead(model) > 1e-3:
        raise ValueError("the model sees the future, so its bits mean nothing")
    text = scored_text()
    # The second half of each window is new, and all of the first window.
    windows = text[: (len(text) - 1) // STRIDE * STRIDE + 1].unfold(
        0, LENGTH + 1, STRIDE
    )
    p = []
    with evaluating(model):
        for rows in windows.split(32):
            log_p = _log_p(model, rows[:, :-1])
            p.append(log_p.gather(2, rows[:, 1:, None])[..., 0])
    log_p = torch.cat(p)
    new = torch.cat([log_p[0, :STRIDE], log_p[:, STRIDE:].flatten()])
    return -new.mean().item() / math.log(2)


@functools.cache
def _known_words() -> frozenset[str]:
    split = _split()
    return frozenset(_words(split.characters.decode(split.train)))


def _words(text: str) -> list[str]:
    """Runs of letters, in small letters."""
    apart = "".join(c if c.isalpha() else " " for c in text)
    return apart.lower().split()


def share_of_known_words(text: str) -> float:
    """How many of the words of three letters and more the training plays have, in percent.

    Raises:
        ValueError: there is no such word.
    """
    words = [word for word in _words(text) if len(word) >= 3]
    if not words:
        raise ValueError("the model has written no word of three letters")
    return 100 * sum(word in _known_words() for word in words) / len(words)


@torch.no_grad()
def words_written(model: nn.Module) -> float:
    """The same of what the model writes, drawn from its probabilities as they are."""
    draw = torch.Generator().manual_seed(0)
    ids = scored_text()[: 16 * 32].view(16, 32)
    with evaluating(model):
        for _ in range(150):
            p = _log_p(model, ids[:, -64:])[:, -1].exp()
            ids = torch.cat([ids, torch.multinomial(p, 1, generator=draw)], dim=1)
    # The ends may be cut in the middle of a word.
    written = [_split().characters.decode(row[32:]) for row in ids]
    return share_of_known_words(
        " ".join(" ".join(text.split()[1:-1]) for text in written)
    )


def thousands_of_parameters(model: nn.Module) -> float:
    """All that is learned, tables too, in thousands."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be an nn.Module, but it is {type(model).__name__}")
    return sum(p.numel() for p in model.parameters()) / 1000


PROJECT = Project(
    name="mini_gpt",
    title="A small GPT of your own",
    stages=("next_character_batch", "recent_characters", "bits_of_text"),
    minutes=120,
    criteria=(
        Criterion(
            name="bits",
            asks="bits per character on two plays that were held out",
            measure=lambda model: held_out_bits(model),
            levels=(3.00, 2.40, 2.25),
            unit=" bits",
            advice=(
                "That is what counting two characters reaches. Does the loss fall from "
                "the first update? Try another learning rate before anything else.",
                "Make updates cheaper before you make the model larger: in two minutes, "
                "more updates of a smaller model win. Do Muon and rotary positions help?",
                "All that counting can do is beaten from here. Train longer, and look "
                "which part of the model the time goes to.",
            ),
        ),
        Criterion(
            name="causality",
            asks="how far a probability moves when later characters, or other texts of "
            "the batch, are changed",
            measure=lambda model: looks_ahead(model),
            levels=(1e-3, 1e-4, 1e-5),
            digits=6,
            advice=(
                "The model sees the future. Look for a missing mask, and for torch.roll.",
                "A little of the future leaks in. Is a statistic taken over the text?",
                "Nearly nothing leaks. Which operation mixes the places?",
            ),
        ),
        Criterion(
            name="words",
            asks="share of the words that it writes, of three letters and more, that "
            "the training plays have",
            measure=lambda model: words_written(model),
            levels=(40.0, 65.0, 80.0),
            unit=" %",
            digits=0,
            advice=(
                "It cannot spell yet. It has to know more than a character or two.",
                "It spells short words. Lower the bits, and this follows.",
                "Shakespeare's other plays reach 95 %. Lower the bits, and this follows.",
            ),
        ),
        Criterion(
            name="size",
            asks="numbers that are learned, in thousands",
            measure=lambda model: thousands_of_parameters(model),
            levels=(2000.0, 1000.0, 700.0),
            unit=" thousand",
            digits=0,
            advice=(
                "Make the model smaller. Which table or layer holds most of it?",
                "Make the model smaller. It reads too little text to fill so many.",
                "The worked solution needs fewer than 500 thousand.",
            ),
        ),
    ),
)
