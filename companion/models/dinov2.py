"""DINOv2: the backbone, a ViT with layer scale and, since 2024, registers.

Sources: Oquab et al. (2024), "DINOv2: Learning Robust Visual Features without
Supervision", section 4 and table 17 for the sizes; Darcet et al. (2024), "Vision
Transformers Need Registers", section 2.3.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from companion.layers import GatedFeedForward
from companion.models.hf import HFConfig, check_options, load_hf, read_hf
from companion.models.vit import SUPPORTED as VIT_SUPPORTED
from companion.models.vit import ViT, initialize, join_tokens, vit_options

# Table 17; patches of 14 pixels, images of 518 at the end of the training.
PRESETS: dict[str, dict[str, Any]] = {
    "S/14": {"d_model": 384, "num_heads": 6, "num_layers": 12},
    "B/14": {"d_model": 768, "num_heads": 12, "num_layers": 12},
    "L/14": {"d_model": 1024, "num_heads": 16, "num_layers": 24},
    "g/14": {"d_model": 1536, "num_heads": 24, "num_layers": 40, "gated": True},
}


class DINOv2(ViT):
    """A `ViT` with layer scale, registers, and a SwiGLU in place of the plain network.

    Registers are tokens without a place: they stand between [CLS] and the patches, have
    no position, and what they become at the end is thrown away. A head, if there is one,
    reads [CLS] beside the mean of the patches.

    Args:
        image_size, patch_size, in_channels: as in `ViT`.
        num_classes: logits of the head; None for no head.
        d_model, num_heads, num_layers: as in `ViT`.
        mlp_ratio: the inner width of the feed-forward networks in units of ``d_model``.
        num_registers: how many registers there are; the paper takes 4.
        gated: SwiGLU, of two thirds of that width, rounded up to a multiple of 8.
        layer_scale: the start of the factors of each sub-layer's output.
        antialias: whether positions are averaged where they are resized to a smaller
            grid. The authors do so in models with registers, and not without.
        drop_path: as in `ViT`, but the same in each layer.
        options: the other arguments of `ViT`.

    Raises:
        ValueError: as `ViT`; or ``num_registers`` is below 0.
    """

    def __init__(
        self,
        image_size: int | tuple[int, int] = 518,
        patch_size: int = 14,
        in_channels: int = 3,
        num_classes: int | None = None,
        d_model: int = 768,
        num_heads: int = 12,
        num_layers: int = 12,
        *,
        mlp_ratio: int = 4,
        num_registers: int = 0,
        gated: bool = False,
        layer_scale: float = 1e-5,
        antialias: bool | None = None,
        drop_path: float = 0.0,
        **options: Any,
    ) -> None:
        if num_registers < 0:
            raise ValueError(
                f"num_registers must be at least 0, but it is {num_registers}"
            )
        d_ff = int(d_model * mlp_ratio)
        super().__init__(
            image_size,
            patch_size,
            in_channels,
            None,
            d_model,
            num_heads,
            d_ff,
            num_layers,
            layer_scale=layer_scale,
            **options,
        )
        self.num_prefix = 1 + num_registers
        self.registers = None
        if num_registers:
            self.registers = nn.Parameter(torch.empty(num_registers, d_model))
            nn.init.normal_(self.registers, std=1e-6)
        self.positions.antialias = num_registers > 0 if antialias is None else antialias
        for layer in self.layers:
            layer.drop_path.probability = drop_path
            if gated:
                width = (int(d_ff * 2 / 3) + 7) // 8 * 8
                layer.feed_forward = GatedFeedForward(d_model, width, bias=True)
                layer.feed_forward.apply(initialize)
        if num_classes is not None:
            self.head = nn.Linear(2 * d_model, num_classes)
            initialize(self.head)

    @classmethod
    def preset(cls, name: str, **options: Any) -> DINOv2:
        """One of the sizes of the paper: ``DINOv2.preset("S/14")``; options replace arguments.

        Raises:
            ValueError: there is no preset of that name.
        """
        if name not in PRESETS:
            raise ValueError(
                f"name must be one of {', '.join(PRESETS)}, but it is {name!r}"
            )
        return cls(**{**PRESETS[name], **options})

    def forward(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch *length outputs"]:
        """Logits of the classes; without a head, the last hidden states."""
        states = self.hidden_states(images)[-1]
        if self.head is None:
            return states
        patches = states[:, self.num_prefix :].mean(dim=1)
        return self.head(torch.cat([states[:, 0], patches], dim=-1))

    def embed(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch length d_model"]:
        """[CLS] and patches with their positions, and the registers between them."""
        x = super().embed(images)  # (B, 1 + N, D)
        if self.registers is None:
            return x
        registers = self.dropout(self.registers.expand(len(x), -1, -1))
        return torch.cat([x[:, :1], registers, x[:, 1:]], dim=1)  # (B, 1 + R + N, D)

    @classmethod
    def from_hf(cls, path_or_model: str | Path | nn.Module) -> DINOv2:
        """A DINOv2 with the weights of Hugging Face's, in evaluation mode.

        Args:
            path_or_model: a ``transformers`` ``Dinov2Model``, ``Dinov2WithRegistersModel``
                or one of the two with a classifier, or a local folder with
                ``config.json`` and ``model.safetensors``. The mask token, a part of the
                pre-training, is left out.

        Raises:
            TypeError, ValueError: not such a model or folder, an option that is not
                implemented, or weights that don't fit.
        """
        config, weights = read_hf(path_or_model)
        check_options(config, SUPPORTED, "DINOv2")
        classes = weights.get("classifier.weight")
        model = cls(
            **dinov2_options(config),
            num_classes=None if classes is None else len(classes),
        )
        load_hf(model, _split_gate(join_tokens(weights)), _RULES, _IGNORED)
        return model.eval()


def dinov2_options(config: HFConfig) -> dict[str, Any]:
    """What `DINOv2` must be given to be as the config of a checkpoint says, but for its head.

    Raises:
        ValueError: the patches are not square.
    """
    registers = config["model_type"] == "dinov2_with_registers"
    options = vit_options(HFConfig({"intermediate_size": 0, **config}))
    del options["d_ff"]
    return options | {
        "mlp_ratio": config["mlp_ratio"],
        "num_registers": config["num_register_tokens"] if registers else 0,
        "gated": config["use_swiglu_ffn"],
        "layer_scale": config["layerscale_value"],
        "antialias": registers,
        "drop_path": config["drop_path_rate"],
    }


def _split_gate(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Files keep the two matrices of a gated network as one, ``weights_in``, gate first."""
    found: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        if ".weights_in." in name:
            for part, half in zip(
                ("gate_proj", "up_proj"), tensor.chunk(2), strict=True
            ):
                found[name.replace("weights_in", part)] = half
        elif name.endswith("register_tokens"):
            found[name] = tensor[0]  # (1, R, D) -> (R, D)
        else:
            found[name] = tensor
    return found


# Hugging Face's names and ours; the second four are those of its files.
_BACKBONE = {
    "embeddings.prefix": "prefix",
    "embeddings.register_tokens": "registers",
    "embeddings.position_embeddings": "positions.table",
    "embeddings.patch_embeddings.projection.*": "patches.projection.*",
    "encoder.layer.*.norm1.*": "layers.*.norm1.*",
    "encoder.layer.*.attention.q_proj.*": "layers.*.self_attention.W_q.*",
    "encoder.layer.*.attention.k_proj.*": "layers.*.self_attention.W_k.*",
    "encoder.layer.*.attention.v_proj.*": "layers.*.self_attention.W_v.*",
    "encoder.layer.*.attention.o_proj.*": "layers.*.self_attention.W_o.*",
    "encoder.layer.*.attention.attention.query.*": "layers.*.self_attention.W_q.*",
    "encoder.layer.*.attention.attention.key.*": "layers.*.self_attention.W_k.*",
    "encoder.layer.*.attention.attention.value.*": "layers.*.self_attention.W_v.*",
    "encoder.layer.*.attention.output.dense.*": "layers.*.self_attention.W_o.*",
    "encoder.layer.*.layer_scale1.lambda1": "layers.*.scale1.gamma",
    "encoder.layer.*.norm2.*": "layers.*.norm2.*",
    "encoder.layer.*.mlp.fc1.*": "layers.*.feed_forward.W_1.*",
    "encoder.layer.*.mlp.fc2.*": "layers.*.feed_forward.W_2.*",
    "encoder.layer.*.mlp.gate_proj.*": "layers.*.feed_forward.W_1.*",
    "encoder.layer.*.mlp.up_proj.*": "layers.*.feed_forward.V.*",
    "encoder.layer.*.mlp.down_proj.*": "layers.*.feed_forward.W_2.*",
    "encoder.layer.*.mlp.weights_out.*": "layers.*.feed_forward.W_2.*",
    "encoder.layer.*.layer_scale2.lambda1": "layers.*.scale2.gamma",
    "layernorm.*": "norm.*",
}
# A model with a classifier puts its own name before the names of the rest.
_RULES = {
    **_BACKBONE,
    **{f"dinov2.{theirs}": ours for theirs, ours in _BACKBONE.items()},
    **{f"dinov2_with_registers.{theirs}": ours for theirs, ours in _BACKBONE.items()},
    "classifier.*": "head.*",
}
_IGNORED = (
    "embeddings.mask_token",
    "dinov2.embeddings.mask_token",
    "dinov2_with_registers.embeddings.mask_token",
)

# What `from_hf` implements.
SUPPORTED = VIT_SUPPORTED | {"model_type": ("dinov2", "dinov2_with_registers")}
