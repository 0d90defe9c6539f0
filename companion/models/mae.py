"""MAE: hide most patches of an image, encode the few that are left, and paint the rest.

Source: He et al. (2022), "Masked Autoencoders Are Scalable Vision Learners", section 3;
section 4.1 and its table 1 for the decoder's size and the normalized target.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from companion.layers import EncoderLayer
from companion.layers.feed_forward import ACTIVATIONS
from companion.layers.patches import PatchPositions, grid_of, patchify, unpatchify
from companion.layers.positions import sinusoidal_grid
from companion.models.hf import HFConfig, check_options, load_hf, read_hf
from companion.models.vit import PRESETS as ENCODERS
from companion.models.vit import Pooling, ViT

# The encoders are those of ViT. The decoder is the same for all (section 4.1).
PRESETS = {
    name: ENCODERS[name]
    | {
        "decoder_d_model": 512,
        "decoder_num_heads": 16,
        "decoder_d_ff": 2048,
        "decoder_num_layers": 8,
    }
    for name in ("B/16", "L/16", "H/14")
}


@dataclass(frozen=True)
class Masking:
    """Which patches of each image are hidden, and the order in which they were shuffled.

    Attributes:
        hidden: True for a patch that is hidden, ``(batch, patches)``.
        keep: the numbers of the visible patches, in shuffled order, ``(batch, visible)``.
        restore: where each patch stands in the shuffled order: what undoes the shuffle,
            ``(batch, patches)``.
    """

    hidden: Bool[Tensor, "batch patches"]
    keep: Int[Tensor, "batch visible"]
    restore: Int[Tensor, "batch patches"]

    @classmethod
    def from_noise(
        cls, noise: Float[Tensor, "batch patches"], mask_ratio: float
    ) -> Masking:
        """Shuffle by sorting ``noise``, and hide all but the first of the order.

        Args:
            noise: a number for each patch. The ``int(patches * (1 - mask_ratio))``
                patches with the smallest numbers stay visible.
            mask_ratio: the share that is hidden, at least 0 and below 1.

        Raises:
            ValueError: the noise has no two axes, or the ratio is out of range.
        """
        _check_ratio(mask_ratio)
        return cls._by_order(noise, int(noise.shape[-1] * (1 - mask_ratio)))

    @classmethod
    def from_hidden(cls, hidden: Bool[Tensor, "batch patches"]) -> Masking:
        """Hide the patches that are marked, as many in each image.

        Raises:
            TypeError: ``hidden`` is not boolean.
            ValueError: it has no two axes, or marks more patches in one image than in
                another.
        """
        if hidden.dtype != torch.bool:
            raise TypeError(f"hidden must be boolean, but it is {hidden.dtype}")
        counts = hidden.sum(dim=-1).unique().tolist()
        if len(counts) > 1:
            raise ValueError(
                "hidden must mark as many patches in each image, but it marks from "
                f"{counts[0]} to {counts[-1]}"
            )
        visible = hidden.shape[-1] - (counts[0] if counts else 0)
        return cls._by_order(hidden.float(), visible)

    @classmethod
    def _by_order(cls, noise: Tensor, visible: int) -> Masking:
        if noise.ndim != 2:
            raise ValueError(
                "a masking is made from a tensor of shape (batch, patches), but it has "
                f"shape {tuple(noise.shape)}"
            )
        order = noise.argsort(dim=1, stable=True)  # of the shuffle: (B, N)
        restore = order.argsort(dim=1)  # its inverse
        return cls(restore >= visible, order[:, :visible], restore)


class MAEDecoder(nn.Module):
    """The light half: a mask token for each hidden patch, all tokens in order, their pixels.

    Args:
        encoder_width: of the tokens that come in.
        grid: how many patches there are from top to bottom and from left to right.
        values: numbers in a patch.
        d_model, num_heads, d_ff, num_layers: its own sizes.
        position_base: as for `MAE`.
        layer_options: for each `EncoderLayer`.
    """

    def __init__(
        self,
        encoder_width: int,
        grid: tuple[int, int],
        values: int,
        d_model: int,
        num_heads: int,
        d_ff: int,
        num_layers: int,
        position_base: float,
        **layer_options: Any,
    ) -> None:
        super().__init__()
        self.embedding = nn.Linear(encoder_width, d_model)
        self.mask_token = nn.Parameter(torch.empty(d_model).normal_(std=0.02))
        self.positions = fixed_positions(grid, d_model, position_base)
        self.layers = nn.ModuleList(
            EncoderLayer(d_model, num_heads, d_ff, norm_first=True, **layer_options)
            for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(d_model, eps=layer_options["layer_norm_eps"])
        self.prediction = nn.Linear(d_model, values)

    def forward(
        self,
        latent: Float[Tensor, "batch tokens encoder_width"],
        masking: Masking,
        grid: tuple[int, int],
    ) -> Float[Tensor, "batch patches values"]:
        """The predicted pixels of every patch, visible ones too."""
        states = self.hidden_states(latent, masking, grid)
        return self.prediction(states[-1][:, 1:])

    def hidden_states(
        self,
        latent: Float[Tensor, "batch tokens encoder_width"],
        masking: Masking,
        grid: tuple[int, int],
    ) -> list[Float[Tensor, "batch length d_model"]]:
        """What the first layer reads, then what each layer gives; the last one normed."""
        states = [self.embed(latent, masking, grid)]
        for layer in self.layers:
            states.append(layer(states[-1]))
        states[-1] = self.norm(states[-1])
        return states

    def embed(
        self,
        latent: Float[Tensor, "batch tokens encoder_width"],
        masking: Masking,
        grid: tuple[int, int],
    ) -> Float[Tensor, "batch length d_model"]:
        """Mask tokens join the visible ones, the shuffle is undone, positions are added."""
        x = self.embedding(latent)
        hidden = masking.restore.shape[1] - masking.keep.shape[1]
        x = torch.cat([x, self.mask_token.expand(len(x), hidden, -1)], dim=1)
        patches = _take(x[:, 1:], masking.restore)  # (B, N, D): in their places
        return self.positions(torch.cat([x[:, :1], patches], dim=1), grid)


class MAE(nn.Module):
    """A ViT that sees the visible patches only, and a smaller decoder that paints the others.

    Args:
        image_size: height and width in pixels, or one number for both.
        patch_size: side of a patch in pixels; it divides the image size.
        in_channels: of the images.
        d_model, num_heads, d_ff, num_layers: of the encoder.
        decoder_d_model, decoder_num_heads, decoder_d_ff, decoder_num_layers: of the
            decoder. Both widths are multiples of 4, for the positions.
        dropout: in training, of each sub-layer's output.
        mask_ratio: the share of the patches that is hidden.
        normalize_target: whether each patch that is to be predicted is brought to mean 0
            and variance 1 first (section 3, "Reconstruction target").
        attention_dropout: of the attention weights.
        activation: of the feed-forward networks.
        layer_norm_eps: what layer norm adds to the variance.
        qkv_bias: whether queries, keys and values have biases.
        position_base: of the positions, see `sinusoidal_grid`. A grid of few patches wants
            a small one: at 10000 most of the sines hardly move from edge to edge.
        with_decoder: False for the encoder alone, as it is used after training.

    Attributes:
        encoder: a `ViT` without a head. After training it is what is kept.

    Raises:
        ValueError: the sizes don't fit each other, or the ratio is not at least 0 and
            below 1.
    """

    def __init__(
        self,
        image_size: int | tuple[int, int] = 224,
        patch_size: int = 16,
        in_channels: int = 3,
        d_model: int = 768,
        num_heads: int = 12,
        d_ff: int = 3072,
        num_layers: int = 12,
        decoder_d_model: int = 512,
        decoder_num_heads: int = 16,
        decoder_d_ff: int = 2048,
        decoder_num_layers: int = 8,
        dropout: float = 0.0,
        *,
        mask_ratio: float = 0.75,
        normalize_target: bool = False,
        attention_dropout: float = 0.0,
        activation: str = "gelu",
        layer_norm_eps: float = 1e-6,
        qkv_bias: bool = True,
        position_base: float = 10000.0,
        with_decoder: bool = True,
    ) -> None:
        super().__init__()
        _check_ratio(mask_ratio)
        self.mask_ratio = mask_ratio
        self.normalize_target = normalize_target
        self.in_channels = in_channels
        self.patch_size = patch_size
        layer_options = {
            "dropout": dropout,
            "attention_dropout": attention_dropout,
            "activation": activation,
            "layer_norm_eps": layer_norm_eps,
            "qkv_bias": qkv_bias,
        }
        self.encoder = ViT(
            image_size,
            patch_size,
            in_channels,
            None,
            d_model,
            num_heads,
            d_ff,
            num_layers,
            **layer_options,
        )
        self.encoder.dropout = nn.Identity()  # none on the embeddings
        grid = self.encoder.positions.grid
        self.encoder.positions = fixed_positions(grid, d_model, position_base)
        self.decoder = None
        if with_decoder:
            self.decoder = MAEDecoder(
                d_model,
                grid,
                patch_size**2 * in_channels,
                decoder_d_model,
                decoder_num_heads,
                decoder_d_ff,
                decoder_num_layers,
                position_base,
                hidden_dropout=0.0,
                **layer_options,
            )
        self.apply(initialize)

    @classmethod
    def preset(cls, name: str, **options: Any) -> MAE:
        """One of the sizes of the paper: ``MAE.preset("B/16")``; options replace arguments.

        Raises:
            ValueError: there is no preset of that name.
        """
        if name not in PRESETS:
            raise ValueError(
                f"name must be one of {', '.join(PRESETS)}, but it is {name!r}"
            )
        patch_size = int(name.partition("/")[2])
        return cls(**{"patch_size": patch_size, **PRESETS[name], **options})

    def forward(
        self,
        images: Float[Tensor, "batch channels height width"],
        masking: Masking | None = None,
    ) -> Float[Tensor, "batch tokens values"]:
        """The predicted pixels of all patches, laid out as `patchify` does.

        With ``normalize_target`` they are those of normalized patches. Only where a patch
        was hidden have they been trained to mean anything. Without a decoder it is what
        `encode` gives.

        Args:
            images: as for `ViT`.
            masking: what is hidden; by default drawn anew by `draw_masking`.

        Raises:
            TypeError, ValueError: images that don't fit, or a masking of another number
                of images or patches.
        """
        masking = self.draw_masking(images) if masking is None else masking
        latent = self.encode(images, masking)
        if self.decoder is None:
            return latent
        return self.decoder(latent, masking, grid_of(images, self.patch_size))

    @property
    def layers(self) -> nn.ModuleList:
        """All encoder layers, then all decoder layers, as an optimizer wants them."""
        decoder = () if self.decoder is None else self.decoder.layers
        return nn.ModuleList([*self.encoder.layers, *decoder])

    def draw_masking(
        self,
        images: Float[Tensor, "batch channels height width"],
        noise: Float[Tensor, "batch patches"] | None = None,
    ) -> Masking:
        """What to hide: ``mask_ratio`` of the patches, by ``noise``, which is drawn where not given."""
        rows, columns = grid_of(images, self.patch_size)
        if noise is None:
            noise = torch.rand(len(images), rows * columns).to(images.device)
        return Masking.from_noise(noise, self.mask_ratio)

    def encode(
        self,
        images: Float[Tensor, "batch channels height width"],
        masking: Masking | None = None,
    ) -> Float[Tensor, "batch tokens d_model"]:
        """The last hidden states of [CLS] and of the visible patches, in shuffled order."""
        return self.hidden_states(images, masking)[-1]

    def hidden_states(
        self,
        images: Float[Tensor, "batch channels height width"],
        masking: Masking | None = None,
    ) -> list[Float[Tensor, "batch tokens d_model"]]:
        """The encoder's: ``num_layers + 1`` tensors. The decoder has its own method."""
        masking = self.draw_masking(images) if masking is None else masking
        # Every token has its position before any is taken away.
        x = self.encoder.embed(images)  # (B, 1 + N, D)
        if masking.hidden.shape != (x.shape[0], x.shape[1] - 1):
            raise ValueError(
                f"masking must be for {x.shape[0]} images of {x.shape[1] - 1} patches, "
                f"but it is for {tuple(masking.hidden.shape)}"
            )
        visible = _take(x[:, 1:], masking.keep)
        states = [torch.cat([x[:, :1], visible], dim=1)]  # (B, 1 + visible, D)
        for layer in self.encoder.layers:
            states.append(layer(states[-1]))
        states[-1] = self.encoder.norm(states[-1])
        return states

    def loss(
        self,
        images: Float[Tensor, "batch channels height width"],
        masking: Masking | None = None,
    ) -> Float[Tensor, ""]:
        """The mean squared error of the hidden pixels; visible ones don't count.

        Raises:
            ValueError: nothing is hidden, or there is no decoder.
        """
        masking = self.draw_masking(images) if masking is None else masking
        if not masking.restore.shape[1] > masking.keep.shape[1]:
            raise ValueError(
                "the masking hides no patch, so there is nothing to predict"
            )
        self._need_decoder()
        error = (self(images, masking) - self.target(images)).square().mean(dim=-1)
        return error[masking.hidden].mean()

    def target(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch patches values"]:
        """What is to be predicted: the pixels of each patch, normalized if asked for."""
        patches = patchify(images, self.patch_size)
        if not self.normalize_target:
            return patches
        mean, deviation = _mean_and_deviation(patches)
        return (patches - mean) / deviation

    def reconstruct(
        self,
        images: Float[Tensor, "batch channels height width"],
        masking: Masking | None = None,
    ) -> Float[Tensor, "batch channels height width"]:
        """The images, with the hidden patches painted by the model.

        A model of normalized patches predicts no mean and no deviation. They are taken
        from the image itself here, as in the paper's pictures, which is a help that the
        pixels of the model were not given.

        Raises:
            ValueError: there is no decoder.
        """
        self._need_decoder()
        masking = self.draw_masking(images) if masking is None else masking
        patches = patchify(images, self.patch_size)
        painted = self(images, masking)
        if self.normalize_target:
            mean, deviation = _mean_and_deviation(patches)
            painted = painted * deviation + mean
        patches = torch.where(masking.hidden[..., None], painted, patches)
        grid = grid_of(images, self.patch_size)
        return unpatchify(patches, grid, self.in_channels)

    @classmethod
    def from_hf(cls, path_or_model: str | Path | nn.Module) -> MAE:
        """An MAE with the weights of Hugging Face's, in evaluation mode.

        Args:
            path_or_model: a ``transformers`` ``ViTMAEForPreTraining`` or ``ViTMAEModel``,
                which has no decoder, or a local folder with ``config.json`` and
                ``model.safetensors``.

        Raises:
            TypeError, ValueError: not such a model or folder, an option that is not
                implemented, or weights that don't fit.
        """
        config, weights = read_hf(path_or_model)
        with_decoder = any(name.startswith("decoder.") for name in weights)
        model = cls(**mae_options(config), with_decoder=with_decoder)
        load_hf(model, _squeezed(weights), _RULES)
        return model.eval()

    def classifier(self, num_classes: int, pooling: Pooling = "mean") -> ViT:
        """A copy of the encoder with a new head, to be fine-tuned (section 4.2)."""
        model = copy.deepcopy(self.encoder)
        model.pooling = pooling
        model.head = nn.Linear(model.d_model, num_classes)
        nn.init.trunc_normal_(model.head.weight, std=0.02)
        nn.init.zeros_(model.head.bias)
        return model.to(self.encoder.prefix.device)

    def _need_decoder(self) -> None:
        if self.decoder is None:
            raise ValueError(
                "this MAE has no decoder, so it predicts no pixels: it was made with "
                "with_decoder=False, or from a ViTMAEModel"
            )


def fixed_positions(grid: tuple[int, int], d_model: int, base: float) -> PatchPositions:
    """Sines and cosines of row and column that no training changes; zero for [CLS]."""
    positions = PatchPositions(grid, d_model)
    positions.table.requires_grad_(False).copy_(
        sinusoidal_grid(grid, d_model, num_prefix=1, base=base)
    )
    return positions


def initialize(module: nn.Module) -> None:
    """Xavier's uniform weights for every matrix, patches included, and no biases.

    So does the authors' code, which draws mask token and [CLS] with deviation 0.02.
    """
    if isinstance(module, nn.Linear | nn.Conv2d):
        nn.init.xavier_uniform_(module.weight.flatten(1))
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, ViT):
        nn.init.normal_(module.prefix, std=0.02)


def mae_options(config: HFConfig) -> dict[str, Any]:
    """What `MAE` must be given to be as the config of a checkpoint says.

    Raises:
        ValueError: it says what `MAE` does not implement.
    """
    check_options(config, SUPPORTED, "MAE")
    for option in ("image_size", "patch_size"):
        if not isinstance(config[option], int):
            raise ValueError(
                f"{option} must be one number: Hugging Face's model lays its positions "
                f"out in a square, but it is {config[option]}"
            )
    return {
        "image_size": config["image_size"],
        "patch_size": config["patch_size"],
        "in_channels": config["num_channels"],
        "d_model": config["hidden_size"],
        "num_heads": config["num_attention_heads"],
        "d_ff": config["intermediate_size"],
        "num_layers": config["num_hidden_layers"],
        "decoder_d_model": config["decoder_hidden_size"],
        "decoder_num_heads": config["decoder_num_attention_heads"],
        "decoder_d_ff": config["decoder_intermediate_size"],
        "decoder_num_layers": config["decoder_num_hidden_layers"],
        "dropout": config["hidden_dropout_prob"],
        "mask_ratio": config["mask_ratio"],
        "normalize_target": config["norm_pix_loss"],
        "attention_dropout": config["attention_probs_dropout_prob"],
        "activation": config["hidden_act"],
        "layer_norm_eps": config["layer_norm_eps"],
        "qkv_bias": config["qkv_bias"],
    }


def _mean_and_deviation(patches: Tensor) -> tuple[Tensor, Tensor]:
    # The unbiased variance, as in the authors' code.
    variance = patches.var(dim=-1, keepdim=True)
    return patches.mean(dim=-1, keepdim=True), (variance + 1e-6).sqrt()


def _take(
    tokens: Float[Tensor, "batch length d_model"], index: Int[Tensor, "batch taken"]
) -> Float[Tensor, "batch taken d_model"]:
    """For each image its own tokens, in the order of ``index``."""
    return tokens.gather(1, index[..., None].expand(-1, -1, tokens.shape[-1]))


def _check_ratio(mask_ratio: float) -> None:
    if not 0.0 <= mask_ratio < 1.0:
        raise ValueError(
            f"mask_ratio must be at least 0 and below 1, but it is {mask_ratio}"
        )


def _squeezed(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tokens and tables without the axes of length 1 that Hugging Face keeps for a batch."""
    tables = ("mask_token", "cls_token", "position_embeddings", "decoder_pos_embed")
    axes = {"mask_token": (0, 1)}  # one vector; [CLS] stays a row of one
    return {
        name: weight.squeeze(axes.get(name.rpartition(".")[2], 0))
        if name.rpartition(".")[2] in tables
        else weight
        for name, weight in weights.items()
    }


def _layer(theirs: str, ours: str) -> dict[str, str]:
    """A layer's names: those of a live model, then those of checkpoints on the hub."""
    theirs, ours = f"{theirs}.*", f"{ours}.*"
    return {
        f"{theirs}.{name}.*": f"{ours}.{new}.*"
        for name, new in {
            "attention.q_proj": "self_attention.W_q",
            "attention.k_proj": "self_attention.W_k",
            "attention.v_proj": "self_attention.W_v",
            "attention.o_proj": "self_attention.W_o",
            "mlp.fc1": "feed_forward.W_1",
            "mlp.fc2": "feed_forward.W_2",
            "attention.attention.query": "self_attention.W_q",
            "attention.attention.key": "self_attention.W_k",
            "attention.attention.value": "self_attention.W_v",
            "attention.output.dense": "self_attention.W_o",
            "intermediate.dense": "feed_forward.W_1",
            "output.dense": "feed_forward.W_2",
            "layernorm_before": "norm1",
            "layernorm_after": "norm2",
        }.items()
    }


_BARE_RULES = {
    "embeddings.cls_token": "prefix",
    "embeddings.position_embeddings": "positions.table",
    "embeddings.patch_embeddings.projection.*": "patches.projection.*",
    **_layer("layers", "layers"),
    **_layer("encoder.layer", "layers"),
    "layernorm.*": "norm.*",
}
_ENCODER_RULES = {name: f"encoder.{new}" for name, new in _BARE_RULES.items()}
_RULES = (
    {f"vit.{name}": new for name, new in _ENCODER_RULES.items()}
    | _ENCODER_RULES
    | {
        "decoder.mask_token": "decoder.mask_token",
        "decoder.decoder_embed.*": "decoder.embedding.*",
        "decoder.decoder_pos_embed": "decoder.positions.table",
        **_layer("decoder.decoder_layers", "decoder.layers"),
        # So transformers 5 saves them, where it turns "layers" back to "encoder.layer".
        **_layer("decoder.decoder_encoder.layer", "decoder.layers"),
        "decoder.decoder_norm.*": "decoder.norm.*",
        "decoder.decoder_pred.*": "decoder.prediction.*",
    }
)

# What `from_hf` implements.
SUPPORTED = {
    "model_type": ("vit_mae",),
    "hidden_act": tuple(ACTIVATIONS),
    "quantization_config": (None,),
}
