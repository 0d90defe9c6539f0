"""Mistral: LLaMA that looks back a fixed number of tokens in each layer.

Source: Jiang et al. (2023), "Mistral 7B", section 2 and table 1.
"""

from __future__ import annotations

from typing import Any, ClassVar

from companion.models.hf import HFConfig
from companion.models.llama import LLaMA

# Table 1. The window is that of the paper; versions 0.2 and 0.3 of the weights have none.
PRESETS: dict[str, dict[str, Any]] = {
    "7b": {
        "vocab_size": 32000,
        "d_model": 4096,
        "num_heads": 32,
        "num_kv_heads": 8,
        "d_ff": 14336,
        "num_layers": 32,
        "max_seq_len": 32768,
        "window": 4096,
        "norm_eps": 1e-5,
    },
}


class Mistral(LLaMA):
    """A `LLaMA` whose layers see ``window`` positions: the own one and those before it.

    What a layer does not see may still arrive: each layer hands it on by up to
    ``window - 1`` positions, so that ``num_layers`` of them reach that many times as
    far. The key-value cache stops growing at the window.

    Takes what `LLaMA` takes.
    """

    presets: ClassVar[dict[str, dict[str, Any]]] = PRESETS

    @classmethod
    def _supported(cls) -> dict[str, tuple[Any, ...]]:
        # Ministral has windows in some layers only, and says so in layer_types.
        return LLaMA._supported() | {"model_type": ("mistral",), "layer_types": (None,)}

    @classmethod
    def _options(cls, config: HFConfig) -> dict[str, Any]:
        return LLaMA._options(config) | {"window": config.get("sliding_window")}
