"""Which language is this? An encoder that reads letters, and linear models beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from tqdm.auto import tqdm

from companion.data.languages import LANGUAGES, LabelledText
from companion.layers import padding_mask, record_attention
from companion.models.transformer import TransformerEncoder
from companion.runtime import device, seed_everything

PAD_ID, UNKNOWN_ID = 0, 1
MAX_LETTERS = 80
CODES = tuple(LANGUAGES)


class Letters:
    """Letters as numbers: those of the training texts, from 2 on."""

    def __init__(self, texts: Sequence[LabelledText]) -> None:
        letters = sorted({letter for item in texts for letter in item.text})
        self.ids = {letter: i + 2 for i, letter in enumerate(letters)}

    def __len__(self) -> int:
        """The size of the vocabulary, with padding and the unknown letter."""
        return len(self.ids) + 2

    def encode(self, texts: Sequence[str]) -> Int[Tensor, "batch length"]:
        """One row of letter numbers a text, padded at the end, on the book's device."""
        rows = [
            torch.tensor([self.ids.get(x, UNKNOWN_ID) for x in text[:MAX_LETTERS]])
            for text in texts
        ]
        return pad_sequence(rows, batch_first=True, padding_value=PAD_ID).to(device())


class LanguageClassifier(nn.Module):
    """Letters -> `TransformerEncoder` -> mean over the letters -> a score for each language.

    Args:
        vocab_size: number of letters.
        num_layers, norm_first, d_model, num_heads, dropout: of the encoder, whose
            ``d_ff`` is ``4 * d_model``.
        positions: False leaves the encoder without them.
    """

    def __init__(
        self,
        vocab_size: int,
        num_layers: int = 2,
        *,
        norm_first: bool = True,
        positions: bool = True,
        d_model: int = 64,
        num_heads: int = 4,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.encoder = TransformerEncoder(
            vocab_size,
            d_model,
            num_heads,
            4 * d_model,
            num_layers,
            MAX_LETTERS,
            dropout,
            norm_first=norm_first,
        )
        if not positions:
            remove_positions(self.encoder)
        self.output = nn.Linear(d_model, len(CODES))
        for name, p in self.named_parameters():
            if p.ndim > 1 and "embedding" not in name:
                nn.init.xavier_uniform_(p)

    def forward(
        self, letter_ids: Int[Tensor, "batch length"]
    ) -> Float[Tensor, "batch languages"]:
        x = self.encoder(letter_ids, padding_mask(letter_ids, PAD_ID))
        real = (letter_ids != PAD_ID)[..., None]  # (B, L, 1)
        return self.output((x * real).sum(dim=1) / real.sum(dim=1))


class _NoPositions(nn.Module):
    def forward(self, x: Tensor, offset: int = 0) -> Tensor:
        return x


def remove_positions(encoder: TransformerEncoder) -> TransformerEncoder:
    """Take the positions out of ``encoder``, for good, and return it."""
    encoder.embedding.positions = _NoPositions()
    return encoder


def labels(texts: Sequence[LabelledText]) -> Int[Tensor, "texts"]:
    """The number of each text's language in ``CODES``."""
    return torch.tensor([CODES.index(item.language) for item in texts]).to(device())


def new_classifier(letters: Letters, seed: int = 0, **options) -> LanguageClassifier:
    """An untrained classifier on the book's device; options as `LanguageClassifier`'s."""
    seed_everything(seed)
    return LanguageClassifier(len(letters), **options).to(device())


def train_classifier(
    model: LanguageClassifier,
    letters: Letters,
    texts: Sequence[LabelledText],
    *,
    steps: int = 1000,
    batch: int = 64,
    peak_lr: float = 3e-3,
    warmup: float = 0.1,
    seed: int = 0,
) -> list[float]:
    """Train by AdamW with a warm-up and a linear decay; return each step's loss.

    Args:
        model, letters, texts: what to train, and on what.
        steps: number of updates.
        batch: texts in an update, of similar length.
        peak_lr: the highest learning rate.
        warmup: share of the steps in which it rises; 0 starts with the highest.
        seed: of the batches.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=peak_lr)
    batches = _batches(texts, batch, seed)
    losses = []
    model.train()
    for step in tqdm(range(1, steps + 1), leave=False):
        rate = min(1.0, step / (warmup * steps)) if warmup else 1.0
        rate = min(rate, (steps - step + 1) / ((1 - warmup) * steps))
        for group in optimizer.param_groups:
            group["lr"] = peak_lr * rate
        items = next(batches)
        logits = model(letters.encode([item.text for item in items]))
        loss = F.cross_entropy(logits, labels(items))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    model.eval()
    return losses


@torch.no_grad()
def predict(
    model: LanguageClassifier, letters: Letters, texts: Sequence[str]
) -> Float[Tensor, "texts languages"]:
    """The probability of each language, for each text."""
    model.eval()
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    found = torch.empty(len(texts), len(CODES))
    for start in range(0, len(order), 256):
        rows = order[start : start + 256]
        logits = model(letters.encode([texts[i] for i in rows]))
        found[rows] = logits.softmax(dim=-1).cpu()
    return found


def accuracy(
    model: LanguageClassifier, letters: Letters, texts: Sequence[LabelledText]
) -> float:
    """The share of texts whose language gets the highest score."""
    found = predict(model, letters, [item.text for item in texts]).argmax(dim=-1)
    return (found == labels(texts).cpu()).float().mean().item()


@torch.no_grad()
def attention_by_offset(
    model: LanguageClassifier,
    letters: Letters,
    texts: Sequence[str],
    offsets: Sequence[int],
) -> Float[Tensor, "layers heads offsets"]:
    """The mean weight of a key by its place relative to the query.

    The mean is over all pairs of letters of a text that are so far apart: an offset of -1
    is the letter before.
    """
    ids = letters.encode(texts)
    model.eval()
    with record_attention(model) as maps:
        model(ids)
    weights = maps.stack()  # (layers, B, H, L, L)
    real = ids != PAD_ID
    pairs = real[:, :, None] & real[:, None, :]  # (B, L, L)
    means = []
    for offset in offsets:
        there = pairs.diagonal(offset, dim1=-2, dim2=-1)[:, None]  # (B, 1, pairs)
        along = weights.diagonal(offset, dim1=-2, dim2=-1) * there
        means.append(along.sum(dim=(1, 3)) / there.sum())
    return torch.stack(means, dim=-1)


@torch.no_grad()
def attention_by_letter(
    model: LanguageClassifier, letters: Letters, texts: Sequence[str]
) -> Float[Tensor, "layers heads letters"]:
    """How many times its fair share a letter gets as a key, mean over where it stands.

    The fair share of a key in a text of ``n`` letters is ``1 / n``. Letters that the texts
    don't hold get 0.
    """
    ids = letters.encode(texts)
    model.eval()
    with record_attention(model) as maps:
        model(ids)
    real = ids != PAD_ID  # (B, L)
    queries = real[:, None, :, None]
    received = (maps.stack() * queries).sum(dim=-2)  # (layers, B, H, keys)
    kind = F.one_hot(ids, len(letters)) * real[..., None]  # (B, keys, letters)
    total = torch.einsum("nbhk,bkv->nhv", received, kind.to(received.dtype))
    return total / kind.sum(dim=(0, 1)).clamp(min=1)


def ngram_accuracy(
    train: Sequence[LabelledText], test: Sequence[LabelledText], longest: int
) -> float:
    """Accuracy of logistic regression on the counts of up to ``longest`` letters in a row.

    Counts are weighted by tf-idf. This is the baseline of the field.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    model = make_pipeline(
        TfidfVectorizer(
            analyzer="char_wb", ngram_range=(1, longest), sublinear_tf=True
        ),
        LogisticRegression(C=10, solver="saga", tol=1e-2, max_iter=50, random_state=0),
    )
    model.fit([item.text for item in train], [item.language for item in train])
    return model.score([item.text for item in test], [item.language for item in test])


def _batches(
    texts: Sequence[LabelledText], size: int, seed: int
) -> Iterator[list[LabelledText]]:
    """Batches without end, each of texts of similar length, so that little is padding."""
    draw = torch.Generator().manual_seed(seed)
    while True:
        order = torch.randperm(len(texts), generator=draw).tolist()
        span = 16 * size  # sorted within a span, the spans stay random
        batches = []
        for start in range(0, len(order) - size, span):
            rows = sorted(order[start : start + span], key=lambda i: len(texts[i].text))
            batches += [rows[i : i + size] for i in range(0, len(rows), size)]
        for i in torch.randperm(len(batches), generator=draw).tolist():
            yield [texts[j] for j in batches[i]]
