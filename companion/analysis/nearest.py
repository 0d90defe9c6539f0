"""How good features are, without training them further: nearest neighbors, a linear probe.

Sources: Wu et al. (2018), "Unsupervised Feature Learning via Non-Parametric Instance
Discrimination", section 3.4, for the vote of the neighbors; Caron et al. (2021),
"Emerging Properties in Self-Supervised Vision Transformers", section 4.1, for k = 20.
"""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor


def knn_votes(
    train_features: Float[Tensor, "train width"],
    train_labels: Int[Tensor, "train"],
    test_features: Float[Tensor, "test width"],
    k: int = 20,
    temperature: float = 0.07,
) -> Float[Tensor, "test classes"]:
    """What the ``k`` nearest training examples vote for: exp(cosine / temperature) each.

    Raises:
        ValueError: the shapes don't fit each other, ``k`` is not from 1 to the number of
            training examples, or the temperature is not above 0.
    """
    _check(train_features, train_labels, test_features)
    if not 1 <= k <= len(train_features):
        raise ValueError(
            f"k must be from 1 to the {len(train_features)} training examples, but it is {k}"
        )
    if temperature <= 0:
        raise ValueError(f"temperature must be above 0, but it is {temperature}")
    train = F.normalize(train_features.float(), dim=-1)
    test = F.normalize(test_features.float(), dim=-1)
    cosine, nearest = (test @ train.T).topk(k, dim=-1)  # (test, k)
    # The largest vote of a row is 1: no temperature makes them overflow.
    weights = ((cosine - cosine[:, :1]) / temperature).exp()
    votes = weights.new_zeros(len(test), int(train_labels.max()) + 1)
    return votes.scatter_add_(1, train_labels[nearest], weights)


def knn_accuracy(
    train_features: Float[Tensor, "train width"],
    train_labels: Int[Tensor, "train"],
    test_features: Float[Tensor, "test width"],
    test_labels: Int[Tensor, "test"],
    k: int = 20,
    temperature: float = 0.07,
) -> float:
    """The share of test examples whose ``k`` nearest training examples vote for their class.

    Near is a high cosine. Nothing is trained, so it says what the features know as they are.

    Raises:
        ValueError: as `knn_votes`.
    """
    _check_labels(test_features, test_labels)
    votes = knn_votes(train_features, train_labels, test_features, k, temperature)
    return (votes.argmax(dim=-1) == test_labels).float().mean().item()


def linear_probe_accuracy(
    train_features: Float[Tensor, "train width"],
    train_labels: Int[Tensor, "train"],
    test_features: Float[Tensor, "test width"],
    test_labels: Int[Tensor, "test"],
    *,
    strength: float = 1.0,
    max_iter: int = 1000,
) -> float:
    """The test accuracy of a logistic regression on frozen features, as scikit-learn fits it.

    Features are standardized with the mean and deviation of the training ones.

    Args:
        train_features, train_labels: to fit it on.
        test_features, test_labels: to try it on.
        strength: of the penalty on the squared weights: scikit-learn's 1 / C.
        max_iter: at most this many steps.

    Raises:
        ValueError: the shapes don't fit each other, or the strength is not above 0.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    _check(train_features, train_labels, test_features)
    _check_labels(test_features, test_labels)
    if strength <= 0:
        raise ValueError(f"strength must be above 0, but it is {strength}")
    probe = make_pipeline(
        StandardScaler(), LogisticRegression(C=1 / strength, max_iter=max_iter)
    )
    as_array = [
        t.detach().float().cpu().numpy() for t in (train_features, test_features)
    ]
    probe.fit(as_array[0], train_labels.cpu().numpy())
    return float(probe.score(as_array[1], test_labels.cpu().numpy()))


def _check(train_features: Tensor, train_labels: Tensor, test_features: Tensor) -> None:
    _check_labels(train_features, train_labels, "train")
    if test_features.ndim != 2 or test_features.shape[1:] != train_features.shape[1:]:
        raise ValueError(
            f"test_features must have shape (test, {train_features.shape[-1]}), but it has "
            f"shape {tuple(test_features.shape)}"
        )


def _check_labels(features: Tensor, labels: Tensor, part: str = "test") -> None:
    if features.ndim != 2:
        raise ValueError(
            f"{part}_features must have shape (examples, width), but it has shape "
            f"{tuple(features.shape)}"
        )
    if labels.shape != features.shape[:1]:
        raise ValueError(
            f"{part}_labels must have shape ({len(features)},), but it has shape "
            f"{tuple(labels.shape)}"
        )
