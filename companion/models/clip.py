"""CLIP: one encoder for images, one for texts, trained until a picture and its caption agree.

Source: Radford et al. (2021), "Learning Transferable Visual Models From Natural Language
Supervision", section 2.3 and figure 3 for the loss, section 2.4 for the two towers,
section 2.5 for the temperature, tables 19 and 20 for the sizes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from companion.layers import EncoderLayer
from companion.layers.patches import PatchEmbedding
from companion.models.bert import PositionEmbedding
from companion.models.hf import HFConfig, check_options, load_hf, read_hf
from companion.models.vit import ViT

# Table 20. The width of the common space is the width of the text tower.
PRESETS: dict[str, dict[str, dict[str, int]]] = {
    "ViT-B/32": {
        "vision": {"patch_size": 32, "d_model": 768, "num_heads": 12, "num_layers": 12},
        "text": {"d_model": 512, "num_heads": 8, "num_layers": 12},
    },
    "ViT-B/16": {
        "vision": {"patch_size": 16, "d_model": 768, "num_heads": 12, "num_layers": 12},
        "text": {"d_model": 512, "num_heads": 8, "num_layers": 12},
    },
    "ViT-L/14": {
        "vision": {
            "patch_size": 14,
            "d_model": 1024,
            "num_heads": 16,
            "num_layers": 24,
        },
        "text": {"d_model": 768, "num_heads": 12, "num_layers": 12},
    },
}
MAX_SCALE = 100.0  # section 2.5


class CLIPVision(ViT):
    """A ViT with one more layer norm, in front of the layers, and no bias on the patches.

    Args:
        image_size: height and width of the images in pixels, or one number for both.
        patch_size: side of a patch in pixels.
        in_channels: of the images.
        d_model: width of the residual stream.
        num_heads: attention heads in a layer.
        num_layers: number of encoder layers.
        d_ff: inner width of the feed-forward networks; four times ``d_model`` by default.
        activation: of the feed-forward networks.
        layer_norm_eps: what layer norm adds to the variance.
        attention_dropout: of the attention weights, in training.
        dropout: in training, of the embeddings and of each sub-layer's output. The paper
            has none.

    Raises:
        ValueError: the sizes don't fit each other.
    """

    def __init__(
        self,
        image_size: int | tuple[int, int] = 224,
        patch_size: int = 32,
        in_channels: int = 3,
        d_model: int = 768,
        num_heads: int = 12,
        num_layers: int = 12,
        d_ff: int | None = None,
        *,
        activation: str = "quick_gelu",
        layer_norm_eps: float = 1e-5,
        attention_dropout: float = 0.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(
            image_size,
            patch_size,
            in_channels,
            None,
            d_model,
            num_heads,
            d_ff or 4 * d_model,
            num_layers,
            dropout,
            attention_dropout=attention_dropout,
            activation=activation,
            layer_norm_eps=layer_norm_eps,
        )
        self.patches = PatchEmbedding(patch_size, in_channels, d_model, bias=False)
        self.pre_norm = nn.LayerNorm(d_model, eps=layer_norm_eps)
        initialize(self)
        for table in (self.prefix, self.positions.table):
            nn.init.normal_(table, std=d_model**-0.5)

    def embed(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch length d_model"]:
        """What the first layer reads."""
        return self.pre_norm(super().embed(images))

    def hidden_states(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> list[Float[Tensor, "batch length d_model"]]:
        """The embeddings, then what each layer makes of them: ``num_layers + 1`` tensors.

        The last norm belongs to `pool`: only [CLS] goes through it.
        """
        states = [self.embed(images)]
        for layer in self.layers:
            states.append(layer(states[-1]))
        return states

    def pool(
        self, states: Float[Tensor, "batch length d_model"]
    ) -> Float[Tensor, "batch d_model"]:
        """The state of [CLS], normalized."""
        return self.norm(states[:, 0])

    @classmethod
    def from_hf(cls, path_or_model: str | Path | nn.Module) -> CLIPVision:
        """A vision tower with the weights of Hugging Face's, in evaluation mode.

        Args:
            path_or_model: a ``transformers`` ``CLIPVisionModel`` (with projection or
                without) or ``CLIPModel``, or a local folder with one. Projections and
                the text tower are left out.

        Raises:
            TypeError, ValueError: not such a model or folder, an option that is not
                implemented, or weights that don't fit.
        """
        config, weights = read_hf(path_or_model)
        model = cls(**vision_options(_part(config, "vision")))
        load_hf(model, _reshaped(weights), _VISION_RULES, _VISION_IGNORED)
        return model.eval()


class CLIPText(nn.Module):
    """A pre-norm Transformer in which a token sees those before it, read at the end of the text.

    The last token, end-of-text, is the only one that has seen all of them: its state
    stands for the text. What comes after it can't change it, so padding needs no mask.

    Args:
        vocab_size: number of distinct tokens.
        d_model: width of the residual stream.
        num_heads: attention heads in a layer.
        num_layers: number of layers.
        max_seq_len: the longest text.
        d_ff: inner width of the feed-forward networks; four times ``d_model`` by default.
        eos_id: the token end-of-text, the first of which is read. None for the rule of
            the authors' code: the token with the largest id.
        activation: of the feed-forward networks.
        layer_norm_eps: what layer norm adds to the variance.
        attention_dropout: of the attention weights, in training.
        dropout: in training, of the embeddings and of each sub-layer's output. The paper
            has none.

    Raises:
        ValueError: the sizes don't fit each other.
    """

    def __init__(
        self,
        vocab_size: int = 49408,
        d_model: int = 512,
        num_heads: int = 8,
        num_layers: int = 12,
        max_seq_len: int = 77,
        d_ff: int | None = None,
        *,
        eos_id: int | None = None,
        activation: str = "quick_gelu",
        layer_norm_eps: float = 1e-5,
        attention_dropout: float = 0.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.d_model = d_model
        self.max_seq_len = max_seq_len
        self.eos_id = eos_id
        self.token = nn.Embedding(vocab_size, d_model)
        self.position = PositionEmbedding(max_seq_len, d_model)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(
            EncoderLayer(
                d_model,
                num_heads,
                d_ff or 4 * d_model,
                dropout,
                activation=activation,
                norm_first=True,
                layer_norm_eps=layer_norm_eps,
                attention_dropout=attention_dropout,
                hidden_dropout=0.0,
            )
            for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(d_model, eps=layer_norm_eps)
        initialize(self)
        nn.init.normal_(self.token.weight, std=0.02)
        nn.init.normal_(self.position.weight, std=0.01)

    def forward(
        self,
        token_ids: Int[Tensor, "batch length"],
        mask: Bool[Tensor, "..."] | None = None,
    ) -> Float[Tensor, "batch length d_model"]:
        """The last hidden states.

        Args:
            token_ids: at most ``max_seq_len`` of them in a text.
            mask: True = may attend, broadcasts to ``(batch, heads, length, length)``.
                No token sees a later one in any case.

        Raises:
            TypeError, ValueError: token ids of a wrong dtype or shape, or too many.
        """
        return self.hidden_states(token_ids, mask)[-1]

    def hidden_states(
        self,
        token_ids: Int[Tensor, "batch length"],
        mask: Bool[Tensor, "..."] | None = None,
    ) -> list[Float[Tensor, "batch length d_model"]]:
        """The embeddings, then what each layer makes of them: ``num_layers + 1`` tensors.

        The last has gone through the last norm.
        """
        self._check(token_ids)
        states = [self.dropout(self.token(token_ids) + self.position(token_ids))]
        for layer in self.layers:
            states.append(layer(states[-1], mask, is_causal=True))
        states[-1] = self.norm(states[-1])
        return states

    def features(
        self,
        token_ids: Int[Tensor, "batch length"],
        mask: Bool[Tensor, "..."] | None = None,
    ) -> Float[Tensor, "batch d_model"]:
        """One vector a text: the last state of its end-of-text token.

        Raises:
            ValueError: a text has no such token.
        """
        states = self(token_ids, mask)
        rows = torch.arange(len(states), device=states.device)
        return states[rows, self.ends(token_ids)]

    def ends(self, token_ids: Int[Tensor, "batch length"]) -> Int[Tensor, "batch"]:
        """Where each text ends: the place of the token that is read.

        Raises:
            ValueError: a text has no end-of-text token.
        """
        if self.eos_id is None:
            return token_ids.argmax(dim=1)
        found = token_ids == self.eos_id
        if not found.any(dim=1).all():
            raise ValueError(
                f"each text in token_ids must hold the end-of-text token, eos_id = "
                f"{self.eos_id}, but text {int((~found.any(dim=1)).int().argmax())} "
                "does not"
            )
        return found.int().argmax(dim=1)  # the first one

    @classmethod
    def from_hf(cls, path_or_model: str | Path | nn.Module) -> CLIPText:
        """A text tower with the weights of Hugging Face's, in evaluation mode.

        Args:
            path_or_model: a ``transformers`` ``CLIPTextModel`` (with projection or
                without) or ``CLIPModel``, or a local folder with one. Projections and
                the vision tower are left out.

        Raises:
            TypeError, ValueError: as for `CLIPVision.from_hf`.
        """
        config, weights = read_hf(path_or_model)
        model = cls(**text_options(_part(config, "text")))
        load_hf(model, weights, _TEXT_RULES, _TEXT_IGNORED)
        return model.eval()

    def _check(self, token_ids: Tensor) -> None:
        if token_ids.ndim != 2:
            raise ValueError(
                "token_ids must have shape (batch, length), but it has shape "
                f"{tuple(token_ids.shape)}"
            )
        if token_ids.dtype not in (torch.int64, torch.int32):
            raise TypeError(f"token_ids must be integers, but it is {token_ids.dtype}")
        if token_ids.shape[1] > self.max_seq_len:
            raise ValueError(
                f"token_ids may have at most max_seq_len = {self.max_seq_len} tokens in a "
                f"text, but it has {token_ids.shape[1]}"
            )


class CLIP(nn.Module):
    """Two towers, each with a linear map into one common space, and a temperature.

    Args:
        vision: the tower for images; its ``features`` gives a vector an image.
        text: the tower for texts; its ``features`` gives a vector a text.
        d_embedding: width of the common space.
        temperature: the start of the learned one (section 2.5).

    Attributes:
        logit_scale: what is learned: log(1 / temperature).

    Raises:
        ValueError: the temperature is not positive.
    """

    def __init__(
        self,
        vision: CLIPVision,
        text: CLIPText,
        d_embedding: int = 512,
        *,
        temperature: float = 0.07,
    ) -> None:
        super().__init__()
        if temperature <= 0:
            raise ValueError(f"temperature must be positive, but it is {temperature}")
        self.vision = vision
        self.text = text
        self.W_image = nn.Linear(vision.d_model, d_embedding, bias=False)
        self.W_text = nn.Linear(text.d_model, d_embedding, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor(-math.log(temperature)))
        for projection in (self.W_image, self.W_text):
            nn.init.normal_(projection.weight, std=projection.in_features**-0.5)

    @classmethod
    def preset(cls, name: str) -> CLIP:
        """One of the sizes of the paper: ``CLIP.preset("ViT-B/32")``.

        Raises:
            ValueError: there is no preset of that name.
        """
        if name not in PRESETS:
            raise ValueError(
                f"name must be one of {', '.join(PRESETS)}, but it is {name!r}"
            )
        sizes = PRESETS[name]
        vision, text = CLIPVision(**sizes["vision"]), CLIPText(**sizes["text"])
        return cls(vision, text, d_embedding=text.d_model)

    def forward(
        self,
        images: Float[Tensor, "images channels height width"],
        token_ids: Int[Tensor, "texts length"],
        mask: Bool[Tensor, "..."] | None = None,
    ) -> Float[Tensor, "images texts"]:
        """Cosine of each image with each text, divided by the temperature: logits.

        There may be more images than texts, or fewer.

        Args:
            images: as for `CLIPVision`.
            token_ids: as for `CLIPText`.
            mask: as for `CLIPText`.

        Raises:
            TypeError, ValueError: as the towers.
        """
        cosines = self.encode_image(images) @ self.encode_text(token_ids, mask).T
        return cosines * self.logit_scale.exp()

    def encode_image(
        self, images: Float[Tensor, "images channels height width"]
    ) -> Float[Tensor, "images d_embedding"]:
        """A vector of length 1 for each image."""
        return F.normalize(self.W_image(self.vision.features(images)), dim=-1)

    def encode_text(
        self,
        token_ids: Int[Tensor, "texts length"],
        mask: Bool[Tensor, "..."] | None = None,
    ) -> Float[Tensor, "texts d_embedding"]:
        """A vector of length 1 for each text."""
        return F.normalize(self.W_text(self.text.features(token_ids, mask)), dim=-1)

    def loss(
        self,
        images: Float[Tensor, "pairs channels height width"],
        token_ids: Int[Tensor, "pairs length"],
        mask: Bool[Tensor, "..."] | None = None,
    ) -> Float[Tensor, ""]:
        """`contrastive_loss` of a batch in which image i belongs to text i."""
        return contrastive_loss(self(images, token_ids, mask))

    @property
    def temperature(self) -> float:
        """What the cosines are divided by."""
        return math.exp(-self.logit_scale.item())

    @torch.no_grad()
    def clamp_temperature(self) -> None:
        """Keep the logits from being scaled by more than 100; called after each update."""
        self.logit_scale.clamp_(max=math.log(MAX_SCALE))

    @classmethod
    def from_hf(cls, path_or_model: str | Path | nn.Module) -> CLIP:
        """A CLIP with the weights of Hugging Face's, in evaluation mode.

        Args:
            path_or_model: a ``transformers`` ``CLIPModel``, or a local folder with
                ``config.json`` and ``model.safetensors``.

        Raises:
            TypeError, ValueError: not such a model or folder, an option that is not
                implemented, or weights that don't fit.
        """
        config, weights = read_hf(path_or_model)
        check_options(config, {"model_type": ("clip",)}, "CLIP")
        model = cls(
            CLIPVision(**vision_options(_part(config, "vision"))),
            CLIPText(**text_options(_part(config, "text"))),
            config.get("projection_dim", 512),
        )
        load_hf(model, _reshaped(weights), _RULES, _IGNORED)
        return model.eval()


def contrastive_loss(logits: Float[Tensor, "pairs pairs"]) -> Float[Tensor, ""]:
    """Which text belongs to each image, and which image to each text: the mean of two losses.

    Row i of the logits is image i, column j is text j, and what belongs together has the
    same number (figure 3).

    Raises:
        ValueError: the logits are not square.
    """
    if logits.ndim != 2 or logits.shape[0] != logits.shape[1]:
        raise ValueError(
            "logits must have a row and a column for each pair, but it has shape "
            f"{tuple(logits.shape)}"
        )
    pairs = torch.arange(len(logits), device=logits.device)
    of_images = F.cross_entropy(logits, pairs)
    of_texts = F.cross_entropy(logits.T, pairs)
    return (of_images + of_texts) / 2


@torch.no_grad()
def initialize(tower: CLIPVision | CLIPText) -> None:
    """Normal weights, smaller the deeper the tower, as the authors' code has them; no biases."""
    d_model, depth = tower.d_model, len(tower.layers)
    inner = (2 * depth * d_model) ** -0.5
    for layer in tower.layers:
        attention, feed_forward = layer.self_attention, layer.feed_forward
        for linear, std in (
            (attention.W_q, d_model**-0.5),
            (attention.W_k, d_model**-0.5),
            (attention.W_v, d_model**-0.5),
            (attention.W_o, inner),
            (feed_forward.W_1, (2 * d_model) ** -0.5),
            (feed_forward.W_2, inner),
        ):
            nn.init.normal_(linear.weight, std=std)
            nn.init.zeros_(linear.bias)


# Hugging Face

_ACTIVATIONS = ("quick_gelu", "gelu", "gelu_new", "relu", "silu")
SUPPORTED = {
    "model_type": ("clip_vision_model", "clip_text_model"),
    "hidden_act": _ACTIVATIONS,
}


def _part(config: HFConfig, tower: str) -> HFConfig:
    """The options of one tower, from its own config or from that of the whole model.

    What a folder's config leaves out has the value that ``transformers`` has for it.
    """
    own = config
    if config.get("model_type", "clip") == "clip":
        own = config.get(f"{tower}_config") or {}
        # Old checkpoints say it twice; then the second one counts.
        own = own | (config.get(f"{tower}_config_dict") or {})
    check_options(
        {"model_type": f"clip_{tower}_model"} | own,
        SUPPORTED | {"model_type": (f"clip_{tower}_model",)},
        {"vision": "CLIPVision", "text": "CLIPText"}[tower],
    )
    return HFConfig(_DEFAULTS[tower] | own)


_DEFAULTS: dict[str, dict[str, Any]] = {
    "vision": {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "num_channels": 3,
        "image_size": 224,
        "patch_size": 32,
        "hidden_act": "quick_gelu",
        "layer_norm_eps": 1e-5,
        "attention_dropout": 0.0,
    },
    "text": {
        "vocab_size": 49408,
        "hidden_size": 512,
        "intermediate_size": 2048,
        "num_hidden_layers": 12,
        "num_attention_heads": 8,
        "max_position_embeddings": 77,
        "hidden_act": "quick_gelu",
        "layer_norm_eps": 1e-5,
        "attention_dropout": 0.0,
        "eos_token_id": 49407,
    },
}


def vision_options(config: HFConfig) -> dict[str, Any]:
    """What `CLIPVision` must be given to be as the config of a checkpoint says."""
    return _common(config) | {
        "image_size": config["image_size"],
        "patch_size": config["patch_size"],
        "in_channels": config["num_channels"],
    }


def text_options(config: HFConfig) -> dict[str, Any]:
    """What `CLIPText` must be given to be as the config of a checkpoint says.

    An ``eos_token_id`` of 2 is a mistake of the first configs. Hugging Face then reads the
    token with the largest id, as the authors do.
    """
    eos_id = config["eos_token_id"]
    return _common(config) | {
        "vocab_size": config["vocab_size"],
        "max_seq_len": config["max_position_embeddings"],
        "eos_id": None if eos_id == 2 else eos_id,
    }


def _common(config: HFConfig) -> dict[str, Any]:
    return {
        "d_model": config["hidden_size"],
        "num_heads": config["num_attention_heads"],
        "num_layers": config["num_hidden_layers"],
        "d_ff": config["intermediate_size"],
        "activation": config["hidden_act"],
        "layer_norm_eps": config["layer_norm_eps"],
        "attention_dropout": config["attention_dropout"],
    }


def _reshaped(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """[CLS] is one vector there, and one row of a table here."""
    return {
        name: tensor[None] if name.endswith("embeddings.class_embedding") else tensor
        for name, tensor in weights.items()
    }


_LAYER_RULES = {
    "encoder.layers.*.self_attn.q_proj.*": "layers.*.self_attention.W_q.*",
    "encoder.layers.*.self_attn.k_proj.*": "layers.*.self_attention.W_k.*",
    "encoder.layers.*.self_attn.v_proj.*": "layers.*.self_attention.W_v.*",
    "encoder.layers.*.self_attn.out_proj.*": "layers.*.self_attention.W_o.*",
    "encoder.layers.*.layer_norm1.*": "layers.*.norm1.*",
    "encoder.layers.*.layer_norm2.*": "layers.*.norm2.*",
    "encoder.layers.*.mlp.fc1.*": "layers.*.feed_forward.W_1.*",
    "encoder.layers.*.mlp.fc2.*": "layers.*.feed_forward.W_2.*",
}
_VISION = {
    "embeddings.class_embedding": "prefix",
    "embeddings.patch_embedding.weight": "patches.projection.weight",
    "embeddings.position_embedding.weight": "positions.table",
    "pre_layrnorm.*": "pre_norm.*",
    "post_layernorm.*": "norm.*",
    **_LAYER_RULES,
}
_TEXT = {
    "embeddings.token_embedding.weight": "token.weight",
    "embeddings.position_embedding.weight": "position.weight",
    "final_layer_norm.*": "norm.*",
    **_LAYER_RULES,
}


def _under(theirs: str, rules: Mapping[str, str], ours: str = "") -> dict[str, str]:
    return {theirs + pattern: ours + template for pattern, template in rules.items()}


# A tower of its own has names with the prefix (folders) or without (live models).
_VISION_RULES = _VISION | _under("vision_model.", _VISION)
_TEXT_RULES = _TEXT | _under("text_model.", _TEXT)
_RULES = {
    **_under("vision_model.", _VISION, "vision."),
    **_under("text_model.", _TEXT, "text."),
    "visual_projection.weight": "W_image.weight",
    "text_projection.weight": "W_text.weight",
    "logit_scale": "logit_scale",
}
# Old checkpoints hold the numbers 0, 1, 2, ... as a weight.
_IGNORED = (
    "vision_model.embeddings.position_ids",
    "text_model.embeddings.position_ids",
)
_HEADS = ("visual_projection.weight", "text_projection.weight", "logit_scale")
_NUMBERS = ("embeddings.position_ids", *_IGNORED)
_VISION_IGNORED = (*_NUMBERS, *_HEADS, *_under("text_model.", _TEXT))
_TEXT_IGNORED = (*_NUMBERS, *_HEADS, *_under("vision_model.", _VISION))
