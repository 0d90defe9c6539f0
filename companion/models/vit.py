"""ViT: an image is cut into patches, and an encoder reads them as it would read words.

Source: Dosovitskiy et al. (2021), "An Image is Worth 16x16 Words: Transformers for Image
Recognition at Scale", section 3.1, equations 1 to 4; table 1 for the sizes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from companion.layers import EncoderLayer
from companion.layers.feed_forward import ACTIVATIONS
from companion.layers.patches import PatchEmbedding, PatchPositions, grid_of
from companion.models.hf import HFConfig, check_options, load_hf, read_hf

# Table 1, with the patch sizes of its models; Ti and S are from table 1 of Touvron et al. (2021).
PRESETS: dict[str, dict[str, int]] = {
    "Ti/16": {"d_model": 192, "num_heads": 3, "d_ff": 768, "num_layers": 12},
    "S/16": {"d_model": 384, "num_heads": 6, "d_ff": 1536, "num_layers": 12},
    "B/16": {"d_model": 768, "num_heads": 12, "d_ff": 3072, "num_layers": 12},
    "L/16": {"d_model": 1024, "num_heads": 16, "d_ff": 4096, "num_layers": 24},
    "H/14": {"d_model": 1280, "num_heads": 16, "d_ff": 5120, "num_layers": 32},
}

Pooling = Literal["first", "mean"]


class ViT(nn.Module):
    """Patches, a [CLS] token in front, positions, pre-norm encoder layers, a linear head.

    Args:
        image_size: height and width of the training images in pixels, or one number for
            both. Others may be given later: the positions are resized to their grid.
        patch_size: side of a patch in pixels; it divides the image size.
        in_channels: of the images.
        num_classes: logits of the head; None for no head.
        d_model: width of the residual stream.
        num_heads: attention heads in a layer.
        d_ff: inner width of the feed-forward networks.
        num_layers: number of encoder layers.
        dropout: in training, of the embeddings and of each sub-layer's output.
        pooling: what the head reads: ``"first"``, the state of [CLS], or ``"mean"``, the
            mean over the patches.
        attention_dropout: of the attention weights; none by default.
        activation: of the feed-forward networks.
        layer_norm_eps: what layer norm adds to the variance.
        qkv_bias: whether queries, keys and values have biases.
        drop_path: stochastic depth, rising from zero at the first layer to this at the last.
        layer_scale: see `EncoderLayer`.
        num_prefix: tokens in front of the patches that have a position: 1, [CLS].

    Raises:
        ValueError: the sizes don't fit each other, or the pooling is not known.
    """

    def __init__(
        self,
        image_size: int | tuple[int, int] = 224,
        patch_size: int = 16,
        in_channels: int = 3,
        num_classes: int | None = 1000,
        d_model: int = 768,
        num_heads: int = 12,
        d_ff: int = 3072,
        num_layers: int = 12,
        dropout: float = 0.0,
        *,
        pooling: Pooling = "first",
        attention_dropout: float = 0.0,
        activation: str = "gelu",
        layer_norm_eps: float = 1e-6,
        qkv_bias: bool = True,
        drop_path: float = 0.0,
        layer_scale: float | None = None,
        num_prefix: int = 1,
    ) -> None:
        super().__init__()
        if pooling not in ("first", "mean"):
            raise ValueError(
                f"pooling must be 'first' or 'mean', but it is {pooling!r}"
            )
        self.image_size = _pair(image_size)
        self.patch_size = patch_size
        self.d_model = d_model
        self.pooling = pooling
        self.num_prefix = num_prefix
        height, width = self.image_size
        if height < 1 or width < 1 or height % patch_size or width % patch_size:
            raise ValueError(
                f"patch_size must divide image_size, but it is {patch_size} and "
                f"image_size is {image_size}"
            )
        self.patches = PatchEmbedding(patch_size, in_channels, d_model)
        self.prefix = nn.Parameter(torch.zeros(num_prefix, d_model))
        self.positions = PatchPositions(
            (height // patch_size, width // patch_size), d_model, num_prefix
        )
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(
            EncoderLayer(
                d_model,
                num_heads,
                d_ff,
                dropout,
                activation=activation,
                norm_first=True,
                layer_norm_eps=layer_norm_eps,
                attention_dropout=attention_dropout,
                hidden_dropout=0.0,
                qkv_bias=qkv_bias,
                drop_path=drop_path * layer / max(num_layers - 1, 1),
                layer_scale=layer_scale,
            )
            for layer in range(num_layers)
        )
        self.norm = nn.LayerNorm(d_model, eps=layer_norm_eps)
        self.head = None if num_classes is None else nn.Linear(d_model, num_classes)
        self.apply(initialize)

    @classmethod
    def preset(cls, name: str, **options: Any) -> ViT:
        """One of the sizes of the paper: ``ViT.preset("B/16")``; options replace arguments.

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
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch *length outputs"]:
        """Logits of the classes; without a head, the last hidden states.

        Raises:
            TypeError, ValueError: images of another dtype or number of channels, or
                whose sides the patch size does not divide.
        """
        states = self.hidden_states(images)[-1]
        return states if self.head is None else self.head(self.pool(states))

    def hidden_states(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> list[Float[Tensor, "batch length d_model"]]:
        """The embeddings, then what each layer makes of them: ``num_layers + 1`` tensors.

        The last has gone through the last norm. The first ``num_prefix`` tokens are
        [CLS] and its like, then come the patches, row by row.
        """
        states = [self.embed(images)]
        for layer in self.layers:
            states.append(layer(states[-1]))
        states[-1] = self.norm(states[-1])
        return states

    def embed(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch length d_model"]:
        """What the first layer reads (equation 1)."""
        x = self.patches(images)  # (B, N, D)
        prefix = self.prefix.expand(len(x), -1, -1)
        x = torch.cat([prefix, x], dim=1)  # (B, 1 + N, D)
        return self.dropout(self.positions(x, grid_of(images, self.patch_size)))

    def pool(
        self, states: Float[Tensor, "batch length d_model"]
    ) -> Float[Tensor, "batch d_model"]:
        """The one vector that stands for an image (equation 4)."""
        if self.pooling == "first":
            return states[:, 0]
        return states[:, self.num_prefix :].mean(dim=1)

    def features(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch d_model"]:
        """One vector an image: what the head reads."""
        return self.pool(self.hidden_states(images)[-1])

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
    def from_hf(cls, path_or_model: str | Path | nn.Module) -> ViT:
        """A ViT with the weights of Hugging Face's, in evaluation mode.

        Args:
            path_or_model: a ``transformers`` ``ViTModel`` or ``ViTForImageClassification``,
                or a local folder with ``config.json`` and ``model.safetensors``. A pooler
                is left out.

        Raises:
            TypeError, ValueError: not such a model or folder, an option that is not
                implemented, or weights that don't fit.
        """
        config, weights = read_hf(path_or_model)
        check_options(config, SUPPORTED | {"model_type": ("vit",)}, "ViT")
        classes = weights.get("classifier.weight")
        model = cls(
            **vit_options(config), num_classes=None if classes is None else len(classes)
        )
        load_hf(model, join_tokens(weights), _RULES, _IGNORED)
        return model.eval()


def initialize(module: nn.Module) -> None:
    """Cut normal weights with deviation 0.02, no biases; tokens and positions alike."""
    if isinstance(module, nn.Linear | nn.Conv2d):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, ViT):
        nn.init.trunc_normal_(module.prefix, std=0.02)


def vit_options(config: HFConfig) -> dict[str, Any]:
    """What `ViT` must be given to be as the config of a checkpoint says, but for its head.

    Raises:
        ValueError: the patches are not square.
    """
    patch_size, width = _pair(config["patch_size"])
    if patch_size != width:
        raise ValueError(
            f"patch_size must have equal sides, but it is {config['patch_size']} in the "
            "config of the checkpoint"
        )
    return {
        "image_size": _pair(config["image_size"]),
        "patch_size": patch_size,
        "in_channels": config["num_channels"],
        "d_model": config["hidden_size"],
        "num_heads": config["num_attention_heads"],
        "d_ff": config["intermediate_size"],
        "num_layers": config["num_hidden_layers"],
        "dropout": config["hidden_dropout_prob"],
        "attention_dropout": config["attention_probs_dropout_prob"],
        "activation": config["hidden_act"],
        "layer_norm_eps": config["layer_norm_eps"],
        "qkv_bias": config.get("qkv_bias", True),
    }


def join_tokens(
    weights: Mapping[str, Tensor], tokens: tuple[str, ...] = ("cls_token",)
) -> dict[str, Tensor]:
    """Their weights, with the tokens before the patches stacked as ``embeddings.prefix``.

    Theirs, and their positions, have a first axis of length one for the batch; it goes.

    Args:
        weights: by Hugging Face's names.
        tokens: their names, in the order in which they stand before the patches.
    """
    found = dict(weights)
    for name, tensor in weights.items():
        path, _, last = name.rpartition(".")
        if last == "position_embeddings":
            found[name] = tensor.flatten(0, 1)  # (1, L, D) -> (L, D)
        names = [f"{path}.{token}" for token in tokens]
        if last == tokens[0] and all(token in weights for token in names):
            prefix = [found.pop(token).flatten(0, 1) for token in names]
            found[f"{path}.prefix"] = torch.cat(prefix)
    return found


# Hugging Face's names and ours, of one layer, and of all that surrounds the layers.
LAYER_RULES = {
    "layers.*.layernorm_before.*": "layers.*.norm1.*",
    "layers.*.attention.q_proj.*": "layers.*.self_attention.W_q.*",
    "layers.*.attention.k_proj.*": "layers.*.self_attention.W_k.*",
    "layers.*.attention.v_proj.*": "layers.*.self_attention.W_v.*",
    "layers.*.attention.o_proj.*": "layers.*.self_attention.W_o.*",
    "layers.*.layernorm_after.*": "layers.*.norm2.*",
    "layers.*.mlp.fc1.*": "layers.*.feed_forward.W_1.*",
    "layers.*.mlp.fc2.*": "layers.*.feed_forward.W_2.*",
}
# The same in checkpoint files, which keep the names of versions before the fifth.
OLD_LAYER_RULES = {
    "encoder.layer.*.layernorm_before.*": "layers.*.norm1.*",
    "encoder.layer.*.attention.attention.query.*": "layers.*.self_attention.W_q.*",
    "encoder.layer.*.attention.attention.key.*": "layers.*.self_attention.W_k.*",
    "encoder.layer.*.attention.attention.value.*": "layers.*.self_attention.W_v.*",
    "encoder.layer.*.attention.output.dense.*": "layers.*.self_attention.W_o.*",
    "encoder.layer.*.layernorm_after.*": "layers.*.norm2.*",
    "encoder.layer.*.intermediate.dense.*": "layers.*.feed_forward.W_1.*",
    "encoder.layer.*.output.dense.*": "layers.*.feed_forward.W_2.*",
}
BACKBONE_RULES = {
    "embeddings.prefix": "prefix",
    "embeddings.position_embeddings": "positions.table",
    "embeddings.patch_embeddings.projection.*": "patches.projection.*",
    **LAYER_RULES,
    **OLD_LAYER_RULES,
    "layernorm.*": "norm.*",
}
# A model with a head puts "vit." before the names of the rest.
_RULES = {
    **BACKBONE_RULES,
    **{f"vit.{theirs}": ours for theirs, ours in BACKBONE_RULES.items()},
    "classifier.*": "head.*",
}
# A dense layer upon [CLS], of the pre-training; the mask token of a task that is not ours.
_IGNORED = (
    "pooler.dense.*",
    "vit.pooler.dense.*",
    "embeddings.mask_token",
)

# What `from_hf` implements, and DeiT with it.
SUPPORTED = {
    "hidden_act": tuple(ACTIVATIONS),
    "problem_type": (None, "single_label_classification"),
    "head_dim": (None,),
    "pruned_heads": ({}, None),
    "quantization_config": (None,),
}


def _pair(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])
