"""Swin: attention within windows that shift from layer to layer, and grids that shrink.

Source: Liu et al. (2021), "Swin Transformer: Hierarchical Vision Transformer using Shifted
Windows", sections 3.1 to 3.3, equations 1 to 4, figure 3; section 3.3 for the sizes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from companion.layers import EncoderLayer
from companion.layers.feed_forward import ACTIVATIONS
from companion.layers.patches import PatchEmbedding, PatchPositions
from companion.layers.windows import (
    WindowRelativeBias,
    shifted_window_mask,
    window_partition,
    window_reverse,
)
from companion.models.hf import HFConfig, check_options, load_hf, read_hf

# Section 3.3. A head is 32 wide everywhere.
PRESETS: dict[str, dict[str, Any]] = {
    "tiny": {"d_model": 96, "depths": (2, 2, 6, 2), "num_heads": (3, 6, 12, 24)},
    "small": {"d_model": 96, "depths": (2, 2, 18, 2), "num_heads": (3, 6, 12, 24)},
    "base": {"d_model": 128, "depths": (2, 2, 18, 2), "num_heads": (4, 8, 16, 32)},
    "large": {"d_model": 192, "depths": (2, 2, 18, 2), "num_heads": (6, 12, 24, 48)},
}


class SwinBlock(EncoderLayer):
    """A pre-norm encoder layer whose tokens stand on a grid and attend in windows (equation 3).

    A grid that the windows don't fit is padded below and on the right with zeros, which
    are attended to like tokens and cut off again: so do the authors and Hugging Face. In a
    grid no larger than a window, the window is as large as its shorter side and not shifted.

    Args:
        d_model, num_heads, d_ff, dropout: as in `EncoderLayer`.
        window: side of a window, in tokens.
        shift: by how many tokens the windows are moved down and right.
        relative_bias: whether the scores get a learned bias for each offset (equation 4).
        options: more of `EncoderLayer`.
    """

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        d_ff: int,
        window: int,
        shift: int = 0,
        dropout: float = 0.0,
        *,
        relative_bias: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(
            d_model,
            num_heads,
            d_ff,
            dropout,
            norm_first=True,
            hidden_dropout=0.0,
            **options,
        )
        self.window = window
        self.shift = shift
        self.bias = WindowRelativeBias(num_heads, window) if relative_bias else None

    def forward(
        self, x: Float[Tensor, "batch height width d_model"]
    ) -> Float[Tensor, "batch height width d_model"]:
        x = x + self._attend_in_windows(self.norm1(x))
        return x + self._feed(self.norm2(x))

    def _attend_in_windows(self, x: Tensor) -> Tensor:
        batch, height, width, _ = x.shape
        window, shift = self.window, self.shift
        if min(height, width) <= window:
            window, shift = min(height, width), 0
        x = F.pad(x, (0, 0, 0, -width % window, 0, -height % window))
        grid = x.shape[1:3]
        x = x.roll((-shift, -shift), dims=(1, 2))
        mask = None
        if shift:
            mask = shifted_window_mask(*grid, window, shift, device=x.device)
            mask = mask.repeat(batch, 1, 1, 1)  # (B * windows, 1, M^2, M^2)
        x, _ = self.self_attention(
            window_partition(x, window),  # (B * windows, M^2, D)
            mask=mask,
            bias=None if self.bias is None else self.bias(window),
            need_weights=False,
        )
        x = window_reverse(x, window, *grid).roll((shift, shift), dims=(1, 2))
        x = x[:, :height, :width]
        return self.drop_path(self.scale1(self.dropout(x)))

    def extra_repr(self) -> str:
        return f"window={self.window}, shift={self.shift}"


class PatchMerging(nn.Module):
    """Four neighbors become one token, twice as wide (section 3.1).

    A grid with an odd side gets a row or column of zeros.

    Args:
        d_model: width of the tokens that come in.
    """

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * d_model)
        self.reduction = nn.Linear(4 * d_model, 2 * d_model, bias=False)

    def forward(
        self, x: Float[Tensor, "batch height width d_model"]
    ) -> Float[Tensor, "batch half_height half_width double"]:
        height, width = x.shape[1:3]
        x = F.pad(x, (0, 0, 0, width % 2, 0, height % 2))
        # The order in which the authors concatenate: down first, then right.
        corners = [x[:, row::2, col::2] for col in (0, 1) for row in (0, 1)]
        return self.reduction(self.norm(torch.cat(corners, dim=-1)))


class SwinStage(nn.Module):
    """Blocks on one grid, every second one shifted, and patch merging behind them.

    Args:
        blocks: of one width.
        merging: None in the last stage.
    """

    def __init__(
        self, blocks: Sequence[SwinBlock], merging: PatchMerging | None
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.merging = merging

    def forward(
        self, x: Float[Tensor, "batch height width d_model"]
    ) -> tuple[Float[Tensor, "batch height width d_model"], Float[Tensor, "..."]]:
        """What the blocks make of ``x``, and what the next stage reads."""
        for block in self.blocks:
            x = block(x)
        return x, x if self.merging is None else self.merging(x)


class Swin(nn.Module):
    """Small patches, stages of windowed blocks with patch merging between them, mean, head.

    Images may have any size. Where patches, windows or merging don't fit it, zeros are
    added below and on the right.

    Args:
        image_size: height and width of the training images in pixels, or one number for
            both; only absolute positions depend on it.
        patch_size: side of a patch in pixels.
        in_channels: of the images.
        num_classes: logits of the head; None for no head.
        d_model: width of the first stage. Each stage doubles it.
        num_heads: attention heads in each stage.
        depths: number of blocks in each stage.
        window: side of a window, in tokens of each stage.
        mlp_ratio: inner width of the feed-forward networks, in widths of the stage.
        dropout: in training, of the embeddings and of each sub-layer's output.
        attention_dropout: of the attention weights.
        activation: of the feed-forward networks.
        layer_norm_eps: what the norms in the blocks and the last one add to the variance;
            those of the embedding and of the merging add 1e-5.
        qkv_bias: whether queries, keys and values have biases.
        drop_path: stochastic depth, rising from zero at the first block to this at the last.
        absolute_positions: whether each patch's place adds a learned vector as well.
        shift: False leaves all windows where they are, as in the paper's ablation.
        relative_bias: False leaves the relative bias out, as in the paper's ablation.

    Raises:
        ValueError: the sizes don't fit each other.
    """

    def __init__(
        self,
        image_size: int | tuple[int, int] = 224,
        patch_size: int = 4,
        in_channels: int = 3,
        num_classes: int | None = 1000,
        d_model: int = 96,
        num_heads: Sequence[int] = (3, 6, 12, 24),
        depths: Sequence[int] = (2, 2, 6, 2),
        window: int = 7,
        mlp_ratio: float = 4.0,
        dropout: float = 0.0,
        *,
        attention_dropout: float = 0.0,
        activation: str = "gelu",
        layer_norm_eps: float = 1e-5,
        qkv_bias: bool = True,
        drop_path: float = 0.0,
        absolute_positions: bool = False,
        shift: bool = True,
        relative_bias: bool = True,
    ) -> None:
        super().__init__()
        if len(num_heads) != len(depths) or not depths or min(depths) < 1:
            raise ValueError(
                "num_heads and depths must have one number of at least 1 for each stage, "
                f"but they are {tuple(num_heads)} and {tuple(depths)}"
            )
        self.patch_size = patch_size
        self.patches = PatchEmbedding(patch_size, in_channels, d_model)
        self.embedding_norm = nn.LayerNorm(d_model)
        self.positions = None
        if absolute_positions:
            sides = (image_size,) * 2 if isinstance(image_size, int) else image_size
            grid = tuple(side // patch_size for side in sides)
            self.positions = PatchPositions(grid, d_model, num_prefix=0)
        self.dropout = nn.Dropout(dropout)
        count = sum(depths)
        rates = iter([drop_path * block / max(count - 1, 1) for block in range(count)])

        def stage(number: int) -> SwinStage:
            width = d_model * 2**number
            blocks = [
                SwinBlock(
                    width,
                    num_heads[number],
                    int(mlp_ratio * width),
                    window,
                    window // 2 if shift and block % 2 else 0,
                    dropout,
                    relative_bias=relative_bias,
                    activation=activation,
                    layer_norm_eps=layer_norm_eps,
                    attention_dropout=attention_dropout,
                    qkv_bias=qkv_bias,
                    drop_path=next(rates),
                )
                for block in range(depths[number])
            ]
            is_last = number == len(depths) - 1
            return SwinStage(blocks, None if is_last else PatchMerging(width))

        self.stages = nn.ModuleList(stage(number) for number in range(len(depths)))
        self.d_model = d_model * 2 ** (len(depths) - 1)
        self.norm = nn.LayerNorm(self.d_model, eps=layer_norm_eps)
        self.head = (
            None if num_classes is None else nn.Linear(self.d_model, num_classes)
        )
        self.apply(_initialize)

    @classmethod
    def preset(cls, name: str, **options: Any) -> Swin:
        """One of the sizes of the paper: ``Swin.preset("tiny")``; options replace arguments.

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
    ) -> Float[Tensor, "batch *length d_out"]:
        """Logits of the classes; without a head, the last hidden states.

        Raises:
            TypeError, ValueError: images of another dtype or number of channels.
        """
        states = self.hidden_states(images)[-1]
        return states if self.head is None else self.head(states.mean(dim=1))

    def hidden_states(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> list[Float[Tensor, "batch length d_out"]]:
        """The embeddings, then what each stage hands on: ``stages + 1`` tensors, row by row.

        Each has a quarter of the tokens of the one before it and twice its width, but for
        the last, behind which nothing is merged, and which has gone through the last norm.
        """
        x = self.embed(images)
        states = [x]
        for stage in self.stages:
            _, x = stage(x)
            states.append(x)
        states[-1] = self.norm(x)
        return [state.flatten(1, 2) for state in states]

    def feature_maps(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> list[Float[Tensor, "batch d_out rows columns"]]:
        """The pyramid: what each stage's blocks make, before merging, as pictures.

        A detector reads all of them: the first are fine, the last know more of the image.
        """
        x, maps = self.embed(images), []
        for stage in self.stages:
            grid, x = stage(x)
            maps.append(grid.permute(0, 3, 1, 2))
        return maps

    def embed(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch rows columns d_model"]:
        """The grid of tokens that the first stage reads."""
        P = self.patch_size
        if images.ndim == 4:  # anything else is refused by the embedding
            height, width = images.shape[2:]
            images = F.pad(images, (0, -width % P, 0, -height % P))
        x = self.embedding_norm(self.patches(images))  # (B, N, D)
        grid = images.shape[2] // P, images.shape[3] // P
        if self.positions is not None:
            x = self.positions(x, grid)
        return self.dropout(x).unflatten(1, grid)

    def features(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch d_out"]:
        """One vector an image: what the head reads, the mean over the last grid."""
        return self.hidden_states(images)[-1].mean(dim=1)

    def loss(
        self,
        images: Float[Tensor, "batch channels height width"],
        labels: Int[Tensor, "batch"],
    ) -> Float[Tensor, ""]:
        """The mean cross-entropy of the head; a label of -100 is not counted.

        Raises:
            ValueError: there is no head.
        """
        if self.head is None:
            raise ValueError(
                "this model has no head: it was made with num_classes=None"
            )
        return F.cross_entropy(self(images), labels)

    @classmethod
    def from_hf(cls, path_or_model: str | Path | nn.Module) -> Swin:
        """A Swin with the weights of Hugging Face's, in evaluation mode.

        Args:
            path_or_model: a ``transformers`` ``SwinModel`` or
                ``SwinForImageClassification``, or a local folder with ``config.json`` and
                ``model.safetensors``.

        Raises:
            TypeError, ValueError: not such a model or folder, an option that is not
                implemented, or weights that don't fit.
        """
        config, weights = read_hf(path_or_model)
        check_options(config, SUPPORTED, "Swin")
        # Theirs has an axis of size 1 for the batch.
        weights = {
            name: tensor[0] if name.endswith("position_embeddings") else tensor
            for name, tensor in weights.items()
        }
        head = weights.get("classifier.weight")
        model = cls(**_options(config), num_classes=None if head is None else len(head))
        load_hf(model, weights, _RULES, _IGNORED)
        return model.eval()


def _initialize(module: nn.Module) -> None:
    """Cut normal weights with deviation 0.02, no biases, as in the authors' code."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _options(config: HFConfig) -> dict[str, Any]:
    sizes = {}
    for name in ("image_size", "patch_size"):
        size = config[name]
        sizes[name] = size if isinstance(size, int) else tuple(size)
    if isinstance(sizes["patch_size"], tuple):
        side, other = sizes["patch_size"]
        if side != other:
            raise ValueError(
                f"Swin implements square patches, but patch_size is {config['patch_size']}"
            )
        sizes["patch_size"] = side
    return sizes | {
        "in_channels": config["num_channels"],
        "d_model": config["embed_dim"],
        "num_heads": tuple(config["num_heads"]),
        "depths": tuple(config["depths"]),
        "window": config["window_size"],
        "mlp_ratio": config["mlp_ratio"],
        "dropout": config["hidden_dropout_prob"],
        "attention_dropout": config["attention_probs_dropout_prob"],
        "activation": config["hidden_act"],
        "layer_norm_eps": config["layer_norm_eps"],
        "qkv_bias": config["qkv_bias"],
        "drop_path": config["drop_path_rate"],
        "absolute_positions": config["use_absolute_embeddings"],
    }


# Hugging Face's names and ours: those of transformers 5, and those of its files on the hub.
_THEIRS, _OURS = "encoder.layers.*.blocks.*.", "stages.*.blocks.*."
_BLOCK_RULES = {
    "layernorm_before.*": "norm1.*",
    "layernorm_after.*": "norm2.*",
    "attention.q_proj.*": "self_attention.W_q.*",
    "attention.k_proj.*": "self_attention.W_k.*",
    "attention.v_proj.*": "self_attention.W_v.*",
    "attention.o_proj.*": "self_attention.W_o.*",
    "attention.relative_position_bias.relative_position_bias_table": "bias.table",
    "mlp.fc1.*": "feed_forward.W_1.*",
    "mlp.fc2.*": "feed_forward.W_2.*",
    "attention.self.query.*": "self_attention.W_q.*",
    "attention.self.key.*": "self_attention.W_k.*",
    "attention.self.value.*": "self_attention.W_v.*",
    "attention.output.dense.*": "self_attention.W_o.*",
    "attention.self.relative_position_bias_table": "bias.table",
    "intermediate.dense.*": "feed_forward.W_1.*",
    "output.dense.*": "feed_forward.W_2.*",
}
_MODEL_RULES = {
    "embeddings.patch_embeddings.projection.*": "patches.projection.*",
    "embeddings.norm.*": "embedding_norm.*",
    "embeddings.position_embeddings": "positions.table",
    "encoder.layers.*.downsample.norm.*": "stages.*.merging.norm.*",
    "encoder.layers.*.downsample.reduction.*": "stages.*.merging.reduction.*",
    "layernorm.*": "norm.*",
} | {_THEIRS + name: _OURS + ours for name, ours in _BLOCK_RULES.items()}
# Models that have a head put "swin." before the names of the rest.
_RULES = (
    {f"swin.{name}": ours for name, ours in _MODEL_RULES.items()}
    | _MODEL_RULES
    | {"classifier.*": "head.*"}
)
# Which row of the table belongs to which pair: nothing learned, stored by old versions.
_INDEX = _THEIRS + "attention.self.relative_position_index"
_IGNORED = (_INDEX, f"swin.{_INDEX}")

SUPPORTED = {
    "model_type": ("swin",),
    "hidden_act": tuple(ACTIVATIONS),
    "quantization_config": (None,),
}
