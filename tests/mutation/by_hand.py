"""Right answers written by hand, where there is a famous other way."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import companion


class Attend(nn.Module):
    """Attention by PyTorch's kernel, as a module."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor, *_: int) -> Tensor:
        return F.scaled_dot_product_attention(
            q[None, None], k[None, None], v[None, None]
        )[0, 0]


def attend_row_by_row(query: Tensor, key: Tensor, value: Tensor, *_: int) -> Tensor:
    rows = []
    for q in query:
        scores = torch.stack([torch.dot(q, k) for k in key]) / len(q) ** 0.5
        shares = (scores - scores.max()).exp()
        rows.append(
            sum(s * v for s, v in zip(shares / shares.sum(), value, strict=True))
        )
    return torch.stack(rows)


def lookup_in_a_loop(
    queries: Tensor, keys: Tensor, values: Tensor, width: float
) -> Tensor:
    rows = [torch.exp(-((q - keys) ** 2) / 2 / width**2) for q in queries]
    return torch.stack([(row * values).sum() / row.sum() for row in rows])


def softmax_by_logsumexp(scores: Tensor) -> Tensor:
    return (scores - scores.logsumexp(-1, keepdim=True)).exp()


def triangle(scores: Tensor) -> Tensor:
    seen = (scores - scores.amax(-1, keepdim=True)).exp().tril()
    return seen / seen.sum(-1, keepdim=True)


def masks_of_the_package(ids: Tensor, pad: int) -> Tensor:
    return companion.causal_mask(
        ids.shape[1], device=ids.device
    ) & companion.padding_mask(ids, pad)


def random_directions(length: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    key = torch.randn(length, 64, generator=generator)
    key = key / key.norm(dim=-1, keepdim=True)
    return 500 * key.roll(1, 0), key


def heads_one_by_one(x: Tensor, num_heads: int) -> Tensor:
    return torch.stack(x.chunk(num_heads, dim=-1), dim=1)


def heads_side_by_side(heads: Tensor) -> Tensor:
    return torch.cat(list(heads.unbind(1)), dim=-1)


def one_copy_a_head(x: Tensor, num_heads: int) -> Tensor:
    group = num_heads // x.shape[1]
    return torch.stack([x[:, head // group] for head in range(num_heads)], dim=1)


def sinusoids_one_by_one(length: int, d_model: int) -> Tensor:
    rows = []
    for position in range(length):
        row = []
        for i in range(0, d_model, 2):
            angle = position / 10000 ** (i / d_model)
            row += [math.sin(angle), math.cos(angle)]
        rows.append(row)
    return torch.tensor(rows)


def rotate_complex(x: Tensor, positions: Tensor, base: float) -> Tensor:
    pairs = torch.view_as_complex(x.unflatten(1, (-1, 2)).contiguous())
    rate = base ** (-2 * torch.arange(pairs.shape[1], device=x.device) / x.shape[1])
    angle = positions[:, None] * rate
    return torch.view_as_real(
        pairs * torch.polar(torch.ones_like(angle), angle)
    ).flatten(1)


def three_slices(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    width = weight.shape[0]
    q, k, v = (weight[:, i * width : (i + 1) * width] for i in range(3))
    return q.transpose(0, 1), k.transpose(0, 1), v.transpose(0, 1)


def middle_by_lists(
    token_ids: Tensor, start: int, stop: int, marks: tuple[int, int, int, int]
) -> Tensor:
    ids = token_ids.tolist()
    pre, suf, mid, end = marks
    return torch.tensor(
        [pre, *ids[:start], suf, *ids[stop:], mid, *ids[start:stop], end]
    )


def mask_by_bool(attention_mask: Tensor) -> Tensor:
    batch, length = attention_mask.shape
    return attention_mask.bool().view(batch, 1, 1, length)


def layer_norm_by_pytorch(
    x: Tensor, weight: Tensor, bias: Tensor, eps: float
) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], weight, bias, eps)


def rms_norm_by_pytorch(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return F.rms_norm(x, x.shape[-1:], weight, eps)


def loss_by_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100)


def clip_by_cross_entropy(logits: Tensor) -> Tensor:
    own = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


def patches_by_unfold(image: Tensor, size: int) -> Tensor:
    tiles = image.unfold(1, size, size).unfold(
        2, size, size
    )  # (C, rows, columns, s, s)
    return tiles.permute(1, 2, 3, 4, 0).flatten(2).flatten(0, 1)


def patches_one_by_one(grid: Tensor, window: int) -> Tensor:
    height, width, d_model = grid.shape
    return torch.stack(
        [
            grid[i : i + window, j : j + window].reshape(-1, d_model)
            for i in range(0, height, window)
            for j in range(0, width, window)
        ]
    )


def shifted_windows_by_mask(grid: Tensor, window: int, shift: int) -> Tensor:
    """Attention among all tokens of the grid, each seeing its own shifted window."""
    height, width, _ = grid.shape
    down = (torch.arange(height) - shift).div(window, rounding_mode="floor")
    right = (torch.arange(width) - shift).div(window, rounding_mode="floor")
    number = (down[:, None] * (width + 2) + right).flatten().to(grid.device)
    x = grid.flatten(0, 1)[None, None]
    mask = number[:, None] == number
    return F.scaled_dot_product_attention(x, x, x, attn_mask=mask)[0, 0].view_as(grid)


def shifted_windows_one_by_one(grid: Tensor, window: int, shift: int) -> Tensor:
    out = torch.empty_like(grid)
    starts = range(shift - window, max(grid.shape[:2]), window)
    for i in starts:
        for j in starts:
            tile = grid[max(i, 0) : i + window, max(j, 0) : j + window]
            if not tile.numel():
                continue
            x = tile.flatten(0, 1)
            weights = (x @ x.T / x.shape[1] ** 0.5).softmax(-1)
            out[max(i, 0) : i + window, max(j, 0) : j + window] = (weights @ x).view_as(
                tile
            )
    return out


def line_through_logs(sizes: list[float], losses: list[float]) -> tuple[float, float]:
    x = [math.log(n) for n in sizes]
    y = [math.log(loss) for loss in losses]
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    above = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
    exponent = -above / sum((a - mean_x) ** 2 for a in x)
    return exponent, math.exp((mean_y + exponent * mean_x) / exponent)


def rates_in_a_loop(
    shapes: Any, width: int, base_width: int, rate: float
) -> dict[str, float]:
    rates = {}
    for name in shapes:
        rates[name] = rate
        if len(shapes[name]) == 2 and not name.count("embedding"):
            rates[name] = rate / (width / base_width)
    return rates


def positions_one_by_one(table: Tensor, past: int, new: int) -> Tensor:
    return torch.stack([table[past + i] for i in range(new)])


def positions_by_narrow(table: Tensor, past: int, new: int) -> Tensor:
    return table.narrow(0, past, new)


def next_token_by_gather(logits: Tensor, token_ids: Tensor) -> Tensor:
    log_p = logits.log_softmax(-1)[:, :-1]
    return -log_p.gather(-1, token_ids[:, 1:, None]).mean()


BY_HAND: dict[str, dict[str, Callable[..., Any]]] = {
    "soft_lookup": {"loop": lookup_in_a_loop},
    "attend": {"module": Attend(), "row by row": attend_row_by_row, "class": Attend},
    "stable_softmax": {
        "PyTorch's": lambda scores: scores.softmax(-1),
        "logsumexp": softmax_by_logsumexp,
    },
    "causal_weights": {"triangle": triangle},
    "decoder_mask": {"the package": masks_of_the_package},
    "previous_token_head": {"random directions": random_directions},
    "streaming_attention": {"fused": Attend(), "row by row": attend_row_by_row},
    "split_heads": {"one by one": heads_one_by_one},
    "merge_heads": {"side by side": heads_side_by_side},
    "repeat_kv": {"one a head": one_copy_a_head},
    "sinusoids": {"one by one": sinusoids_one_by_one},
    "rotate": {"complex": rotate_complex},
    "split_conv1d": {"slices": three_slices},
    "middle_last": {"lists": middle_by_lists},
    "as_boolean_mask": {"bool": mask_by_bool},
    "layer_norm": {"PyTorch's": layer_norm_by_pytorch},
    "rms_norm": {"PyTorch's": rms_norm_by_pytorch},
    "masked_language_loss": {"cross entropy": loss_by_cross_entropy},
    "both_sides_loss": {"cross entropy": clip_by_cross_entropy},
    "cut_patches": {"unfold": patches_by_unfold},
    "cut_windows": {"one by one": patches_one_by_one},
    "attend_in_shifted_windows": {
        "by mask": shifted_windows_by_mask,
        "one by one": shifted_windows_one_by_one,
    },
    "positions_from": {
        "one by one": positions_one_by_one,
        "narrow": positions_by_narrow,
    },
    "next_token_loss": {"gather": next_token_by_gather},
    "power_law_fit": {"by hand": line_through_logs},
    "mup_rates": {"loop": rates_in_a_loop},
}
