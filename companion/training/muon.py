"""Muon for matrices, AdamW for all else, as one optimizer.

Source: Jordan et al. (2024), "Muon: An optimizer for hidden layers in neural networks".
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.optim import AdamW, Muon, Optimizer


class MuonAndAdamW(Optimizer):
    """Two of PyTorch's optimizers that step together.

    Muon takes the momentum of a matrix, brings all its singular values near 1, and steps
    along that: every direction in which the gradient agrees over time gets the same
    length, not only the largest few. It is for matrices that multiply hidden states.
    Embeddings, which are tables of rows, biases and norms stay with AdamW.

    Args:
        model: its parameters are shared out: the weights of `nn.Linear` inside of
            ``model.layers`` go to Muon.
        muon_lr: of Muon, in units of which a matrix moves by that much of its size.
        adamw_lr, betas, weight_decay: of AdamW.

    Raises:
        ValueError: the model has no ``layers`` with matrices in them.
    """

    def __init__(
        self,
        model: nn.Module,
        muon_lr: float = 0.02,
        adamw_lr: float = 3e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.1,
    ) -> None:
        matrices = [
            module.weight
            for module in getattr(model, "layers", nn.ModuleList()).modules()
            if isinstance(module, nn.Linear)
        ]
        if not matrices:
            raise ValueError(
                f"model must have layers with linear maps in them, but this "
                f"{type(model).__name__} has none"
            )
        chosen = {id(p) for p in matrices}
        others = [p for p in model.parameters() if id(p) not in chosen]
        self.muon = Muon(matrices, lr=muon_lr, weight_decay=0.0)
        self.adamw = AdamW(
            others, lr=adamw_lr, betas=betas, weight_decay=weight_decay, fused=True
        )
        super().__init__([{"params": [*matrices, *others]}], {})
        # The same dictionaries, so that a scheduler sets the rates of both.
        self.param_groups = [*self.muon.param_groups, *self.adamw.param_groups]

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """One update; ``closure`` is not supported."""
        if closure is not None:
            raise ValueError("closure must be None: it would be evaluated twice")
        self.muon.step()
        self.adamw.step()

    def state_dict(self) -> dict[str, Any]:
        """The states of both."""
        return {"muon": self.muon.state_dict(), "adamw": self.adamw.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what `state_dict` gave."""
        self.muon.load_state_dict(state_dict["muon"])
        self.adamw.load_state_dict(state_dict["adamw"])
        self.param_groups = [*self.muon.param_groups, *self.adamw.param_groups]
