"""DINO: a student learns what its own average over time says about another view of the image.

Source: Caron et al. (2021), "Emerging Properties in Self-Supervised Vision Transformers",
section 3.1, equations 1 to 4, algorithm 1; section 3.2 and appendix C for the head.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from itertools import groupby, pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from companion.models.vit import ViT

Scores = Sequence[Float[Tensor, "batch outputs"]]


class DINOHead(nn.Module):
    """Scores of K outputs that nobody named: an MLP, a point on the sphere, K directions.

    The last layer is weight-normalized and its gains are fixed at 1, so each score is the
    cosine of the features with one direction. There is no norm layer and no batch
    statistic in it.

    Args:
        d_model: width of the features.
        num_outputs: K; the paper takes 65,536.
        d_hidden: width of the hidden layers.
        d_bottleneck: width of the sphere.
        num_layers: linear maps up to the sphere.

    Raises:
        ValueError: ``num_layers`` is below 1.
    """

    def __init__(
        self,
        d_model: int,
        num_outputs: int = 65_536,
        d_hidden: int = 2048,
        d_bottleneck: int = 256,
        num_layers: int = 3,
    ) -> None:
        super().__init__()
        if num_layers < 1:
            raise ValueError(f"num_layers must be at least 1, but it is {num_layers}")
        widths = [d_model, *[d_hidden] * (num_layers - 1), d_bottleneck]
        layers: list[nn.Module] = []
        for width, next_width in pairwise(widths):
            layers += [nn.Linear(width, next_width), nn.GELU()]
        self.mlp = nn.Sequential(*layers[:-1])  # none after the last
        self.directions = nn.Linear(d_bottleneck, num_outputs, bias=False)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def forward(
        self, features: Float[Tensor, "batch d_model"]
    ) -> Float[Tensor, "batch outputs"]:
        z = F.normalize(self.mlp(features), dim=-1)  # (B, bottleneck), of length 1
        return F.linear(z, F.normalize(self.directions.weight, dim=-1))


class DINO(nn.Module):
    """A student, and a teacher of the same form whose weights are the student's average.

    Only the student has gradients. After each update of its weights, call
    `update_teacher`; `loss` itself moves the center, in training.

    Args:
        backbone: a `ViT` without a head, or a module with ``features(images)`` and
            ``d_model``.
        num_outputs: K of the head.
        d_hidden, d_bottleneck: widths in the head.
        student_temperature: of the student's softmax.
        center_momentum: how much of the old center each batch leaves, m of equation 4;
            1 leaves it at zero, which is no centering.

    Attributes:
        center: what is subtracted from the teacher's scores, ``(outputs,)``.
        teacher_entropy: the mean entropy of the teacher's outputs in the last call of
            `loss`, in nats.

    Raises:
        ValueError: a temperature is not above 0, or a momentum not from 0 to 1.
    """

    def __init__(
        self,
        backbone: ViT,
        num_outputs: int = 65_536,
        *,
        d_hidden: int = 2048,
        d_bottleneck: int = 256,
        student_temperature: float = 0.1,
        center_momentum: float = 0.9,
    ) -> None:
        super().__init__()
        _check_temperature("student_temperature", student_temperature)
        _check_momentum("center_momentum", center_momentum)
        self.student = backbone
        self.student_head = DINOHead(
            backbone.d_model, num_outputs, d_hidden, d_bottleneck
        )
        self.teacher = copy.deepcopy(backbone).requires_grad_(False)
        self.teacher_head = copy.deepcopy(self.student_head).requires_grad_(False)
        self.student_temperature = student_temperature
        self.center_momentum = center_momentum
        self.register_buffer("center", torch.zeros(num_outputs))
        self.teacher_entropy = torch.tensor(math.nan)

    def forward(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch outputs"]:
        """The student's scores."""
        return self.student_head(self.student.features(images))

    @torch.no_grad()
    def features(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch d_model"]:
        """The teacher's features: what is left when the training is done (section 3.1)."""
        return self.teacher.features(images)

    def scores(
        self,
        views: Sequence[Float[Tensor, "batch channels height width"]],
        num_global: int = 2,
    ) -> tuple[Scores, Scores]:
        """Scores of the student for all views, and of the teacher for the first ones.

        Views of one size go through the model as one batch.

        Raises:
            ValueError: there are fewer than two views, or fewer than ``num_global``.
        """
        if not 1 <= num_global <= len(views) or len(views) < 2:
            raise ValueError(
                "views must be at least two, of which the first num_global are the "
                f"teacher's, but there are {len(views)} and num_global is {num_global}"
            )
        student = _by_size(views, self)
        with torch.no_grad():
            teacher = _by_size(
                views[:num_global],
                lambda x: self.teacher_head(self.teacher.features(x)),
            )
        return student, teacher

    def loss(
        self,
        views: Sequence[Float[Tensor, "batch channels height width"]],
        teacher_temperature: float = 0.04,
        num_global: int = 2,
    ) -> Float[Tensor, ""]:
        """`dino_loss` of views of the same images; in training it then moves the center.

        Args:
            views: each ``(batch, channels, height, width)``; those that the teacher sees
                come first.
            teacher_temperature: of the teacher's softmax, below the student's.
            num_global: how many views the teacher sees.

        Raises:
            ValueError: as `scores` and `dino_loss`.
        """
        student, teacher = self.scores(views, num_global)
        loss = dino_loss(
            student, teacher, self.center, self.student_temperature, teacher_temperature
        )
        self.teacher_entropy = entropy(
            teacher_probabilities(
                torch.cat(list(teacher)), self.center, teacher_temperature
            )
        ).mean()
        if self.training:
            self.update_center(teacher)
        return loss

    @torch.no_grad()
    def update_center(self, teacher_scores: Scores) -> None:
        """center = m center + (1 - m) mean of the teacher's scores (equation 4)."""
        mean = torch.cat(list(teacher_scores)).mean(dim=0)
        self.center.lerp_(mean, 1 - self.center_momentum)

    @torch.no_grad()
    def update_teacher(self, momentum: float) -> None:
        """teacher = momentum * teacher + (1 - momentum) * student, each weight.

        Raises:
            ValueError: the momentum is not from 0 to 1.
        """
        _check_momentum("momentum", momentum)
        for teacher, student in (
            (self.teacher, self.student),
            (self.teacher_head, self.student_head),
        ):
            pairs = zip(teacher.parameters(), student.parameters(), strict=True)
            for old, new in pairs:
                old.lerp_(new, 1 - momentum)


def teacher_probabilities(
    scores: Float[Tensor, "*batch outputs"],
    center: Float[Tensor, "outputs"] | float,
    temperature: float,
) -> Float[Tensor, "*batch outputs"]:
    """softmax((scores - center) / temperature): centered, then sharpened."""
    _check_temperature("teacher_temperature", temperature)
    return ((scores - center) / temperature).softmax(dim=-1)


def entropy(
    probabilities: Float[Tensor, "*batch outputs"],
) -> Float[Tensor, "*batch"]:
    """- sum p log p, in nats: 0 for one sure output, log K for K equal ones."""
    return torch.special.entr(probabilities).sum(dim=-1)


def dino_loss(
    student_scores: Scores,
    teacher_scores: Scores,
    center: Float[Tensor, "outputs"] | float = 0.0,
    student_temperature: float = 0.1,
    teacher_temperature: float = 0.04,
) -> Float[Tensor, ""]:
    """The mean cross-entropy of teacher and student over all pairs of *different* views.

    Equation 3, divided by the number of pairs: for each view that the teacher sees and
    each other view that the student sees, - sum_k P_teacher[k] log P_student[k].

    Args:
        student_scores: for each view, ``(batch, outputs)``.
        teacher_scores: for the first of these views.
        center: subtracted from the teacher's scores.
        student_temperature, teacher_temperature: what scores are divided by.

    Raises:
        ValueError: there is no pair of different views, or a temperature is not above 0.
    """
    _check_temperature("student_temperature", student_temperature)
    if not teacher_scores or len(student_scores) < 2:
        raise ValueError(
            "student_scores must hold two views at least and teacher_scores one, but they "
            f"hold {len(student_scores)} and {len(teacher_scores)}"
        )
    log_student = [(s / student_temperature).log_softmax(-1) for s in student_scores]
    losses = []
    for t, scores in enumerate(teacher_scores):
        P = teacher_probabilities(scores, center, teacher_temperature)
        P = P.detach()  # the teacher is not to be pulled towards the student
        losses += [
            -(P * log_Q).sum(dim=-1).mean()
            for s, log_Q in enumerate(log_student)
            if s != t
        ]
    return torch.stack(losses).mean()


def _by_size(
    views: Sequence[Tensor], model: Callable[[Tensor], Tensor]
) -> list[Tensor]:
    """What the model makes of each view; neighbors of one size are joined in a batch."""
    outputs: list[Tensor] = []
    for _, group in groupby(views, key=lambda view: view.shape):
        alike = list(group)
        outputs += model(torch.cat(alike)).chunk(len(alike))
    return outputs


def _check_temperature(name: str, value: float) -> None:
    if not value > 0:
        raise ValueError(f"{name} must be above 0, but it is {value}")


def _check_momentum(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must be from 0 to 1, but it is {value}")
