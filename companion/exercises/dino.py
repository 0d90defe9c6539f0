"""Exercises of the chapter on DINO."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Generator, Tensor

from companion.exercises.exercise import Exercise, Inputs, Misconception, Property

# What the teacher says


def teacher_targets(
    scores: Float[Tensor, "batch outputs"],
    center: Float[Tensor, "outputs"],
    temperature: float,
) -> Float[Tensor, "batch outputs"]:
    return ((scores - center) / temperature).softmax(dim=-1)


def _sharpened_first(scores: Tensor, center: Tensor, temperature: float) -> Tensor:
    return (scores / temperature - center).softmax(dim=-1)


def _times_temperature(scores: Tensor, center: Tensor, temperature: float) -> Tensor:
    return ((scores - center) * temperature).softmax(dim=-1)


def _center_added(scores: Tensor, center: Tensor, temperature: float) -> Tensor:
    return ((scores + center) / temperature).softmax(dim=-1)


def _over_the_batch(scores: Tensor, center: Tensor, temperature: float) -> Tensor:
    return ((scores - center) / temperature).softmax(dim=0)


def _mean_of_outputs(scores: Tensor, center: Tensor, temperature: float) -> Tensor:
    return ((scores - scores.mean(-1, keepdim=True)) / temperature).softmax(dim=-1)


def _mean_of_batch(scores: Tensor, center: Tensor, temperature: float) -> Tensor:
    return ((scores - scores.mean(dim=0)) / temperature).softmax(dim=-1)


def _draw_targets(generator: Generator) -> list[Inputs]:
    return [
        (torch.tensor([[0.2, 0.1, 0.0]]), torch.tensor([0.2, 0.0, 0.0]), 0.1),
        (
            torch.randn(3, 4, generator=generator),
            torch.randn(4, generator=generator),
            0.5,
        ),
        (
            torch.randn(2, 5, generator=generator),
            torch.randn(5, generator=generator),
            2.0,
        ),
    ]


def _rows_sum_to_one(answer, inputs: Inputs) -> bool:
    rows = answer(*inputs).sum(dim=-1)
    return torch.allclose(rows, torch.ones_like(rows), atol=1e-5)


def _center_itself_is_uniform(answer, inputs: Inputs) -> bool:
    _, center, temperature = inputs
    P = answer(center[None], center, temperature)
    return torch.allclose(P, torch.full_like(P, 1 / len(center)), atol=1e-5)


# The loss over views


def view_loss(
    log_student: Float[Tensor, "views batch outputs"],
    teacher: Float[Tensor, "global_views batch outputs"],
) -> Float[Tensor, ""]:
    losses = [
        -(P * log_Q).sum(dim=-1).mean()
        for t, P in enumerate(teacher)
        for s, log_Q in enumerate(log_student)
        if s != t
    ]
    return torch.stack(losses).mean()


def _every_pair(log_student: Tensor, teacher: Tensor) -> Tensor:
    return -torch.einsum("tbk,sbk->tsb", teacher, log_student).mean()


def _zeros_for_same_views(log_student: Tensor, teacher: Tensor) -> Tensor:
    pairs = len(teacher) * len(log_student)
    return view_loss(log_student, teacher) * (pairs - len(teacher)) / pairs


def _summed(log_student: Tensor, teacher: Tensor) -> Tensor:
    pairs = len(teacher) * (len(log_student) - 1)
    return view_loss(log_student, teacher) * pairs


def _mean_over_outputs(log_student: Tensor, teacher: Tensor) -> Tensor:
    return view_loss(log_student, teacher) / log_student.shape[-1]


def _global_views_only(log_student: Tensor, teacher: Tensor) -> Tensor:
    return view_loss(log_student[: len(teacher)], teacher)


def _kl(log_student: Tensor, teacher: Tensor) -> Tensor:
    entropy = torch.special.entr(teacher).sum(dim=-1).mean()
    return view_loss(log_student, teacher) - entropy


def _same_view_only(log_student: Tensor, teacher: Tensor) -> Tensor:
    return -(teacher * log_student[: len(teacher)]).sum(dim=-1).mean()


def _draw_views(generator: Generator) -> list[Inputs]:
    def log_probabilities(*shape: int) -> Tensor:
        return (2 * torch.randn(*shape, generator=generator)).log_softmax(dim=-1)

    return [
        (log_probabilities(v, b, k), log_probabilities(g, b, k).exp())
        for v, g, b, k in ((3, 2, 1, 3), (5, 2, 4, 6), (4, 1, 2, 3))
    ]


def _own_view_does_not_count(answer, inputs: Inputs) -> bool:
    """Of one global view, what the student says about that view itself is not asked."""
    log_student, teacher = inputs
    changed = log_student.clone()
    changed[0] = changed[0].flip(-1)
    before, after = (answer(s, teacher[:1]) for s in (log_student, changed))
    return torch.allclose(before, after, atol=1e-5)


# The center


def moved_center(
    center: Float[Tensor, "outputs"],
    scores: Float[Tensor, "batch outputs"],
    momentum: float,
) -> Float[Tensor, "outputs"]:
    return momentum * center + (1 - momentum) * scores.mean(dim=0)


def _momentum_of_the_new(center: Tensor, scores: Tensor, momentum: float) -> Tensor:
    return (1 - momentum) * center + momentum * scores.mean(dim=0)


def _center_of_probabilities(center: Tensor, scores: Tensor, momentum: float) -> Tensor:
    return moved_center(center, scores.softmax(dim=-1), momentum)


def _sum_of_batch(center: Tensor, scores: Tensor, momentum: float) -> Tensor:
    return momentum * center + (1 - momentum) * scores.sum(dim=0)


def _one_number(center: Tensor, scores: Tensor, momentum: float) -> Tensor:
    return momentum * center + (1 - momentum) * scores.mean()


def _of_centered_scores(center: Tensor, scores: Tensor, momentum: float) -> Tensor:
    return moved_center(center, scores - center, momentum)


def _batch_only(center: Tensor, scores: Tensor, momentum: float) -> Tensor:
    return scores.mean(dim=0)


def _draw_center(generator: Generator) -> list[Inputs]:
    return [
        (torch.tensor([1.0, 0.0]), torch.tensor([[3.0, 1.0], [1.0, 3.0]]), 0.9),
        (
            torch.randn(4, generator=generator),
            torch.randn(3, 4, generator=generator),
            0.5 + 0.2,
        ),
    ]


def _arrives(answer, inputs: Inputs) -> bool:
    """The same batch again and again: the center ends at its mean."""
    center, scores, momentum = inputs
    for _ in range(300):
        center = answer(center, scores, momentum)
    return torch.allclose(center, scores.mean(dim=0), atol=1e-3)


# The teacher's weights


def teacher_after(start: float, students: Sequence[float], momentum: float) -> float:
    teacher = start
    for student in students:
        teacher = momentum * teacher + (1 - momentum) * student
    return teacher


def _swapped(start: float, students: Sequence[float], momentum: float) -> float:
    return teacher_after(start, students, 1 - momentum)


def _oldest_last(start: float, students: Sequence[float], momentum: float) -> float:
    return teacher_after(start, list(reversed(students)), momentum)


def _plain_mean(start: float, students: Sequence[float], momentum: float) -> float:
    return (start + sum(students)) / (1 + len(students))


def _start_forgotten(start: float, students: Sequence[float], momentum: float) -> float:
    return teacher_after(0.0, students, momentum)


def _last_student_only(
    start: float, students: Sequence[float], momentum: float
) -> float:
    return momentum * start + (1 - momentum) * students[-1]


def _not_damped(start: float, students: Sequence[float], momentum: float) -> float:
    teacher = start
    for student in students:
        teacher = momentum * teacher + student
    return teacher


def _draw_students(generator: Generator) -> list[Inputs]:
    return [
        (1.0, [2.0, 4.0], 0.9),
        (-1.0, [0.5, 0.25, 3.0], 0.6),
        (2.0, [1.0] * 5 + [7.0], 0.99),
    ]


def _still_student(answer, inputs: Inputs) -> bool:
    """A student that never moves from the start."""
    start, students, momentum = inputs
    same = answer(start, [start] * len(students), momentum)
    return math.isclose(same, start, rel_tol=1e-6, abs_tol=1e-9)


# Entropy and KL


def entropy_and_kl(
    teacher: Float[Tensor, "batch outputs"],
    log_student: Float[Tensor, "batch outputs"],
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    entropy = -(teacher * teacher.log()).sum(dim=-1).mean()
    cross_entropy = -(teacher * log_student).sum(dim=-1).mean()
    return entropy, cross_entropy - entropy


def _cross_entropy_for_kl(teacher: Tensor, log_student: Tensor):
    entropy, kl = entropy_and_kl(teacher, log_student)
    return entropy, entropy + kl


def _other_direction(teacher: Tensor, log_student: Tensor):
    entropy, _ = entropy_and_kl(teacher, log_student)
    _, kl = entropy_and_kl(log_student.exp(), teacher.log())
    return entropy, kl


def _in_bits(teacher: Tensor, log_student: Tensor):
    return tuple(x / math.log(2) for x in entropy_and_kl(teacher, log_student))


def _of_the_mean(teacher: Tensor, log_student: Tensor):
    _, kl = entropy_and_kl(teacher, log_student)
    entropy, _ = entropy_and_kl(teacher.mean(dim=0, keepdim=True), log_student[:1])
    return entropy, kl


def _of_the_student(teacher: Tensor, log_student: Tensor):
    _, kl = entropy_and_kl(teacher, log_student)
    entropy, _ = entropy_and_kl(log_student.exp(), log_student)
    return entropy, kl


def _mean_of_all(teacher: Tensor, log_student: Tensor):
    return tuple(x / teacher.shape[-1] for x in entropy_and_kl(teacher, log_student))


def _draw_distributions(generator: Generator) -> list[Inputs]:
    cases = [
        (torch.tensor([[0.5, 0.25, 0.25]]), torch.tensor([[0.25, 0.5, 0.25]]).log())
    ]
    for batch, outputs in ((2, 3), (4, 6)):
        P, Q = (
            (2 * torch.randn(batch, outputs, generator=generator)).softmax(dim=-1)
            for _ in range(2)
        )
        cases.append((P, Q.log()))
    return cases


def _sum_is_the_loss(answer, inputs: Inputs) -> bool:
    teacher, log_student = inputs
    loss = -(teacher * log_student).sum(dim=-1).mean()
    return torch.allclose(sum(answer(*inputs)), loss, atol=1e-5)


def _kl_of_equals_is_zero(answer, inputs: Inputs) -> bool:
    teacher, _ = inputs
    return abs(float(answer(teacher, teacher.log())[1])) < 1e-5


# The vote of the neighbors


def neighbor_votes(
    bank: Float[Tensor, "train width"],
    labels: Int[Tensor, "train"],
    query: Float[Tensor, "width"],
    k: int,
    temperature: float,
    num_classes: int,
) -> Float[Tensor, "classes"]:
    cosine = F.normalize(bank, dim=-1) @ F.normalize(query, dim=-1)  # (train,)
    nearest = cosine.topk(k).indices
    votes = torch.zeros(num_classes)
    return votes.index_add(0, labels[nearest], (cosine[nearest] / temperature).exp())


def _dot_products(bank, labels, query, k, temperature, num_classes):
    score = bank @ query / query.norm()
    nearest = score.topk(k).indices
    weights = (score[nearest] / temperature).exp()
    return torch.zeros(num_classes).index_add(0, labels[nearest], weights)


def _equal_votes(bank, labels, query, k, temperature, num_classes):
    cosine = F.normalize(bank, dim=-1) @ F.normalize(query, dim=-1)
    nearest = labels[cosine.topk(k).indices]
    return torch.bincount(nearest, minlength=num_classes).float()


def _everyone_votes(bank, labels, query, k, temperature, num_classes):
    return neighbor_votes(bank, labels, query, len(bank), temperature, num_classes)


def _farthest(bank, labels, query, k, temperature, num_classes):
    cosine = F.normalize(bank, dim=-1) @ F.normalize(query, dim=-1)
    nearest = cosine.topk(k, largest=False).indices
    weights = (cosine[nearest] / temperature).exp()
    return torch.zeros(num_classes).index_add(0, labels[nearest], weights)


def _cosines_vote(bank, labels, query, k, temperature, num_classes):
    cosine = F.normalize(bank, dim=-1) @ F.normalize(query, dim=-1)
    nearest = cosine.topk(k).indices
    return torch.zeros(num_classes).index_add(0, labels[nearest], cosine[nearest])


def _last_vote_stays(bank, labels, query, k, temperature, num_classes):
    cosine = F.normalize(bank, dim=-1) @ F.normalize(query, dim=-1)
    votes = torch.zeros(num_classes)
    for i in cosine.topk(k).indices:
        votes[labels[i]] = (cosine[i] / temperature).exp()
    return votes


def _draw_bank(generator: Generator) -> list[Inputs]:
    cases = []
    for train, width, k, classes in ((6, 2, 3, 2), (12, 4, 5, 3)):
        bank = torch.randn(train, width, generator=generator)
        bank *= torch.rand(train, 1, generator=generator) * 3 + 0.2
        labels = torch.arange(train) % classes
        query = torch.randn(width, generator=generator)
        cases.append((bank, labels, query, k, 0.5, classes))
    return cases


def _length_is_harmless(answer, inputs: Inputs) -> bool:
    bank, labels, query, *rest = inputs
    longer = bank * torch.linspace(0.5, 3.0, len(bank))[:, None]
    return torch.allclose(
        answer(bank, labels, query, *rest),
        answer(longer, labels, 2 * query, *rest),
        atol=1e-4,
    )


EXERCISES = (
    Exercise(
        name="teacher_targets",
        chapter="dino",
        title="Center, then sharpen",
        difficulty=1,
        minutes=5,
        trains="centers before it sharpens, by a center that is given",
        reference=teacher_targets,
        inputs=_draw_targets,
        properties=(
            Property("each image's outputs sum to 1", _rows_sum_to_one),
            Property(
                "scores that equal the center give equal outputs",
                _center_itself_is_uniform,
            ),
        ),
        misconceptions=(
            Misconception(
                "sharpens first",
                _sharpened_first,
                "It divides by the temperature and then subtracts the center, which is a "
                "mean of scores and was not divided. What does a center mean beside scores "
                "that are 25 times as large?",
            ),
            Misconception(
                "multiplies by the temperature",
                _times_temperature,
                "It multiplies. A temperature below 1 then flattens the outputs, and it is "
                "to sharpen them.",
            ),
            Misconception(
                "adds the center",
                _center_added,
                "It adds the center, so what is large on average becomes larger still. "
                "Centering takes away what all images have in common.",
            ),
            Misconception(
                "softmax over the batch",
                _over_the_batch,
                "Its columns sum to 1. The outputs of one image are the distribution: which "
                "axis is that?",
            ),
            Misconception(
                "subtracts the mean over the outputs",
                _mean_of_outputs,
                "It subtracts one number from all scores of an image, and a softmax does "
                "not see that. The center has a number for each output.",
            ),
            Misconception(
                "subtracts the mean of this batch",
                _mean_of_batch,
                "It uses the mean of this batch in place of the center it was given. With a "
                "batch of one image nothing would be left.",
            ),
        ),
        hints=(
            "Two steps before the softmax. In which unit is the center: scores, or scores "
            "over the temperature?",
            "The softmax runs over the last axis.",
            "((scores - center) / temperature).softmax(dim=-1)",
        ),
    ),
    Exercise(
        name="view_loss",
        chapter="dino",
        title="All pairs of different views",
        difficulty=3,
        minutes=12,
        trains="decides which pairs of views a loss compares and averages",
        reference=view_loss,
        inputs=_draw_views,
        properties=(
            Property(
                "the student's view 0 does not matter where the teacher sees view 0 only",
                _own_view_does_not_count,
            ),
        ),
        misconceptions=(
            Misconception(
                "pairs a view with itself",
                _every_pair,
                "It also asks the student about the very view that the teacher saw. Two "
                "networks of the same form agree about it without having learned anything.",
            ),
            Misconception(
                "divides by all pairs",
                _zeros_for_same_views,
                "It leaves out the pairs of a view with itself and still counts them when "
                "it takes the mean. How many pairs are left?",
            ),
            Misconception(
                "sums over the pairs",
                _summed,
                "It is the sum over the pairs; asked for is the mean. With the sum, more "
                "views would mean a higher learning rate.",
            ),
            Misconception(
                "takes the mean over the outputs",
                _mean_over_outputs,
                "It takes the mean over the outputs where the cross-entropy has a sum. It "
                "is too small by the number of outputs.",
            ),
            Misconception(
                "leaves out the local views",
                _global_views_only,
                "It asks the student about the views of the teacher only. The local views "
                "are the student's alone, and most of the pairs.",
            ),
            Misconception(
                "computes the KL divergence",
                _kl,
                "It subtracts the teacher's entropy. The gradient is the same, but asked "
                "for is the cross-entropy.",
            ),
            Misconception(
                "pairs each view only with itself",
                _same_view_only,
                "It compares teacher and student on the same view, and on no other. Then "
                "there is nothing that has to agree between views.",
            ),
        ),
        hints=(
            "Two loops: over the teacher's views and over the student's. When is a pair "
            "left out?",
            "View t of the teacher is view t of the student: skip s == t.",
            "-(teacher[t] * log_student[s]).sum(-1).mean(), and the mean over all pairs.",
        ),
    ),
    Exercise(
        name="moved_center",
        chapter="dino",
        title="The center follows",
        difficulty=1,
        minutes=5,
        trains="gives the old and the new their shares of an average",
        reference=moved_center,
        inputs=_draw_center,
        properties=(
            Property("fed the same batch for long, it ends at its mean", _arrives),
        ),
        misconceptions=(
            Misconception(
                "gives the momentum to the batch",
                _momentum_of_the_new,
                "The shares are exchanged: with 0.9, nine tenths come from this batch. The "
                "momentum is the share of the old.",
            ),
            Misconception(
                "averages probabilities",
                _center_of_probabilities,
                "It averages softmax outputs. The center is subtracted from scores, so it "
                "is a mean of scores.",
            ),
            Misconception(
                "sums over the batch",
                _sum_of_batch,
                "It adds the scores of the batch up. The center would grow with the size of "
                "the batch.",
            ),
            Misconception(
                "one number for all outputs",
                _one_number,
                "It takes the mean over images and outputs alike. A number that is the same "
                "for all outputs does nothing in a softmax.",
            ),
            Misconception(
                "averages what was centered before",
                _of_centered_scores,
                "It subtracts the old center from the scores first. Follow it for some "
                "steps with the same scores: it stops halfway.",
            ),
            Misconception(
                "forgets the old center",
                _batch_only,
                "It takes the mean of this batch alone. Where has the momentum gone?",
            ),
        ),
        hints=(
            "A weighted mean of the old center and of something of this batch.",
            "Of this batch: the mean score of each output, over the images.",
            "momentum * center + (1 - momentum) * scores.mean(dim=0)",
        ),
    ),
    Exercise(
        name="teacher_after",
        chapter="dino",
        title="What the teacher weighs after some updates",
        difficulty=2,
        minutes=8,
        trains="unrolls a moving average of weights over several updates",
        reference=teacher_after,
        inputs=_draw_students,
        properties=(
            Property(
                "with a student that stays at the start, the teacher stays",
                _still_student,
            ),
        ),
        misconceptions=(
            Misconception(
                "follows too closely",
                _swapped,
                "The shares are exchanged: the teacher keeps 1 - momentum of itself, and is "
                "nearly the student.",
            ),
            Misconception(
                "goes through the students backwards",
                _oldest_last,
                "The newest student comes first and fades the most. The one that was seen "
                "last should weigh most.",
            ),
            Misconception(
                "takes the plain mean",
                _plain_mean,
                "All weigh alike. In an exponential average older students count less, by "
                "the factor momentum for each update.",
            ),
            Misconception(
                "forgets the start",
                _start_forgotten,
                "It starts from zero. The teacher begins as a copy of the student.",
            ),
            Misconception(
                "sees the last student only",
                _last_student_only,
                "It makes one update, with the last student. There is one after each of "
                "them.",
            ),
            Misconception(
                "adds the whole student",
                _not_damped,
                "It adds the student with weight 1. The two weights have to sum to 1, or "
                "the teacher grows.",
            ),
        ),
        hints=(
            "One update for each student, in order.",
            "An update keeps `momentum` of the teacher, and takes the rest from the student.",
            "teacher = momentum * teacher + (1 - momentum) * student",
        ),
    ),
    Exercise(
        name="entropy_and_kl",
        chapter="dino",
        title="Split the loss in two",
        difficulty=2,
        minutes=8,
        trains="splits a cross-entropy into what a student can lower and what not",
        reference=entropy_and_kl,
        inputs=_draw_distributions,
        properties=(
            Property("the two sum to the cross-entropy", _sum_is_the_loss),
            Property("the KL of equal distributions is 0", _kl_of_equals_is_zero),
        ),
        misconceptions=(
            Misconception(
                "takes the cross-entropy for the KL",
                _cross_entropy_for_kl,
                "The second number is the whole cross-entropy. For equal distributions it "
                "would have to be zero.",
            ),
            Misconception(
                "measures the KL the other way round",
                _other_direction,
                "It is the KL from the teacher to the student's outputs, weighted by the "
                "student. Whose probabilities weigh the logarithms in the loss?",
            ),
            Misconception(
                "counts in bits",
                _in_bits,
                "It takes logarithms to the base 2. The loss is in nats, base e.",
            ),
            Misconception(
                "takes the entropy of the mean",
                _of_the_mean,
                "It averages the outputs of the batch first. That entropy is high when the "
                "images differ, however sure the teacher is of each.",
            ),
            Misconception(
                "takes the student's entropy",
                _of_the_student,
                "The first number is the student's. The part that the student cannot change "
                "is the teacher's.",
            ),
            Misconception(
                "takes the mean over the outputs",
                _mean_of_all,
                "It divides by the number of outputs. Sum over the outputs, then take the "
                "mean over the images.",
            ),
        ),
        hints=(
            "Entropy: - sum of P log P. What must be added to reach - sum of P log Q?",
            "KL = cross-entropy - entropy.",
            "entropy = -(teacher * teacher.log()).sum(-1).mean()",
        ),
    ),
    Exercise(
        name="neighbor_votes",
        chapter="dino",
        title="Let the neighbors vote",
        difficulty=3,
        minutes=12,
        trains="judges features without training, by votes of near neighbors",
        reference=neighbor_votes,
        inputs=_draw_bank,
        properties=(
            Property(
                "how long a feature vector is does not matter", _length_is_harmless
            ),
        ),
        misconceptions=(
            Misconception(
                "compares without normalizing",
                _dot_products,
                "Long vectors win whatever their direction. Near is a high cosine: bring "
                "both to length 1.",
            ),
            Misconception(
                "gives every neighbor one vote",
                _equal_votes,
                "It counts the neighbors. Here a nearer one has a larger vote, "
                "exp(cosine / temperature).",
            ),
            Misconception(
                "lets everyone vote",
                _everyone_votes,
                "All training examples vote, and not the k nearest.",
            ),
            Misconception(
                "asks the farthest",
                _farthest,
                "It takes the smallest cosines. A cosine is a similarity: large is near.",
            ),
            Misconception(
                "votes with the cosine itself",
                _cosines_vote,
                "A vote is the cosine and no more. What became of the temperature?",
            ),
            Misconception(
                "keeps a class's last vote only",
                _last_vote_stays,
                "votes[labels] = ... overwrites where two neighbors have one label. Votes "
                "are added up (index_add, or +=).",
            ),
        ),
        hints=(
            "Normalize, multiply, topk.",
            "The vote of a neighbor goes to its label; several may go to one.",
            "torch.zeros(num_classes).index_add(0, labels[nearest], weights)",
        ),
    ),
)
