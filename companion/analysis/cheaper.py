"""What adapters, 8 bits and experts give and cost, on models small enough to train here.

The long runs are kept beside this file, in ``cheaper_lora.csv``, ``cheaper_bits.csv`` and
``cheaper_moe.csv``. Made anew by

    python -m companion.analysis.cheaper lora
    python -m companion.analysis.cheaper bits
    python -m companion.analysis.cheaper moe

which take about eight, two and six minutes on one core.
"""

from __future__ import annotations

import argparse
import copy
import csv
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from tqdm.auto import tqdm

from companion.data.assets import fetch
from companion.data.texts import movie_snippets, shakespeare
from companion.data.tokenizers import TextTokenizer, load_tokenizer
from companion.layers import GatedFeedForward
from companion.layers.lora import add_lora
from companion.layers.mixture import (
    MixtureOfExperts,
    load_balancing_loss,
    record_routing,
)
from companion.layers.quantization import Int8Linear, quantize_, quantize_blocks
from companion.models.bert import BERT
from companion.models.decoder_only import DecoderOnlyTransformer
from companion.runtime import device, seed_everything

_LORA = Path(__file__).with_name("cheaper_lora.csv")
_BITS = Path(__file__).with_name("cheaper_bits.csv")
_MOE = Path(__file__).with_name("cheaper_moe.csv")

# Adapters: movie reviews

LONGEST = 24  # tokens of a snippet; longer ones are left out, to be quick
TRAIN, TEST = 800, 500
ADAPTED = ("W_q", "W_k", "W_v", "W_o", "W_1", "W_2")  # every matrix of a layer

Snippet = tuple[str, int]  # text, and 1 for a positive one


class SentimentModel(nn.Module):
    """MiniLM, the mean over its tokens' states, and a linear head of two logits."""

    def __init__(self, encoder: BERT, d_model: int = 384) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(d_model, 2)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def embed(
        self, token_ids: Int[Tensor, "batch length"], mask: Bool[Tensor, "..."]
    ) -> Float[Tensor, "batch d_model"]:
        """The mean over real tokens, scaled to length 10 (1 would make a slow head)."""
        states = self.encoder(token_ids, mask)  # (B, L, D)
        real = mask[:, 0, 0, :, None].to(states.dtype)  # (B, L, 1)
        return 10 * F.normalize((states * real).sum(dim=1), dim=-1)

    def forward(
        self, token_ids: Int[Tensor, "batch length"], mask: Bool[Tensor, "..."]
    ) -> Float[Tensor, "batch 2"]:
        return self.head(self.embed(token_ids, mask))


def sentiment_data(
    tokenizer: TextTokenizer, train: int = TRAIN, test: int = TEST
) -> tuple[list[Snippet], list[Snippet]]:
    """Short movie snippets with the sign of their score, in a fixed random order."""
    snippets = [(text, int(score > 0)) for text, score in movie_snippets() if score]
    order = torch.randperm(len(snippets), generator=torch.Generator().manual_seed(0))
    chosen: list[Snippet] = []
    for i in order.tolist():
        if len(tokenizer.encode(snippets[i][0])) <= LONGEST:
            chosen.append(snippets[i])
            if len(chosen) == train + test:
                break
    return chosen[test:], chosen[:test]


def new_sentiment_model() -> SentimentModel:
    """MiniLM's own weights under a head that knows nothing yet."""
    return SentimentModel(BERT.from_hf(fetch("minilm"))).to(device())


def fit_head(
    model: SentimentModel,
    features: Float[Tensor, "texts d_model"],
    labels: Int[Tensor, " texts"],
    penalty: float = 0.03,
) -> None:
    """Logistic regression of the head on fixed features: nothing else is trained.

    The penalty on squared weights is the one that does best on the *test* snippets, so
    that this baseline is as good as it can be.
    """
    head = model.head
    optimizer = torch.optim.LBFGS(
        head.parameters(), max_iter=200, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = F.cross_entropy(head(features), labels)
        value = value + penalty * head.weight.square().sum()
        value.backward()
        return value

    optimizer.step(loss)


def prepare(model: SentimentModel, method: str, *, seed: int = 0) -> None:
    """Choose what is trained beside the head: ``"full"`` is all, a number adapters of that rank."""
    seed_everything(seed)
    if method == "full":
        model.requires_grad_(True)
    else:
        add_lora(model, int(method), ADAPTED, alpha=2 * int(method))
    model.head.requires_grad_(True)


def trained_parameters(model: nn.Module) -> int:
    """How many numbers the optimizer moves. AdamW keeps 8 bytes for each in float32."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


RATES = {"full": 1e-4}  # and with adapters
ADAPTER_RATE = 1e-3


def train_sentiment(
    model: SentimentModel,
    tokenizer: TextTokenizer,
    data: Sequence[Snippet],
    *,
    rate: float,
    epochs: int = 2,
    batch: int = 32,
    seed: int = 0,
) -> list[float]:
    """Train what is not frozen with AdamW, and return the loss of each step."""
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=rate, weight_decay=0.01)
    steps = epochs * (len(data) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=rate, total_steps=steps, pct_start=0.2
    )
    draw = torch.Generator().manual_seed(seed)
    losses = []
    model.train()
    with tqdm(total=steps, leave=False) as bar:
        for _ in range(epochs):
            order = torch.randperm(len(data), generator=draw).tolist()
            for start in range(0, len(data) - batch + 1, batch):
                chosen = [data[i] for i in order[start : start + batch]]
                loss = F.cross_entropy(*_logits(model, tokenizer, chosen))
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(trained, 1.0)
                optimizer.step()
                schedule.step()
                losses.append(loss.item())
                bar.update()
    model.eval()
    return losses


@torch.no_grad()
def sentiment_accuracy(
    model: SentimentModel, tokenizer: TextTokenizer, data: Sequence[Snippet]
) -> float:
    """The share of snippets whose sign is right."""
    model.eval()
    right = 0
    ordered = sorted(data, key=lambda snippet: len(snippet[0]))  # little padding
    for start in range(0, len(ordered), 50):
        logits, labels = _logits(model, tokenizer, ordered[start : start + 50])
        right += int((logits.argmax(dim=-1) == labels).sum())
    return right / len(data)


def _logits(
    model: SentimentModel, tokenizer: TextTokenizer, data: Sequence[Snippet]
) -> tuple[Tensor, Tensor]:
    batch = tokenizer.batch([text for text, _ in data]).to(device())
    return model(batch.token_ids, batch.mask), labels_of(data)


def labels_of(data: Sequence[Snippet]) -> Int[Tensor, " texts"]:
    """1 for each positive snippet, 0 for each negative one."""
    return torch.tensor([label for _, label in data], device=device())


@torch.no_grad()
def embeddings(
    model: SentimentModel, tokenizer: TextTokenizer, data: Sequence[Snippet]
) -> Float[Tensor, "texts d_model"]:
    """One vector a text, as the head sees it."""
    model.eval()
    parts = []
    for start in range(0, len(data), 50):
        texts = [text for text, _ in data[start : start + 50]]
        batch = tokenizer.batch(texts).to(device())
        parts.append(model.embed(batch.token_ids, batch.mask))
    return torch.cat(parts)


# Fewer bits: what is left of a model

WAYS: dict[str, Callable[[nn.Module], None]] = {
    "as it is": lambda model: None,
    "8 bits, one scale": partial(quantize_, per_row=False, skip=("output_projection",)),
    "8 bits, a scale a row": partial(quantize_, skip=("output_projection",)),
    "and 8-bit inputs": partial(
        quantize_, layer=Int8Linear, skip=("output_projection",)
    ),
    "outliers kept apart": partial(
        quantize_, layer=Int8Linear, threshold=6.0, skip=("output_projection",)
    ),
    "4 bits, blocks of 32": lambda model: round_to_blocks(model),
}


def round_to_blocks(model: nn.Module) -> None:
    """Round the weights of all linear layers but the output to 4 bits, in place."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and name != "output_projection":
            with torch.no_grad():
                module.weight.copy_(quantize_blocks(module.weight))


def linear_bytes(model: nn.Module, way: str) -> float:
    """Bytes of the weights of the linear layers, had they been stored in that way."""
    numbers = rows = 0
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and name != "output_projection":
            numbers, rows = numbers + module.weight.numel(), rows + len(module.weight)
    if way == "as it is":
        return 4 * numbers
    return 5 / 8 * numbers if way.startswith("4 bits") else numbers + 4 * rows


@torch.no_grad()
def input_maxima(
    model: nn.Module, run: Callable[[], object]
) -> dict[str, Float[Tensor, " features"]]:
    """The largest absolute value of each feature of each linear layer's input in ``run``."""
    found: dict[str, Tensor] = {}

    def look(name: str, inputs: tuple[Tensor, ...]) -> None:
        largest = inputs[0].abs().flatten(end_dim=-2).amax(dim=0)
        found[name] = torch.maximum(found.get(name, largest), largest)

    hooks = [
        module.register_forward_pre_hook(lambda _, x, name=name: look(name, x))
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
    ]
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    return found


# Experts: Shakespeare, letter by letter

WIDTH, HEADS, LAYERS, CONTEXT = 64, 4, 2, 64
EXPERTS, TOP_K, EXPERT_WIDTH = 8, 2, 96
STEPS, BATCH, RATE = 1000, 8, 4e-3
MODELS = {  # name -> kind of feed-forward network, weight of the balancing loss
    "8 experts, balanced": ("experts", 0.01),
    "8 experts": ("experts", 0.0),
    "dense, equal active": ("active", 0.0),
    "dense, equal total": ("total", 0.0),
}


@dataclass(frozen=True)
class Letters:
    """Shakespeare as numbers: the first nine tenths to train on, the rest to test on."""

    train: Int[Tensor, " characters"]
    test: Int[Tensor, " characters"]
    alphabet: str

    @classmethod
    def load(cls) -> Letters:
        """All of Shakespeare's works."""
        text = shakespeare()
        alphabet = "".join(sorted(set(text)))
        number = {letter: i for i, letter in enumerate(alphabet)}
        ids = torch.tensor([number[letter] for letter in text])
        cut = len(ids) * 9 // 10
        return cls(ids[:cut], ids[cut:], alphabet)


def new_language_model(kind: str, vocab_size: int, seed: int) -> DecoderOnlyTransformer:
    """A small GPT with gated feed-forward networks, or mixtures of them.

    Args:
        kind: ``"experts"``; ``"active"``, one network of the width of a token's experts
            together; or ``"total"``, one of the width of all experts together.
        vocab_size: number of letters.
        seed: of the weights.
    """
    seed_everything(seed)
    model = DecoderOnlyTransformer(
        vocab_size, WIDTH, HEADS, WIDTH, LAYERS, CONTEXT, dropout=0.0
    )
    widths = {"active": TOP_K * EXPERT_WIDTH, "total": EXPERTS * EXPERT_WIDTH}
    for layer in model.layers:
        if kind == "experts":
            network = MixtureOfExperts(WIDTH, EXPERT_WIDTH, EXPERTS, TOP_K)
        else:
            network = GatedFeedForward(WIDTH, widths[kind])
        layer.feed_forward = network
    return model.to(device())


def active_parameters(model: nn.Module) -> int:
    """How many parameters a token meets, in a mixture its own experts' only."""
    idle = 0
    for mixture in model.modules():
        if isinstance(mixture, MixtureOfExperts):
            expert = sum(p.numel() for p in mixture.experts[0].parameters())
            idle += (len(mixture.experts) - mixture.top_k) * expert
    return sum(p.numel() for p in model.parameters()) - idle


def train_language_model(
    model: DecoderOnlyTransformer,
    letters: Letters,
    *,
    balance: float = 0.0,
    steps: int = STEPS,
    seed: int = 0,
) -> list[float]:
    """Train on random stretches of text, and return the loss of each step, in bits.

    Args:
        model: with or without experts.
        letters: the text.
        balance: weight of the balancing loss, which the losses returned leave out.
        steps: number of updates.
        seed: of the stretches.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=RATE, total_steps=steps, pct_start=0.1
    )
    losses = []
    model.train()
    for text in tqdm(_stretches(letters.train, steps, seed), total=steps, leave=False):
        if balance:
            with record_routing(model) as routings:
                loss = next_letter_loss(model, text)
            total = loss + balance * load_balancing_loss(routings)
        else:
            total = loss = next_letter_loss(model, text)
        optimizer.zero_grad()
        total.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item() / math.log(2))
    model.eval()
    return losses


def next_letter_loss(
    model: DecoderOnlyTransformer, text: Int[Tensor, "batch length"]
) -> Float[Tensor, ""]:
    """The mean loss of each letter after the first, in nats."""
    logits = model(text[:, :-1])  # (B, L - 1, letters)
    return F.cross_entropy(logits.flatten(0, 1), text[:, 1:].flatten())


@torch.no_grad()
def bits_per_letter(model: DecoderOnlyTransformer, letters: Letters) -> float:
    """The loss on the same 400 stretches of the test text, in bits."""
    model.eval()
    losses = [
        next_letter_loss(model, text) for text in _stretches(letters.test, 50, seed=1)
    ]
    return torch.stack(losses).mean().item() / math.log(2)


@torch.no_grad()
def expert_usage(
    model: DecoderOnlyTransformer, letters: Letters
) -> Float[Tensor, "layers experts"]:
    """The share of the choices that went to each expert, on test text."""
    model.eval()
    usages = []
    for text in _stretches(letters.test, 16, seed=1):
        with record_routing(model) as routings:
            model(text[:, :-1])
        usages.append(torch.stack([r.usage() for r in routings]))
    return torch.stack(usages).mean(dim=0)


def used_experts(usage: Float[Tensor, "layers experts"]) -> Float[Tensor, " layers"]:
    """e to the entropy of each row: the number of experts if all were used alike."""
    return torch.special.entr(usage).sum(dim=-1).exp()


def _stretches(ids: Tensor, number: int, seed: int) -> Iterator[Tensor]:
    draw = torch.Generator().manual_seed(seed)
    for _ in range(number):
        start = torch.randint(len(ids) - CONTEXT - 1, (BATCH, 1), generator=draw)
        yield ids[start + torch.arange(CONTEXT + 1)].to(device())


# The tables

METHODS = ("1", "4", "16", "full")


def lora_table() -> list[dict[str, str]]:
    """The rows of ``cheaper_lora.csv``."""
    return _read(_LORA)


def bits_table() -> list[dict[str, str]]:
    """The rows of ``cheaper_bits.csv``."""
    return _read(_BITS)


def moe_table() -> list[dict[str, str]]:
    """The rows of ``cheaper_moe.csv``."""
    return _read(_MOE)


def _read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(line for line in file if not line.startswith("#")))


def _write(
    path: Path, about: str, columns: Sequence[str], rows: Iterator[Sequence[object]]
) -> None:
    from datetime import date

    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(
            f"{about}# {device().type}, torch {torch.__version__}, {date.today()}\n"
        )
        table = csv.writer(file)
        table.writerow(columns)
        for row in rows:
            table.writerow(row)
            file.flush()
            print(*row, flush=True)


def frozen_row(
    tokenizer: TextTokenizer, train: Sequence[Snippet], test: Sequence[Snippet]
) -> tuple[int, float, float]:
    """Trained numbers, training loss and test accuracy of a head on MiniLM as it is."""
    model = new_sentiment_model()
    model.encoder.requires_grad_(False)
    features, labels = embeddings(model, tokenizer, train), labels_of(train)
    fit_head(model, features, labels)
    loss = F.cross_entropy(model.head(features), labels).item()
    accuracy = sentiment_accuracy(model, tokenizer, test)
    return trained_parameters(model), loss, accuracy


def _lora_rows() -> Iterator[Sequence[object]]:
    tokenizer = load_tokenizer(fetch("minilm"))
    train, test = sentiment_data(tokenizer)
    count, loss, accuracy = frozen_row(tokenizer, train, test)
    yield "frozen", "", count, f"{loss:.3f}", f"{accuracy:.3f}"
    for seed in range(2):
        for method in METHODS:
            model = new_sentiment_model()
            prepare(model, method, seed=seed)
            rate = RATES.get(method, ADAPTER_RATE)
            losses = train_sentiment(model, tokenizer, train, rate=rate, seed=seed)
            accuracy = sentiment_accuracy(model, tokenizer, test)
            loss = sum(losses[-10:]) / 10
            count = trained_parameters(model)
            yield method, seed, count, f"{loss:.3f}", f"{accuracy:.3f}"


def _bits_rows() -> Iterator[Sequence[object]]:
    from companion.data.assets import fetch
    from companion.data.smollm2 import ChatTokenizer
    from companion.models.gguf import llama_from_gguf, read_gguf

    file = read_gguf(fetch("smollm2"))
    model, tokenizer = llama_from_gguf(file), ChatTokenizer(file.metadata)
    text = "\n".join(text for text, _ in movie_snippets()[:40])
    ids = torch.tensor([tokenizer.encode(text)[:401]])
    expected = None
    for way, change in WAYS.items():
        changed = copy.deepcopy(model)
        change(changed)
        with torch.no_grad():
            logits = changed(ids[:, :-1])[0]
        loss = F.cross_entropy(logits, ids[0, 1:]).item()
        best = logits.argmax(dim=-1)
        expected = best if expected is None else expected
        same = (best == expected).float().mean().item()
        megabytes = linear_bytes(model, way) / 1e6
        yield way, f"{loss:.3f}", f"{same:.3f}", f"{megabytes:.1f}"


def _moe_rows() -> Iterator[Sequence[object]]:
    import time

    letters = Letters.load()
    for seed in range(2):
        for name, (kind, balance) in MODELS.items():
            model = new_language_model(kind, len(letters.alphabet), seed)
            started = time.perf_counter()
            train_language_model(model, letters, balance=balance, seed=seed)
            milliseconds = 1000 * (time.perf_counter() - started) / STEPS
            used = ["", ""]
            if kind == "experts":
                used = [f"{u:.2f}" for u in used_experts(expert_usage(model, letters))]
            total = sum(p.numel() for p in model.parameters())
            bits = f"{bits_per_letter(model, letters):.3f}"
            active = active_parameters(model)
            yield name, seed, active, total, bits, *used, f"{milliseconds:.0f}"


def main() -> None:
    """Run one of the experiments and write its table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("experiment", choices=("lora", "bits", "moe"))
    runs: dict[str, Callable[[], None]] = {
        "lora": lambda: _write(
            _LORA,
            "# MiniLM on the sign of movie snippets: what is trained, and how well. Made\n"
            f"# by python -m companion.analysis.cheaper lora: {TRAIN} snippets, 2 epochs,\n"
            "# batch 32, seeds 0-1; loss is the mean of the last 10 steps, in nats,\n"
            f"# accuracy on {TEST} other snippets,\n",
            ["method", "seed", "trained", "loss", "accuracy"],
            _lora_rows(),
        ),
        "bits": lambda: _write(
            _BITS,
            "# SmolLM2-135M-Instruct with rounded linear layers on 400 tokens of movie\n"
            "# reviews: loss in nats a token, share of positions with the same likeliest\n"
            "# token, megabytes of the linear layers. Its weights came in 4 bits; they were\n"
            "# unpacked to float32 first. Made by\n"
            "# python -m companion.analysis.cheaper bits,\n",
            ["way", "loss", "same", "megabytes"],
            _bits_rows(),
        ),
        "moe": lambda: _write(
            _MOE,
            "# Small GPTs on Shakespeare's letters: test loss in bits a letter, and how many\n"
            "# experts of 8 are in use in each layer, e to the entropy of the usage. Made by\n"
            f"# python -m companion.analysis.cheaper moe: {STEPS} steps, batch {BATCH} x\n"
            f"# {CONTEXT}, seeds 0-1; milliseconds a step on one busy core,\n",
            [
                "model",
                "seed",
                "active",
                "total",
                "bits",
                "used_1",
                "used_2",
                "milliseconds",
            ],
            _moe_rows(),
        ),
    }
    runs[parser.parse_args().experiment]()


if __name__ == "__main__":
    main()
