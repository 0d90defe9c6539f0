"""Encoder-only, decoder-only, encoder-decoder: the same four tasks, parameters and updates.

Every task is a source and a target, so that all three can try. What a family is good at
shows in how it comes from one to the other:

- encoder-only: a blank for each target token stands before the source, and all blanks are
  filled at once. No filled blank sees another.
- decoder-only: source and target are one text, and each token sees what is before it.
- encoder-decoder: the source is read both ways, and the target is written left to right.

The results of three seeds are kept beside this file, in ``families.csv``. Made anew by

    python -m companion.analysis.families

which takes about ten minutes on one core of a laptop.
"""

from __future__ import annotations

import csv
import functools
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from companion.analysis import bottleneck
from companion.analysis.ablations import emoji_task
from companion.analysis.language_id import CODES, Letters
from companion.data.languages import LabelledText, language_texts
from companion.layers import padding_mask
from companion.models.decoder_only import DecoderOnlyTransformer
from companion.models.encoder_only import EncoderOnlyTransformer
from companion.models.transformer import Transformer
from companion.runtime import device, seed_everything
from companion.training import CosineWithWarmup, Trainer

PAD, START, END, BLANK = range(4)
FIRST = 4  # number of the first token that is not special

STEPS = 300
SEEDS = (0, 1, 2)
BATCH = 64
D_MODEL, NUM_HEADS, D_FF, NUM_LAYERS = 64, 4, 256, 4

_RESULTS = Path(__file__).with_suffix(".csv")


class Examples(NamedTuple):
    """Sources and targets, padded at the end."""

    source: Int[Tensor, "batch source"]
    target: Int[Tensor, "batch target"]


@dataclass(frozen=True)
class Task:
    """Where examples come from.

    Attributes:
        vocab_size: number of tokens, the special ones among them.
        max_source, max_target: the longest of each.
        draw: a number and a generator -> examples to train on.
        test: examples held out.
        names: what the tokens from ``FIRST`` on stand for.
    """

    vocab_size: int
    max_source: int
    max_target: int
    draw: Callable[[int, torch.Generator], Examples]
    test: Examples
    names: tuple[str, ...]

    def text(self, ids: Int[Tensor, "length"]) -> str:
        """Tokens as text, up to the end token; a blank is shown as ``_``."""
        special = {PAD: "", START: "", BLANK: "_"}
        parts = []
        for i in ids.tolist():
            if i == END:
                break
            parts.append(special.get(i) if i < FIRST else self.names[i - FIRST])
        text = "".join(parts)
        return text.replace("▁", " ").strip() if "▁" in text else text


class Result(NamedTuple):
    """What came out on the held-out examples.

    Attributes:
        exact: share of targets that greedy writing gets right as a whole.
        bits: cross-entropy of the targets, in bits a token.
    """

    exact: float
    bits: float


# The families: called with sources and targets, each gives a logit for every target token.


class EncoderOnly(nn.Module):
    """Blanks before the source, filled at once: masked language modeling (Devlin et al., 2019)."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.num_blanks = task.max_target
        self.encoder = EncoderOnlyTransformer(
            task.vocab_size,
            D_MODEL,
            NUM_HEADS,
            D_FF,
            NUM_LAYERS,
            max_seq_len=task.max_source + task.max_target,
            dropout=0.0,
            norm_first=True,
        )

    def forward(
        self, source: Int[Tensor, "batch source"], target: Int[Tensor, "batch target"]
    ) -> Float[Tensor, "batch target vocab"]:
        """The number of blanks does not tell how long the target is; its tokens aren't read."""
        blanks = source.new_full((len(source), self.num_blanks), BLANK)
        ids = torch.cat([blanks, source], dim=1)
        states = self.encoder(ids, padding_mask(ids, PAD))[:, : target.shape[1]]
        return F.linear(states, self.encoder.token_embedding.weight)


class DecoderOnly(nn.Module):
    """Source, start token and target as one text (Radford et al., 2018, section 3.3)."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.decoder = DecoderOnlyTransformer(
            task.vocab_size,
            D_MODEL,
            NUM_HEADS,
            D_FF,
            NUM_LAYERS,
            max_seq_len=task.max_source + task.max_target + 1,
            dropout=0.0,
        )

    def forward(
        self, source: Int[Tensor, "batch source"], target: Int[Tensor, "batch target"]
    ) -> Float[Tensor, "batch target vocab"]:
        start = source.new_full((len(source), 1), START)
        lengths = (source != PAD).sum(dim=1)  # (B,)
        # The target follows at once, however short the source: no hole of padding.
        rows = [
            torch.cat([s[:n], t])
            for s, n, t in zip(
                source,
                lengths.tolist(),
                torch.cat([start, target], dim=1),
                strict=True,
            )
        ]
        ids = pad_sequence(rows, batch_first=True, padding_value=PAD)
        steps = torch.arange(target.shape[1], device=ids.device)
        place = lengths[:, None] + steps  # the token before each target token
        states = self.decoder.hidden_states(ids)[-1]
        chosen = states.gather(1, place[..., None].expand(-1, -1, D_MODEL))
        return self.decoder.output_projection(chosen)


class EncoderDecoder(nn.Module):
    """Half of the layers read, half write (Vaswani et al., 2017)."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        # Cross-attention costs parameters; narrower feed-forward networks pay for it.
        self.transformer = Transformer(
            task.vocab_size,
            task.vocab_size,
            D_MODEL,
            NUM_HEADS,
            192,
            NUM_LAYERS // 2,
            NUM_LAYERS // 2,
            max_seq_len=max(task.max_source, task.max_target + 1),
            dropout=0.0,
            shared_vocabulary=True,
            tied_output=True,
            activation="gelu",
            norm_first=True,
        )

    def forward(
        self, source: Int[Tensor, "batch source"], target: Int[Tensor, "batch target"]
    ) -> Float[Tensor, "batch target vocab"]:
        shifted = F.pad(target[:, :-1], (1, 0), value=START)
        return self.transformer(source, shifted, padding_mask(source, PAD))


FAMILIES: dict[str, type[nn.Module]] = {
    "encoder-only": EncoderOnly,
    "decoder-only": DecoderOnly,
    "encoder-decoder": EncoderDecoder,
}


# The tasks


def name_the_language() -> Task:
    """The name of an emoji, its first 24 letters -> one token for its language, of eight."""
    train, test = language_texts()
    letters = Letters(train)
    names = (*letters.ids, *CODES)

    def examples(texts: list[LabelledText]) -> Examples:
        source = letters.encode([item.text for item in texts]).cpu()[:, :24]
        # `Letters` has two special tokens, padding and unknown, which is a blank here.
        source = torch.where(source > 1, source - 2 + FIRST, source * BLANK)
        label = [FIRST + len(letters.ids) + CODES.index(t.language) for t in texts]
        return _on_device(source, torch.tensor(label)[:, None])

    return Task(
        FIRST + len(names), 24, 1, _from_list(train, examples), examples(test), names
    )


def fill_the_gap() -> Task:
    """24 letters of Shakespeare, the twelfth of which is a blank -> that letter."""

    def examples(ids: Tensor, number: int, generator: torch.Generator) -> Examples:
        source = bottleneck.sample_snippets(ids, number, 24, generator).cpu() + FIRST
        target = source[:, 11:12].clone()
        source[:, 11] = BLANK
        return _on_device(source, target)

    return _letters_task(examples, 24, 1)


def write_on() -> Task:
    """24 letters of Shakespeare -> the eight that follow."""

    def examples(ids: Tensor, number: int, generator: torch.Generator) -> Examples:
        text = bottleneck.sample_snippets(ids, number, 32, generator) + FIRST
        return Examples(text[:, :24], text[:, 24:])

    return _letters_task(examples, 24, 8)


def translate() -> Task:
    """The name of an emoji in German -> in English, held-out combinations: chapter 6's."""
    split, tokenizer = emoji_task()

    def rows(texts: list[str]) -> Tensor:
        ids = [torch.tensor(tokenizer.encode(text)) + FIRST for text in texts]
        ended = [F.pad(row, (0, 1), value=END) for row in ids]
        return pad_sequence(ended, batch_first=True, padding_value=PAD)

    def examples(pairs: list) -> Examples:
        return _on_device(
            rows([pair.source for pair in pairs]), rows([pair.target for pair in pairs])
        )

    every = [*split.train, *split.test]
    longest = [
        max(len(tokenizer.encode(getattr(pair, side))) + 1 for pair in every)
        for side in ("source", "target")
    ]
    names = tuple(tokenizer.tokens(range(tokenizer.vocab_size)))
    return Task(
        FIRST + len(names),
        *longest,
        _from_list(split.train, examples),
        examples(split.test),
        names,
    )


TASKS: dict[str, Callable[[], Task]] = {
    "name the language": functools.cache(name_the_language),
    "fill the gap": functools.cache(fill_the_gap),
    "translate": functools.cache(translate),
    "write on": functools.cache(write_on),
}


def train(
    family: str, task: Task, seed: int = 0, steps: int = STEPS, *, progress: bool = True
) -> nn.Module:
    """A model of the family, trained on the task from scratch."""
    seed_everything(seed)
    model = FAMILIES[family](task)
    initialize(model)
    model.to(device())
    adam = torch.optim.AdamW(model.parameters(), 2e-3, betas=(0.9, 0.98))
    Trainer(
        model=model,
        optimizer=adam,
        batches=_Draws(task, seed),
        loss=_loss,
        scheduler=CosineWithWarmup(adam, min(50, steps // 4), steps, min_lr_ratio=0.0),
        progress=progress,
    ).run(num_steps=steps)
    return model


def initialize(model: nn.Module) -> None:
    """One rule for all families: their papers' own ones would be part of the comparison.

    Embeddings get the deviation d_model^-0.5 and matrices Glorot and Bengio's (2010),
    which suit narrow models; GPT's 0.02 is made for wide ones and learns slowly here.
    """
    for module in model.modules():
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=module.embedding_dim**-0.5)
        elif isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)


@torch.no_grad()
def measure(model: nn.Module, task: Task) -> Result:
    """On the held-out examples.

    A target that is right wherever the truth is fed is also what greedy writing gives,
    so that no text need be written to know the share of exact ones.
    """
    exact, nats, tokens = 0, 0.0, 0
    for source, target in zip(*(x.split(200) for x in task.test), strict=True):
        logits = model(source, target)
        real = target != PAD
        exact += ((logits.argmax(-1) == target) | ~real).all(dim=1).sum().item()
        nats += _nats(logits, target).item()
        tokens += real.sum().item()
    return Result(exact / len(task.test.target), nats / tokens / 0.6931472)


@torch.no_grad()
def bits_by_place(model: nn.Module, task: Task) -> list[float]:
    """Bits of the first target token, of the second, and so on, where no target is padded."""
    logits = model(*task.test).transpose(1, 2)  # (B, V, T)
    nats = F.cross_entropy(logits, task.test.target, reduction="none").mean(dim=0)
    return (nats / 0.6931472).tolist()


def stored_results() -> dict[str, dict[str, list[Result]]]:
    """Task -> family -> one result a seed, from ``families.csv``."""
    results = defaultdict(lambda: defaultdict(list))
    with _RESULTS.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(line for line in file if not line.startswith("#")):
            result = Result(float(row["exact"]), float(row["bits"]))
            results[row["task"]][row["family"]].append(result)
    return {task: dict(families) for task, families in results.items()}


def main() -> None:
    """Train every family on every task with three seeds and write ``families.csv``."""
    from datetime import date

    rows = []
    for name, make in TASKS.items():
        task = make()
        for family in FAMILIES:
            for seed in SEEDS:
                model = train(family, task, seed, progress=False)
                exact, bits = measure(model, task)
                rows.append([name, family, seed, f"{exact:.4f}", f"{bits:.4f}"])
                print(*rows[-1], flush=True)
    with _RESULTS.open("w", encoding="utf-8", newline="") as file:
        file.write(
            "# Exact targets and bits a token on held-out examples. Made by\n"
            f"# python -m companion.analysis.families: {STEPS} updates of {BATCH} "
            f"examples, seeds {SEEDS[0]}-{SEEDS[-1]},\n"
            f"# {device().type}, torch {torch.__version__}, {date.today()}\n"
        )
        table = csv.writer(file)
        table.writerow(["task", "family", "seed", "exact", "bits"])
        table.writerows(rows)


class _Draws:
    """An endless epoch of batches, the same ones for each family."""

    def __init__(self, task: Task, seed: int) -> None:
        self._task, self._seed = task, seed

    def __iter__(self) -> Iterator[Examples]:
        generator = torch.Generator().manual_seed(self._seed)
        while True:
            yield self._task.draw(BATCH, generator)


def _loss(model: nn.Module, batch: Examples) -> tuple[Tensor, Tensor]:
    return _nats(model(*batch), batch.target), (batch.target != PAD).sum()


def _nats(logits: Tensor, target: Tensor) -> Tensor:
    return F.cross_entropy(
        logits.flatten(0, 1), target.flatten(), ignore_index=PAD, reduction="sum"
    )


def _on_device(source: Tensor, target: Tensor) -> Examples:
    return Examples(source.to(device()), target.to(device()))


def _from_list(
    items: list, examples: Callable[[list], Examples]
) -> Callable[[int, torch.Generator], Examples]:
    """Draws from what is encoded once."""
    every = examples(items)

    def draw(number: int, generator: torch.Generator) -> Examples:
        chosen = torch.randint(len(items), (number,), generator=generator)
        source, target = (x[chosen.to(x.device)] for x in every)
        # Padding that no example of the batch needs would only cost time.
        return Examples(*(x[:, (x != PAD).any(dim=0)] for x in (source, target)))

    return draw


def _letters_task(
    examples: Callable[[Tensor, int, torch.Generator], Examples],
    max_source: int,
    max_target: int,
) -> Task:
    train_ids, test_ids = bottleneck.training_and_test_text()
    return Task(
        FIRST + len(bottleneck.LETTERS),
        max_source,
        max_target,
        lambda number, generator: examples(train_ids, number, generator),
        examples(test_ids, 1000, torch.Generator().manual_seed(0)),
        tuple(bottleneck.LETTERS),
    )


if __name__ == "__main__":
    main()
