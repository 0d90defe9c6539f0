"""Can an efficient attention look something up that stands far away? Small models, trained.

The task is associative recall: ``facts`` positions of a sequence each hold a key and a
value, the others noise, and a block of questions in the middle asks for the values of
some keys. How far a fact is from its question is drawn log-uniformly: there are as many
facts 8 to 16 positions away as 64 to 128. Nothing encodes positions, so that a model
which may look everywhere has nothing else to learn than to look.

The results of three seeds are kept beside this file, in ``long_range.csv``. Made anew by

    python -m companion.analysis.long_range

which takes about six minutes on one core.

Sources: the task is a variant of that of Arora et al. (2024), "Zoology: Measuring and
Improving Recall in Efficient Language Models"; Tay et al. (2021), "Long Range Arena: A
Benchmark for Efficient Transformers", compares on larger ones.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from tqdm.auto import tqdm

from companion.layers import EncoderLayer, MultiHeadAttention
from companion.layers.efficient import (
    BigBirdAttention,
    ChunkedAttention,
    LinearAttention,
    LinformerAttention,
    PerformerAttention,
    SlidingWindowAttention,
)
from companion.runtime import device, seed_everything

KEYS, VALUES, NOISE = 8, 16, 32  # how many there are of each
FACTS, QUESTIONS = 4, 4  # in a sequence
LENGTH = 512  # trained on
LONG = 2048  # read as well
WINDOW = 32
D_MODEL, HEADS, LAYERS = 64, 2, 2
STEPS, BATCH = 160, 8
DISTANCES = (4, 8, 16, 32, 64, 128, 256, 512)  # each up to the next


@dataclass(frozen=True)
class Recall:
    """A batch of the task, on the book's device.

    Attributes:
        key: the key at each position, ``KEYS`` where there is none.
        value: its value, ``VALUES`` where there is none, ``VALUES + 1`` at a question.
        noise: what stands where there is no key, ``NOISE`` where there is one.
        answers: the value for each question, in order.
        distance: positions between each question and its fact.
    """

    key: Int[Tensor, "batch length"]
    value: Int[Tensor, "batch length"]
    noise: Int[Tensor, "batch length"]
    answers: Int[Tensor, "batch questions"]
    distance: Int[Tensor, "batch questions"]


def questions_at(length: int) -> slice:
    """Where the questions stand: in the middle."""
    start = (length - QUESTIONS) // 2
    return slice(start, start + QUESTIONS)


def draw_recall(
    batch: int, length: int, generator: torch.Generator, facts: int = FACTS
) -> Recall:
    """Draw sequences. Each question asks for another fact, if there are enough of them."""
    asked = questions_at(length)
    position = torch.arange(length)
    away = (position - (asked.start + asked.stop - 1) / 2).abs()
    likely = torch.where(away > QUESTIONS / 2, 1 / away, 0.0)  # log-uniform
    place = torch.multinomial(likely.expand(batch, -1), facts, generator=generator)
    keys = torch.rand(batch, KEYS, generator=generator).argsort(dim=1)[:, :facts]
    values = torch.randint(VALUES, (batch, facts), generator=generator)
    noise = torch.randint(NOISE, (batch, length), generator=generator)
    noise.scatter_(1, place, NOISE)
    noise[:, asked] = NOISE
    which = torch.rand(batch, max(facts, QUESTIONS), generator=generator).argsort(dim=1)
    which = which[:, :QUESTIONS] % facts
    key = torch.full((batch, length), KEYS).scatter_(1, place, keys)
    key[:, asked] = keys.gather(1, which)
    value = torch.full((batch, length), VALUES).scatter_(1, place, values)
    value[:, asked] = VALUES + 1
    distance = (place.gather(1, which) - position[asked]).abs()
    parts = (key, value, noise, values.gather(1, which), distance)
    return Recall(*(part.to(device()) for part in parts))


class _QuestionsGlobal(SlidingWindowAttention):
    """A window, and global attention for the questions, as Longformer gives it to them."""

    def attend(self, query, key, value, mask=None, *, is_causal=False) -> Tensor:
        batch, _, length, _ = query.shape
        is_global = torch.zeros(batch, length, dtype=torch.bool, device=query.device)
        is_global[:, questions_at(length)] = True
        return super().attend(
            query, key, value, mask, is_causal=is_causal, global_mask=is_global
        )


_SIZES = (D_MODEL, HEADS)
METHODS: dict[str, Callable[[], MultiHeadAttention]] = {
    "full": lambda: MultiHeadAttention(*_SIZES),
    "window": lambda: SlidingWindowAttention(*_SIZES, WINDOW),
    "window, first token global": lambda: SlidingWindowAttention(
        *_SIZES, WINDOW, num_global=1
    ),
    "window, questions global": lambda: _QuestionsGlobal(*_SIZES, WINDOW),
    "BigBird": lambda: BigBirdAttention(*_SIZES, WINDOW // 2, 3),
    "chunked": lambda: ChunkedAttention(*_SIZES),
    "Linformer": lambda: LinformerAttention(*_SIZES, LENGTH, 64),
    "Performer": lambda: PerformerAttention(*_SIZES, 128),
    "linear": lambda: LinearAttention(*_SIZES),
}
LAYER_SEEDS = 7  # BigBird's layers draw other random blocks each


class Reader(nn.Module):
    """Pre-norm encoder layers with an attention of one's choice, read at the questions.

    Args:
        method: one of `METHODS`.
        layers: how many layers.
    """

    def __init__(self, method: str, layers: int = LAYERS) -> None:
        super().__init__()
        if method not in METHODS:
            raise ValueError(
                f"method must be one of {', '.join(METHODS)}, but it is {method!r}"
            )
        self.key = nn.Embedding(KEYS + 1, D_MODEL)
        self.value = nn.Embedding(VALUES + 2, D_MODEL)
        self.noise = nn.Embedding(NOISE + 1, D_MODEL)
        self.layers = nn.ModuleList()
        for number in range(layers):
            layer = EncoderLayer(*_SIZES, 2 * D_MODEL, dropout=0.0, norm_first=True)
            attention = METHODS[method]()
            # Like finds like from the start: it saves most of the steps that a model
            # needs until it has found out that comparing keys is worth it.
            attention.W_k.load_state_dict(attention.W_q.state_dict())
            if isinstance(attention, BigBirdAttention):
                attention.seed = LAYER_SEEDS + number
            layer.self_attention = attention
            self.layers.append(layer)
        self.norm = nn.LayerNorm(D_MODEL)
        self.output = nn.Linear(D_MODEL, VALUES)

    def forward(self, recall: Recall) -> Float[Tensor, "batch questions values"]:
        """Logits of the values, at each question."""
        x = self.key(recall.key) + self.value(recall.value) + self.noise(recall.noise)
        for layer in self.layers:
            x = layer(x)
        return self.output(self.norm(x[:, questions_at(x.shape[1])]))


def train_reader(
    method: str,
    seed: int,
    *,
    steps: int = STEPS,
    length: int = LENGTH,
    layers: int = LAYERS,
    peak_lr: float = 1e-2,
) -> tuple[Reader, list[float]]:
    """A trained reader, and its loss at each step."""
    seed_everything(seed)
    reader = Reader(method, layers).to(device())
    draw = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(reader.parameters(), lr=peak_lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=peak_lr, total_steps=steps
    )
    losses = []
    for _ in tqdm(range(steps), leave=False):
        recall = draw_recall(BATCH, length, draw)
        logits = reader(recall).flatten(0, 1)
        loss = F.cross_entropy(logits, recall.answers.flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(reader.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return reader.eval(), losses


@torch.no_grad()
def recall_by_distance(
    reader: Reader, length: int = LENGTH, *, batches: int = 24
) -> dict[str, float]:
    """The share of questions answered right: ``"all"``, and from each of `DISTANCES` on.

    On sequences of which none was trained on; chance is 1 / ``VALUES``. A distance at
    which no question was asked is left out.
    """
    draw = torch.Generator().manual_seed(1_000_000)  # no seed of a training
    right, distance = [], []
    for _ in range(batches):
        recall = draw_recall(BATCH, length, draw)
        right.append(reader(recall).argmax(dim=-1) == recall.answers)
        distance.append(recall.distance)
    right, distance = torch.cat(right).float(), torch.cat(distance)
    found = {"all": right.mean().item()}
    for low, high in zip(DISTANCES, (*DISTANCES[1:], length), strict=True):
        there = (distance >= low) & (distance < high)
        if there.any():
            found[str(low)] = right[there].mean().item()
    return found


_RESULTS = Path(__file__).with_suffix(".csv")


def stored_results() -> Mapping[tuple[str, int], list[dict[str, float]]]:
    """(method, length) -> one dict a seed, as `recall_by_distance` gives it."""
    rows: dict[tuple[str, int], list[dict[str, float]]] = defaultdict(list)
    with _RESULTS.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(line for line in file if not line.startswith("#")):
            shares = {
                name: float(row[name])
                for name in ("all", *map(str, DISTANCES))
                if row[name]
            }
            rows[row["method"], int(row["length"])].append(shares)
    return dict(rows)


def main() -> None:
    """Train each method with three seeds and write ``long_range.csv``."""
    from datetime import date

    names = ("all", *map(str, DISTANCES))
    with _RESULTS.open("w", encoding="utf-8", newline="") as file:
        file.write(
            "# Share of questions answered right, at all and by distance (from it up to the\n"
            "# next). Made by python -m companion.analysis.long_range: trained at length\n"
            f"# {LENGTH}, {STEPS} steps, batch {BATCH}, seeds 0-2, one thread,\n"
            f"# {device().type}, torch {torch.__version__}, {date.today()}\n"
        )
        table = csv.writer(file)
        table.writerow(["method", "seed", "length", *names])
        for seed in range(3):
            for method in METHODS:
                reader, _ = train_reader(method, seed)
                for length in (LENGTH, LONG):
                    if method == "Linformer" and length > LENGTH:
                        continue  # its projections have no column for those positions
                    batches = 24 if length == LENGTH else 6
                    shares = recall_by_distance(reader, length, batches=batches)
                    row = [f"{shares[n]:.3f}" if n in shares else "" for n in names]
                    table.writerow([method, seed, length, *row])
                    file.flush()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
