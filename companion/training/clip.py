"""Training CLIP on pictures and their names: pairs, augmentation, and the paper's recipe made small.

Source: Radford et al. (2021), section 2.5 and table 18 for the optimizer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torch.optim import AdamW

from companion.data.bpe import BPETokenizer, train_bpe
from companion.data.openmoji import NamedPictures, words
from companion.models.clip import CLIP, CLIPText, CLIPVision
from companion.runtime import device
from companion.training.evaluation import Loss
from companion.training.loop import Row, Trainer
from companion.training.schedules import CosineWithWarmup

_EMPTY = {"and", "for", "the", "with", "without"}


def normalized(images: Float[Tensor, "*batch side side"]) -> Tensor:
    """Pixels from 0 to 1 as a model is given them: white, which most are, is about zero."""
    return (images - 0.9) / 0.25


class PictureBatch(NamedTuple):
    """Pictures and a caption of each."""

    images: Float[Tensor, "pairs 3 side side"]
    token_ids: Int[Tensor, "pairs length"]


class Captions:
    """Texts to token ids: ``<s> text </s>``, in lower case, padded at the end.

    Args:
        texts: to learn the vocabulary from: the captions of the training pictures.
        vocab_size: tokens to have; see `train_bpe`.
        max_seq_len: longer texts are cut; their last token is still ``</s>``.

    Attributes:
        tokenizer: what splits a text.
        eos_id, vocab_size, max_seq_len: what a text tower has to know.
    """

    def __init__(
        self, texts: Sequence[str], vocab_size: int = 1200, max_seq_len: int = 24
    ) -> None:
        lines = [" ".join(words(text)) for text in texts]
        self.tokenizer: BPETokenizer = train_bpe(lines, vocab_size)
        self.vocab_size = self.tokenizer.vocab_size
        self.eos_id = self.tokenizer.eos_id
        self.max_seq_len = max_seq_len

    def __call__(self, texts: Sequence[str]) -> Int[Tensor, "texts length"]:
        """The token ids of texts, as long as the longest of them.

        Raises:
            TypeError: ``texts`` is one string.
            ValueError: there is no text.
        """
        if isinstance(texts, str):
            raise TypeError("texts must be a sequence of texts, but it is one string")
        if not len(texts):
            raise ValueError("texts must hold at least one text, but it holds none")
        rows = [self._encode(text) for text in texts]
        return pad_sequence(rows, batch_first=True, padding_value=self.tokenizer.pad_id)

    def _encode(self, text: str) -> Int[Tensor, "length"]:
        ids = self.tokenizer.encode_target(" ".join(words(text)))
        if len(ids) > self.max_seq_len:
            ids = [*ids[: self.max_seq_len - 1], self.eos_id]
        return torch.tensor(ids)


class PairBatches:
    """All pairs once an epoch, in random batches, each time with another caption and view.

    What an epoch holds is a function of ``(seed, epoch)`` alone, so that a run that was
    stopped can go on.

    Args:
        pictures: to learn from.
        captions: turns texts into token ids, such as `Captions`.
        words_alone: how often a caption is replaced by one of its words, so that a text
            of one word is nothing new; never where it has no other.
        batch_size: pairs in a batch; what is left over at the end of an epoch is not used.
        augment: whether pictures are moved, turned and scaled a little. They are not
            mirrored: left and right are words. It makes learning slower.
        seed: of all that is random.

    Raises:
        ValueError: there are fewer pictures than a batch needs, or one for a batch.
    """

    def __init__(
        self,
        pictures: NamedPictures,
        captions: Callable[[Sequence[str]], Tensor],
        batch_size: int = 64,
        *,
        words_alone: float = 0.5,
        augment: bool = False,
        seed: int = 0,
    ) -> None:
        if not 2 <= batch_size <= len(pictures):
            raise ValueError(
                f"batch_size must be from 2 to {len(pictures)}, the number of pictures, "
                f"but it is {batch_size}"
            )
        self.pictures = pictures
        self.batch_size = batch_size
        self.augment = augment
        self.seed = seed
        self.epoch = 0
        self.words_alone = words_alone
        whole = pictures.captions
        self._whole = _Table(whole, captions)
        self._words = _Table([_content(texts) or texts for texts in whole], captions)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that iterating gives."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.pictures) // self.batch_size

    def __iter__(self) -> Iterator[PictureBatch]:
        rng = np.random.default_rng((self.seed, self.epoch))
        order = rng.permutation(len(self.pictures))
        for b in range(len(self)):
            rows = order[b * self.batch_size : (b + 1) * self.batch_size]
            table = np.where(rng.random(len(rows)) < self.words_alone, 1, 0)
            token_ids = [
                (self._whole, self._words)[which].draw(row, rng)
                for which, row in zip(table, rows, strict=True)
            ]
            images = self.pictures.images[torch.from_numpy(rows)]
            if self.augment:
                images = _another_view(images, int(rng.integers(2**31)))
            yield PictureBatch(
                normalized(images),
                pad_sequence(token_ids, batch_first=True, padding_value=0),
            )


class _Table:
    """The tokens of several texts for each picture."""

    def __init__(
        self,
        texts: Sequence[Sequence[str]],
        captions: Callable[[Sequence[str]], Tensor],
    ) -> None:
        self._tokens = captions([text for some in texts for text in some])
        # Picture i has the texts from _first[i] to before _first[i + 1].
        self._first = np.cumsum([0, *map(len, texts)])

    def draw(self, row: int, rng: np.random.Generator) -> Int[Tensor, "length"]:
        return self._tokens[rng.integers(self._first[row], self._first[row + 1])]


def _content(captions: Sequence[str]) -> list[str]:
    """The words of captions that say something."""
    found = dict.fromkeys(word for text in captions for word in words(text))
    return [word for word in found if len(word) > 2 and word not in _EMPTY]


def small_clip(
    captions: Captions,
    side: int = 32,
    patch_size: int = 8,
    d_model: int = 64,
    num_heads: int = 4,
    vision_layers: int = 3,
    text_layers: int = 1,
    *,
    temperature: float = 0.07,
    dropout: float = 0.0,
) -> CLIP:
    """A CLIP of 300,000 parameters, for pictures of ``side`` pixels."""
    vision = CLIPVision(
        side, patch_size, 3, d_model, num_heads, vision_layers, dropout=dropout
    )
    text = CLIPText(
        captions.vocab_size,
        d_model,
        num_heads,
        text_layers,
        captions.max_seq_len,
        eos_id=captions.eos_id,
        dropout=dropout,
    )
    return CLIP(vision, text, d_model, temperature=temperature)


def train_clip(
    model: CLIP,
    batches: PairBatches,
    num_steps: int,
    *,
    lr: float = 1.5e-3,
    warmup_steps: int = 20,
    weight_decay: float = 0.2,
    learn_temperature: bool = True,
    loss: Loss | None = None,
    **options: Any,
) -> list[Row]:
    """Train with the paper's optimizer: AdamW, decay of matrices only, a cosine.

    Args:
        model: it is moved to `companion.device()` and left in evaluation mode.
        batches: pairs.
        num_steps: number of updates.
        lr: the peak of the learning rate.
        warmup_steps: updates until that peak, at most a tenth of all.
        weight_decay: of matrices; gains, biases and the temperature have none.
        learn_temperature: False leaves it as it is.
        loss: by default `pair_loss`.
        options: of `Trainer`.

    Returns:
        The history, a row for each update: see `Trainer`; ``temperature`` is that after
        the update.
    """
    model = model.to(device())
    model.logit_scale.requires_grad_(learn_temperature)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = AdamW(
        [
            {"params": [p for p in trained if p.ndim > 1]},
            {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
        ],
        lr=lr,
        betas=(0.9, 0.98),
        eps=1e-6,
        weight_decay=weight_decay,
    )
    temperatures: list[float] = []

    def after_update(*_: Any) -> None:
        model.clamp_temperature()
        temperatures.append(model.temperature)

    optimizer.register_step_post_hook(after_update)
    trainer = Trainer(
        model=model,
        optimizer=optimizer,
        batches=batches,
        loss=loss or pair_loss,
        scheduler=CosineWithWarmup(
            optimizer, min(warmup_steps, num_steps // 10), num_steps
        ),
        **options,
    )
    history = trainer.run(num_steps=num_steps)
    for row, temperature in zip(
        history[-len(temperatures) :], temperatures, strict=True
    ):
        row["temperature"] = temperature
    return history


def pair_loss(model: nn.Module, batch: PictureBatch) -> tuple[Tensor, int]:
    """The contrastive loss, summed over the pairs, and their number."""
    images, token_ids = batch
    return model.loss(images, token_ids) * len(images), len(images)


def _another_view(images: Tensor, seed: int) -> Tensor:
    """Each picture moved by up to a tenth of its side, turned by 12 degrees, scaled by 15 %."""
    from kornia.geometry.transform import get_rotation_matrix2d, warp_affine

    n, side = len(images), images.shape[-1]
    draw = torch.Generator().manual_seed(seed)
    turn, grow, *move = (2 * torch.rand(4, n, generator=draw) - 1).unbind()
    middle = torch.full((n, 2), (side - 1) / 2)
    scale = (1 + 0.15 * grow)[:, None].expand(n, 2)
    matrix = get_rotation_matrix2d(middle, 12 * turn, scale)  # (B, 2, 3)
    matrix[:, :, 2] += torch.stack(move, dim=1) * side / 10
    ink = warp_affine(1 - images, matrix, (side, side))  # what comes in is white
    return 1 - ink
