"""Recall, its interval, the simple methods, the probes; and the table that is kept."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from companion.analysis import clip_probes, clip_retrieval
from companion.analysis.clip_retrieval import confidence, own_ranks, recall
from companion.data.openmoji import KINDS, openmoji
from companion.figures import PictureSearch
from companion.training.clip import Captions, small_clip


@pytest.fixture(scope="module")
def pair():
    return openmoji(progress=False).split(250, 0)


def test_ranks_and_recall_by_hand():
    scores = torch.tensor([[3.0, 1.0, 2.0], [5.0, 4.0, 3.0], [1.0, 1.0, 1.0]])
    ranks = own_ranks(scores)
    assert ranks.tolist() == [1, 2, 3]  # equal scores count against it
    assert recall(ranks, 1) == pytest.approx(1 / 3) and recall(ranks, 3) == 1.0
    with pytest.raises(ValueError, match=r"\(2, 3\)"):
        own_ranks(torch.zeros(2, 3))


def test_the_interval_holds_the_share_and_shrinks_with_more_queries():
    torch.manual_seed(0)
    widths = []
    for n in (100, 1600):
        ranks = torch.randint(1, 101, (n,))
        low, high = confidence(ranks, 20)
        assert low < recall(ranks, 20) < high
        widths.append(high - low)
    assert widths[1] < widths[0] / 3
    # As the formula for a share has it.
    assert widths[0] == pytest.approx(2 * 1.96 * (0.2 * 0.8 / 100) ** 0.5, rel=0.25)


def test_a_blind_guess_has_the_recall_of_chance():
    torch.manual_seed(0)
    found = [recall(own_ranks(torch.randn(250, 250)), 10) for _ in range(20)]
    assert sum(found) / 20 == pytest.approx(0.04, abs=0.01)


def test_simple_methods_are_above_chance_and_perfect_on_what_they_saw(pair):
    train, test = pair
    for scores in (
        clip_retrieval.neighbor_scores(train, test),
        clip_retrieval.histogram_scores(train, test),
    ):
        assert scores.shape == (250, 250)
        assert 0.07 < recall(own_ranks(scores), 10) < 0.35
    seen = train[:100]
    own = clip_retrieval.neighbor_scores(train, seen)
    assert (own.argmax(dim=1) == torch.arange(100)).float().mean() > 0.95


def test_shuffled_names_hold_the_same_words_in_another_order():
    mixed = clip_retrieval.shuffled("cat with wry smile")
    assert sorted(mixed.split()) == ["cat", "smile", "with", "wry"]
    assert mixed != "cat with wry smile"
    assert clip_retrieval.shuffled("cat with wry smile") == mixed
    assert clip_retrieval.shuffled("cat") == "cat"


def test_the_table_has_all_runs_with_three_seeds_above_chance():
    stored = clip_retrieval.stored_results()
    expected = {"nearest picture", "colors, ridge", "CLIP, words shuffled"}
    assert set(stored) == expected | set(clip_retrieval.RUNS)
    for of_run in stored.values():
        assert set(of_run) == set(clip_retrieval.DIRECTIONS)
        for rows in of_run.values():
            assert len(rows) == 3
            for row in rows:
                assert row["recall@1"] <= row["recall@5"] <= row["recall@10"]
                assert row["low@10"] <= row["recall@10"] <= row["high@10"]
    for rows in stored["CLIP"].values():  # chance is 4 %
        assert all(row["low@10"] > 0.06 for row in rows)


def test_a_run_trains_and_gives_scores():
    run = clip_retrieval.Run(steps=3, batch_size=32)
    trained = clip_retrieval.train_run(run, 0, progress=False)
    scores = trained.scores()
    assert scores.shape == (250, 250) and scores.abs().max() <= 1 + 1e-5
    assert len(trained.history) == 3
    rows = clip_retrieval.rows_of(scores)
    assert [row["direction"] for row in rows] == list(clip_retrieval.DIRECTIONS)
    texts = trained.texts(["a", "b"])
    assert torch.allclose(texts.norm(dim=1), torch.ones(2), atol=1e-5)
    # The probes run on it.
    table = clip_probes.counting_table(trained)
    assert table.sum(dim=1).tolist() == [8] * 4
    choice = clip_probes.binding_choices()[0]
    assert clip_probes.chosen(trained, choice.scenes, choice.texts).shape == (2,)


def test_rows_only_is_half_of_the_loss():
    torch.manual_seed(0)
    pictures = openmoji(progress=False)[:16]
    captions = Captions([t for texts in pictures.captions for t in texts], 200)
    model = small_clip(captions).eval()
    images, ids = pictures.images.to(model.logit_scale.device), captions(pictures.names)
    ids = ids.to(images.device)
    total, count = clip_retrieval._loss_of_rows(model, (images, ids))
    logits = model(images, ids)
    rows = F.cross_entropy(logits, torch.arange(16, device=logits.device))
    assert count == 16 and torch.isclose(total / 16, rows)


def test_scenes_and_kinds(pair):
    _, test = pair
    parts = [torch.full((3, 32, 32), value) for value in (0.1, 0.2, 0.3)]
    scene = clip_probes.scene(parts)
    assert scene[0, 3, 3] == pytest.approx(0.1) and scene[0, 3, 30] == pytest.approx(
        0.2
    )
    assert scene[0, 30, 3] == pytest.approx(0.3) and scene[0, 30, 30] == 1.0
    with pytest.raises(ValueError, match="one to four"):
        clip_probes.scene([])
    held, kinds = clip_probes.of_a_kind(test)
    assert len(held) == len(kinds) and int(kinds.max()) < len(KINDS)
    assert held.kinds[0] == list(KINDS)[int(kinds[0])]
    choices = clip_probes.binding_choices()
    assert len(choices) == 24
    assert sorted(choices[0].texts[0].split()) == sorted(choices[0].texts[1].split())


def test_few_labels_learns_more_from_more():
    torch.manual_seed(0)
    y = torch.arange(300) % 3
    X = F.one_hot(y, 3) * 2.0 + torch.randn(300, 3)
    (row, *_) = clip_probes.few_labels((X[:200], y[:200]), (X[200:], y[200:]), (1, 60))
    assert row[1] > 0.8 and row[1] >= row[0]


def test_the_search_figure_refuses_and_describes(pair):
    _, test = pair
    captions = Captions(["a cat", "a dog"], 30)
    model = small_clip(captions)
    figure = PictureSearch(model, captions, test[:5], "a cat")
    assert repr(figure) == "<interactive figure: search among 5 pictures>"
    assert (
        figure.to_html() == PictureSearch(model, captions, test[:5], "a cat").to_html()
    )
    figure.query = " "
    assert (figure.scores() == 0).all()
    figure.like = 3
    assert figure.found(1) == [test.names[3]]
    with pytest.raises(ValueError, match="at least one picture"):
        PictureSearch(model, captions, test[:0])
    with pytest.raises(ValueError, match="of the 5 pictures"):
        PictureSearch(model, captions, test[:5], marked=[True])
    model.text.eos_id = None
    with pytest.raises(TypeError, match="CLIPText"):
        PictureSearch(model, captions, test[:5])
