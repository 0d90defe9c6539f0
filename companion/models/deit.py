"""DeiT: a ViT with a second token that learns from a teacher.

Source: Touvron et al. (2021), "Training data-efficient image transformers & distillation
through attention", section 4 for the token and both losses, table 1 for the sizes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from companion.models.hf import check_options, load_hf, read_hf
from companion.models.vit import (
    BACKBONE_RULES,
    SUPPORTED,
    ViT,
    initialize,
    join_tokens,
    vit_options,
)


class DeiT(ViT):
    """A `ViT` that starts with two tokens, [CLS] and [DIST], and has a head for each.

    The first head learns the labels, the second one what a teacher says. The logits are
    the mean of both.

    Args:
        image_size, patch_size, in_channels: as in `ViT`.
        num_classes: logits of each head; None for no head.
        distilled: whether there is the second head. The token stays without it: so it is
            in Hugging Face's ``DeiTForImageClassification``.
        options: the other arguments of `ViT`, but for ``num_prefix``.

    Raises:
        ValueError: as `ViT`.
    """

    def __init__(
        self,
        image_size: int | tuple[int, int] = 224,
        patch_size: int = 16,
        in_channels: int = 3,
        num_classes: int | None = 1000,
        *,
        distilled: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(
            image_size, patch_size, in_channels, num_classes, num_prefix=2, **options
        )
        self.distillation_head = None
        if distilled and num_classes is not None:
            self.distillation_head = nn.Linear(self.d_model, num_classes)
            initialize(self.distillation_head)

    def forward(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch *length outputs"]:
        """The mean of both heads' logits; of one where there is one; else hidden states."""
        states = self.hidden_states(images)[-1]
        if self.head is None:
            return states
        if self.distillation_head is None:
            return self.head(self.pool(states))
        return sum(self._heads(states)) / 2

    def both_logits(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> tuple[Float[Tensor, "batch classes"], Float[Tensor, "batch classes"]]:
        """The logits of the head upon [CLS] and of the head upon [DIST].

        Raises:
            ValueError: there are not two heads.
        """
        if self.distillation_head is None:
            raise ValueError(
                "this model has no second head: it was made with distilled=False or "
                "num_classes=None"
            )
        return self._heads(self.hidden_states(images)[-1])

    def distillation_loss(
        self,
        images: Float[Tensor, "batch channels height width"],
        labels: Int[Tensor, "batch"],
        teacher: Float[Tensor, "batch classes"],
        **options: Any,
    ) -> Float[Tensor, ""]:
        """`distillation_loss` of both heads, with what it may be given besides.

        Args:
            images, labels: as for `loss`.
            teacher: the teacher's logits for the images.
            options: ``temperature`` and ``weight``.

        Raises:
            ValueError: there are not two heads, or an option is out of range.
        """
        return distillation_loss(*self.both_logits(images), labels, teacher, **options)

    @classmethod
    def from_hf(cls, path_or_model: str | Path | nn.Module) -> DeiT:
        """A DeiT with the weights of Hugging Face's, in evaluation mode.

        Args:
            path_or_model: a ``transformers`` ``DeiTModel``, ``DeiTForImageClassification``
                or ``DeiTForImageClassificationWithTeacher``, or a local folder with
                ``config.json`` and ``model.safetensors``. A pooler is left out.

        Raises:
            TypeError, ValueError: not such a model or folder, an option that is not
                implemented, or weights that don't fit.
        """
        config, weights = read_hf(path_or_model)
        check_options(config, SUPPORTED | {"model_type": ("deit",)}, "DeiT")
        weights = join_tokens(weights, ("cls_token", "distillation_token"))
        # The class head has two names: it depends on whether there is another one.
        heads = [weights.get(f"{name}.weight") for name in ("classifier", _CLASS_HEAD)]
        classes = next((len(head) for head in heads if head is not None), None)
        model = cls(
            **vit_options(config),
            num_classes=classes,
            distilled="distillation_classifier.weight" in weights,
        )
        load_hf(model, weights, _RULES, _IGNORED)
        return model.eval()

    def _heads(self, states: Tensor) -> tuple[Tensor, Tensor]:
        return self.head(self.pool(states)), self.distillation_head(states[:, 1])


def distillation_loss(
    class_logits: Float[Tensor, "batch classes"],
    distillation_logits: Float[Tensor, "batch classes"],
    labels: Int[Tensor, "batch"],
    teacher: Float[Tensor, "batch classes"],
    *,
    temperature: float | None = None,
    weight: float = 0.5,
) -> Float[Tensor, ""]:
    """One head learns the labels, the other one what the teacher says.

    With no temperature this is hard distillation (equation 3): the second head's label is
    the class that the teacher thinks most probable. With one it is soft (equation 2): the
    second head's distribution is drawn to the teacher's, both at that temperature.

    Args:
        class_logits: of the head that learns the labels.
        distillation_logits: of the head that learns from the teacher. A model without
            the second token gives its only logits twice.
        labels: the classes.
        teacher: logits, through which no gradient flows.
        temperature: above 0; the paper takes 3. None for hard distillation.
        weight: of the teacher's part, from 0 to 1. The paper takes 0.5 with hard labels
            and 0.1 with soft ones.

    Raises:
        ValueError: the temperature or the weight is out of range.
    """
    if not 0.0 <= weight <= 1.0:
        raise ValueError(f"weight must be from 0 to 1, but it is {weight}")
    if temperature is not None and not temperature > 0:
        raise ValueError(
            f"temperature must be above 0 or None, but it is {temperature}"
        )
    teacher = teacher.detach()
    own = F.cross_entropy(class_logits, labels)
    if temperature is None:
        taught = F.cross_entropy(distillation_logits, teacher.argmax(dim=-1))
    else:
        student, teacher = (
            F.log_softmax(logits / temperature, dim=-1)
            for logits in (distillation_logits, teacher)
        )
        # Without the square, a high temperature would take the gradient away.
        taught = temperature**2 * F.kl_div(
            student, teacher, log_target=True, reduction="batchmean"
        )
    return (1 - weight) * own + weight * taught


_CLASS_HEAD = "cls_classifier"
_RULES = {
    **BACKBONE_RULES,
    **{f"deit.{theirs}": ours for theirs, ours in BACKBONE_RULES.items()},
    "classifier.*": "head.*",
    f"{_CLASS_HEAD}.*": "head.*",
    "distillation_classifier.*": "distillation_head.*",
}
_IGNORED = ("pooler.dense.*", "deit.pooler.dense.*", "embeddings.mask_token")
