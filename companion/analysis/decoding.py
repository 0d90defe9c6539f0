"""What a decoder learns and writes: two small tasks, their training, and what is measured.

The first task is a language model of Shakespeare's letters (`companion.analysis.bottleneck`
numbers them). The second is a translation small enough to train in seconds: digits into
number words, the units before the tens, as in "four and twenty blackbirds". So the two
sides differ in order and in length, and every target has one right answer.

How greedy and beam search do on five hastily trained models of the second kind is kept
beside this file, in ``decoding.csv``. Made anew by

    python -m companion.analysis.decoding

which takes about a minute on one core of a laptop.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from tqdm.auto import tqdm

from companion.analysis.bottleneck import LETTERS, sample_snippets
from companion.generation import translate
from companion.layers import EncoderLayer, KeyValueCache, padding_mask
from companion.models.decoder_only import DecoderOnlyTransformer
from companion.models.transformer import Transformer
from companion.runtime import device, seed_everything

# Number words

PAD_ID, START_ID, STOP_ID = 0, 1, 2
_BELOW_20 = (
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
    "fifteen sixteen seventeen eighteen nineteen"
).split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
WORDS = ("·", "⊢", "⊣", *_BELOW_20, *_TENS, "and", "hundred", "thousand")
DIGITS = ("·", "⊢", "⊣", *"0123456789")
HELD_OUT = 7  # its multiples are never trained on

HASTY, PATIENT = 200, 400  # steps of training
ALPHAS = (0.0, 0.6, 1.0, 3.0)  # length penalties, as in Wu et al. (2016)
_RESULTS = Path(__file__).with_suffix(".csv")


def number_words(n: int) -> list[str]:
    """The words of ``n``: 24 is ``four and twenty``, 324 ``three hundred four and twenty``.

    Raises:
        ValueError: ``n`` is not from 1 to 999,999.
    """
    if not 1 <= n <= 999_999:
        raise ValueError(f"n must be from 1 to 999,999, but it is {n}")
    thousands, rest = divmod(n, 1000)
    if thousands:
        after = number_words(rest) if rest else []
        return [*number_words(thousands), "thousand", *after]
    hundreds, rest = divmod(n, 100)
    words = [_BELOW_20[hundreds - 1], "hundred"] if hundreds else []
    tens, units = divmod(rest, 10)
    if tens < 2:
        return words + ([_BELOW_20[rest - 1]] if rest else [])
    return words + ([_BELOW_20[units - 1], "and"] if units else []) + [_TENS[tens - 2]]


class Pairs(NamedTuple):
    """Sources and targets, padded with ``PAD_ID``; both end with ``STOP_ID``.

    The target's first token is ``START_ID``.
    """

    source_ids: Int[Tensor, "batch source"]
    target_ids: Int[Tensor, "batch target"]

    @property
    def source_mask(self) -> Bool[Tensor, "batch 1 1 source"]:
        return padding_mask(self.source_ids, PAD_ID)


def number_pairs(numbers: Sequence[int]) -> Pairs:
    """Digits and words of each number, on the book's device."""
    digits = [[DIGITS.index(d) for d in str(n)] for n in numbers]
    words = [[WORDS.index(w) for w in number_words(n)] for n in numbers]
    sources = [torch.tensor([*d, STOP_ID]) for d in digits]
    targets = [torch.tensor([START_ID, *w, STOP_ID]) for w in words]
    return Pairs(
        pad_sequence(sources, batch_first=True, padding_value=PAD_ID).to(device()),
        pad_sequence(targets, batch_first=True, padding_value=PAD_ID).to(device()),
    )


def draw_numbers(
    count: int, generator: torch.Generator, *, held_out: bool, digits: int | None = None
) -> list[int]:
    """Numbers of 1 to 6 digits, each length as often as the others.

    Args:
        count: how many.
        generator: draws them, on the CPU.
        held_out: only multiples of 7, or only others.
        digits: all of this length.
    """
    numbers = []
    while len(numbers) < count:
        size = digits or int(torch.randint(1, 7, (1,), generator=generator))
        low, high = 10 ** (size - 1), 10**size
        n = int(torch.randint(low, high, (1,), generator=generator))
        if (n % HELD_OUT == 0) == held_out:
            numbers.append(n)
    return numbers


def as_words(token_ids: Int[Tensor, "length"]) -> str:
    """The words of a target up to its stop token."""
    words = [WORDS[i] for i in token_ids.tolist() if i not in (PAD_ID, START_ID)]
    return " ".join(words[: words.index("⊣")] if "⊣" in words else words)


def new_speller(seed: int) -> Transformer:
    """An untrained encoder-decoder from digits to words."""
    seed_everything(seed)
    sizes = {"d_model": 64, "num_heads": 4, "d_ff": 128, "max_seq_len": 32}
    layers = {"num_encoder_layers": 2, "num_decoder_layers": 2}
    model = Transformer(
        len(DIGITS), len(WORDS), **sizes, **layers, dropout=0.0, norm_first=True
    )
    return model.to(device())


def train_speller(
    model: Transformer, *, steps: int = 400, seed: int = 0
) -> list[float]:
    """Teacher forcing on pairs of digits and words, 32 at a time; its loss at each step."""
    draw = torch.Generator().manual_seed(seed)

    def loss() -> Tensor:
        pairs = number_pairs(draw_numbers(32, draw, held_out=False))
        known, wanted = pairs.target_ids[:, :-1], pairs.target_ids[:, 1:]
        logits = model(pairs.source_ids, known, pairs.source_mask)
        return F.cross_entropy(
            logits.flatten(0, 1), wanted.flatten(), ignore_index=PAD_ID
        )

    return _train(model, loss, steps, lr=4e-3)


def spell(
    model: Transformer, pairs: Pairs, **options: Any
) -> Int[Tensor, "batch length"]:
    """What the model writes for each source, from the first word to the stop token.

    Args:
        options: of `translate`, such as ``num_beams``.
    """
    return translate(
        model,
        pairs.source_ids,
        max_new_tokens=14,
        source_mask=pairs.source_mask,
        start_id=START_ID,
        stop_ids=[STOP_ID],
        pad_id=PAD_ID,
        **options,
    )


def wholly_right(
    written: Int[Tensor, "batch length"], pairs: Pairs
) -> Bool[Tensor, " batch"]:
    """Which texts are the right ones, from the first word to the stop token."""
    wanted = pairs.target_ids[:, 1:]
    length = max(written.shape[1], wanted.shape[1])
    written, wanted = (
        F.pad(ids, (0, length - ids.shape[1]), value=PAD_ID)
        for ids in (written, wanted)
    )
    return (written == wanted).all(dim=1)


def search_accuracy(model: Transformer, pairs: Pairs) -> dict[str, float]:
    """Share of wholly right texts: greedy, and four beams with each of ``ALPHAS``."""
    written = {"greedy": spell(model, pairs)}
    for alpha in ALPHAS:
        written[f"alpha {alpha}"] = spell(
            model, pairs, num_beams=4, length_penalty=alpha, length_norm="gnmt"
        )
    return {
        name: wholly_right(text, pairs).float().mean().item()
        for name, text in written.items()
    }


def unseen_pairs(count: int = 400) -> tuple[list[int], Pairs]:
    """Numbers of six digits that no speller has seen, and their words."""
    draw = torch.Generator().manual_seed(1)
    numbers = draw_numbers(count, draw, held_out=True, digits=6)
    return numbers, number_pairs(numbers)


# A language model of letters


def new_letter_model(*, causal: bool = True, seed: int = 0) -> DecoderOnlyTransformer:
    """An untrained model of Shakespeare's letters that sees at most 64 of them.

    Without ``causal``, each position sees all others: the blocks are encoder layers.
    """
    seed_everything(seed)
    sizes = {"d_model": 64, "num_heads": 4, "d_ff": 128, "dropout": 0.0}
    model = DecoderOnlyTransformer(
        len(LETTERS), num_layers=2, max_seq_len=64, tied_output=False, **sizes
    )
    # Large from the start, for there is no time to let them grow.
    nn.init.normal_(model.token_embedding.weight)
    nn.init.normal_(model.positions.position_embeddings.weight)
    if not causal:
        for i, block in enumerate(model.layers):
            layer = EncoderLayer(**sizes, activation="gelu", norm_first=True)
            layer.load_state_dict(block.state_dict())
            model.layers[i] = layer
    return model.to(device())


def train_letter_model(
    model: nn.Module,
    ids: Int[Tensor, "characters"],
    *,
    steps: int,
    shift: int = 1,
    length: int = 64,
    batch: int = 8,
    seed: int = 0,
) -> list[float]:
    """Teach the model to name the letter ``shift`` places on; its loss at each step."""
    draw = torch.Generator().manual_seed(seed)

    def loss() -> Tensor:
        text = sample_snippets(ids, batch, length + 1, draw)  # (B, L + 1)
        known, wanted = text[:, :length], text[:, shift : shift + length]
        return F.cross_entropy(model(known).flatten(0, 1), wanted.flatten())

    return _train(model, loss, steps, lr=8e-3)


def _train(
    model: nn.Module, loss: Callable[[], Tensor], steps: int, lr: float
) -> list[float]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=lr, total_steps=steps, pct_start=0.1
    )
    model.train()
    losses = []
    for _ in tqdm(range(steps), leave=False):
        value = loss()
        optimizer.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(value.item())
    model.eval()
    return losses


@torch.no_grad()
def next_letter_loss(
    model: nn.Module, texts: Int[Tensor, "batch length"]
) -> Float[Tensor, "batch last"]:
    """Minus the log-probability of each letter after the first, in nats."""
    log_p = model(texts[:, :-1]).log_softmax(dim=-1)
    return -log_p.gather(-1, texts[:, 1:, None])[..., 0]


class NGram(nn.Module):
    """The language model before neural ones: how often did this letter follow those?

    A count that is too small to trust is filled up from the shorter context:
    p(y | c) = (count(c y) + s p(y | shorter c)) / (count(c) + s).

    Its key-value cache is the text itself, so that it drafts like any other model.

    Args:
        ids: the text to count in.
        vocab_size: number of distinct tokens.
        order: how many tokens before the next are looked at, at least 1.
        strength: s, the weight of the shorter context.
    """

    def __init__(
        self,
        ids: Int[Tensor, "characters"],
        vocab_size: int,
        order: int = 2,
        strength: float = 5.0,
    ) -> None:
        super().__init__()
        self.order, self.vocab_size = order, vocab_size
        p = torch.full((1, vocab_size), 1 / vocab_size)
        for n in range(order + 1):
            # Each stretch of n + 1 tokens as one number in base vocab_size.
            places = [vocab_size**i for i in range(n, -1, -1)]
            stretches = ids.unfold(0, n + 1, 1) @ torch.tensor(places)
            count = stretches.bincount(minlength=vocab_size ** (n + 1)).float()
            count = count.view(-1, vocab_size)  # (V^n, V)
            shorter = p.repeat(len(count) // len(p), 1)
            total = count.sum(dim=1, keepdim=True)
            p = (count + strength * shorter) / (total + strength)
            self.register_buffer(f"log_p{n}", p.log())

    def forward(
        self,
        token_ids: Int[Tensor, "batch length"],
        mask: None = None,
        *,
        cache: KeyValueCache | None = None,
    ) -> Float[Tensor, "batch length vocab"]:
        """Logits of the token after each of ``token_ids``."""
        text = token_ids
        if cache is not None:
            column = token_ids[:, None, :, None]
            text = cache.extend(self, column, column)[0][:, 0, :, 0]
        logits = []
        for end in range(text.shape[1] - token_ids.shape[1] + 1, text.shape[1] + 1):
            n = min(self.order, end)
            context = torch.zeros_like(text[:, 0])
            for i in range(end - n, end):
                context = context * self.vocab_size + text[:, i]
            logits.append(getattr(self, f"log_p{n}")[context])
        return torch.stack(logits, dim=1)


# What is measured


def real_words(texts: Sequence[str], dictionary: set[str]) -> float:
    """The share of the letters written that lie in words of the dictionary.

    First and last words may be cut and do not count.
    """
    words = [word for text in texts for word in text.split(" ")[1:-1] if word]
    known = sum(len(word) for word in words if word in dictionary)
    return known / max(1, sum(len(word) for word in words))


def distinct(texts: Sequence[str], n: int = 4) -> float:
    """The share of all stretches of ``n`` words that differ from all others.

    1 where nothing is ever said twice.
    """
    stretches = [
        tuple(words[i : i + n])
        for words in (text.split() for text in texts)
        for i in range(len(words) - n + 1)
    ]
    return len(set(stretches)) / max(1, len(stretches))


def total_variation(
    p: Float[Tensor, "*leading vocab"], q: Float[Tensor, "*leading vocab"]
) -> Float[Tensor, "*leading"]:
    """Half the sum of absolute differences: the probability that must move, 0 to 1."""
    return (p - q).abs().sum(dim=-1) / 2


@torch.no_grad()
def accuracy_by_position(
    model: Transformer, pairs: Pairs, written: Int[Tensor, "batch length"]
) -> tuple[list[float], list[float]]:
    """Share of right words at each position: fed the truth, and left alone.

    Args:
        model: to be fed the truth.
        pairs: sources and the right targets.
        written: what the model wrote for the sources by itself, from the first word.
    """
    known, wanted = pairs.target_ids[:, :-1], pairs.target_ids[:, 1:]
    forced = model(pairs.source_ids, known, pairs.source_mask).argmax(dim=-1)
    length = wanted.shape[1]
    written = F.pad(written[:, :length], (0, max(0, length - written.shape[1])))
    counts = wanted != PAD_ID
    return tuple(
        [
            float(right[:, t][counts[:, t]].float().mean())
            for t in range(length)
            if counts[:, t].any()
        ]
        for right in (forced == wanted, written == wanted)
    )


def stored_results() -> dict[str, list[float]]:
    """Search -> share of wholly right texts of each seed's hasty speller, from the table."""
    columns: dict[str, list[float]] = defaultdict(list)
    with _RESULTS.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(line for line in file if not line.startswith("#")):
            for name, value in row.items():
                if name != "seed":
                    columns[name].append(float(value))
    return dict(columns)


def main() -> None:
    """Train hasty spellers with five seeds, search with each, write ``decoding.csv``."""
    from datetime import date

    _, pairs = unseen_pairs()
    with _RESULTS.open("w", encoding="utf-8", newline="") as file:
        file.write(
            "# Share of unseen six-digit numbers spelled wholly right. Made by\n"
            f"# python -m companion.analysis.decoding: {HASTY} steps, seeds 0-4,\n"
            f"# {device().type}, torch {torch.__version__}, {date.today()}\n"
        )
        table = csv.writer(file)
        table.writerow(["seed", "greedy", *(f"alpha {alpha}" for alpha in ALPHAS)])
        for seed in range(5):
            model = new_speller(seed)
            train_speller(model, steps=HASTY, seed=seed)
            accuracy = search_accuracy(model, pairs)
            table.writerow([seed, *(f"{share:.4f}" for share in accuracy.values())])
            file.flush()
            print(seed, accuracy)


if __name__ == "__main__":
    main()
