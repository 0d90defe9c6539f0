"""The simpler simple recurrent unit, in place of a decoder's self-attention.

Source: Kim et al. (2019), "From Research to Production and Back: Ludicrously Fast
Neural Machine Translation"; after the SRU of Lei et al. (2018).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from companion.layers.cache import KeyValueCache


class SSRU(nn.Module):
    """Keep a part of what was, take a part of what is new: no position looks back.

        f_t = sigmoid(x_t W_f + b_f)
        c_t = f_t * c_{t-1} + (1 - f_t) * (x_t W)
        output_t = relu(c_t)

    The matrix products see only ``x_t``, so that all positions have theirs at once;
    what is left to do in order is elementwise. A step costs the same at each position,
    where attention's grows with the text.

    Args:
        d_model: width of input, state and output.
    """

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.W = nn.Linear(d_model, d_model, bias=False)
        self.W_f = nn.Linear(d_model, d_model)

    def forward(
        self,
        x: Float[Tensor, "batch length d_model"],
        *,
        cache: KeyValueCache | None = None,
    ) -> Float[Tensor, "batch length d_model"]:
        """Run over ``x``; with a cache, go on after the positions that it holds.

        One state is all that a recurrence needs. The cache keeps that of every position
        nevertheless, in place of the keys, so that written tokens can be taken back.
        """
        new, forget = self.W(x), torch.sigmoid(self.W_f(x))  # (B, L, D)
        state = self._last_state(new, cache)  # (B, D)
        states = []
        for t in range(x.shape[1]):
            state = forget[:, t] * state + (1 - forget[:, t]) * new[:, t]
            states.append(state)
        c = torch.stack(states, dim=1)  # (B, L, D)
        if cache is not None:
            cache.extend(self, c[:, None], c[:, None, :, :0])  # (B, 1, L, D), no values
        return c.relu()

    def _last_state(
        self, new: Tensor, cache: KeyValueCache | None
    ) -> Float[Tensor, "batch d_model"]:
        if cache is None or cache.length_of(self) == 0:
            return torch.zeros_like(new[:, 0])
        none = new[:, None, :0]  # (B, 1, 0, D): to add nothing gives what is kept
        kept, _ = cache.extend(self, none, none[..., :0])
        return kept[:, 0, -1]
