"""OpenMoji: every picture whole, every concept on one side of the split; pairs for training."""

from __future__ import annotations

import math

import pytest
import torch

from companion.data.openmoji import (
    KINDS,
    NamedPictures,
    code_points,
    openmoji,
    words,
)
from companion.training.clip import (
    Captions,
    PairBatches,
    normalized,
    small_clip,
    train_clip,
)


@pytest.fixture(scope="module")
def pictures() -> NamedPictures:
    return openmoji(32, progress=False)


def test_every_picture_has_ink_and_a_name_of_its_own(pictures):
    assert len(pictures) == 1652 == len(set(pictures.names))
    assert pictures.images.shape == (1652, 3, 32, 32)
    assert 0 <= pictures.images.min() and pictures.images.max() <= 1
    assert (pictures.images < 0.9).any(dim=1).flatten(1).sum(dim=1).min() > 10
    assert all(
        texts[0] == name
        for texts, name in zip(pictures.captions, pictures.names, strict=True)
    )


def test_only_two_pictures_touch_the_edge():
    pictures = openmoji(128, progress=False)
    ink = (pictures.images < 0.95).any(dim=1)
    edges = (ink[:, 0], ink[:, -1], ink[:, :, 0], ink[:, :, -1])
    cut = torch.cat(edges, dim=1).any(dim=1)
    touching = {pictures.names[i] for i in cut.nonzero()}
    assert touching == {"roll of paper", "eye in speech bubble"}


def test_colors_are_those_of_the_font(pictures):
    """A red heart is red, and a sequence of characters is one picture."""
    red, green, _ = pictures.images[pictures.find("red heart"), :, 16, 16]
    assert red > 0.7 and green < 0.4
    two = pictures.images[[pictures.find("woman astronaut"), pictures.find("rocket")]]
    assert (two[0] - two[1]).abs().mean() > 0.05
    assert len(code_points(pictures.characters[pictures.find("woman astronaut")])) == 3


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_held_out_are_concepts_with_all_variants_and_names(pictures, seed):
    train, test = pictures.split(250, seed)
    assert len(test) == 250 == len(set(test.concepts))
    assert not set(train.concepts) & set(test.concepts)
    asked = {tuple(words(name)) for name in test.names}
    assert not asked & {tuple(words(t)) for texts in train.captions for t in texts}
    assert min(map(len, train.captions)) >= 1
    assert pictures.split(250, seed)[1].names == test.names


def test_variants_are_one_concept(pictures):
    def concept(name: str) -> str:
        return pictures.concepts[pictures.find(name)]

    assert concept("man swimming") == concept("woman swimming")
    assert concept("man with white cane facing right") == concept(
        "person with white cane"
    )
    assert concept("three o’clock") != concept("four o’clock")


def test_kinds(pictures):
    kinds = dict(zip(pictures.names, pictures.kinds, strict=True))
    assert kinds["grinning face"] == "face" and kinds["dog"] == "animal"
    assert kinds["banana"] == "food" and kinds["anchor"] is None
    assert set(filter(None, pictures.kinds)) == set(KINDS)


def test_words():
    assert words("O'clock: keycap #, naïve (AB)") == [
        "o’clock", "keycap", "#", "naïve", "ab",
    ]  # fmt: skip


def test_errors(pictures):
    with pytest.raises(ValueError, match="side must be from 8 to 128, but it is 4"):
        openmoji(4)
    with pytest.raises(ValueError, match="'unicorns'"):
        pictures.find("unicorns")
    with pytest.raises(ValueError, match="held_out must be at least 1"):
        pictures.split(0)
    with pytest.raises(ValueError, match="batch_size must be from 2 to 3"):
        some = pictures[:3]
        PairBatches(some, Captions(some.names, 100), 8)
    with pytest.raises(TypeError, match="one string"):
        Captions(["a cat"], 20)("a cat")


def test_texts_begin_and_end_and_are_cut():
    captions = Captions(["red heart", "blue heart"], 40, max_seq_len=6)
    ids = captions(["red heart", "a very long text about red and blue hearts"])
    assert (ids[:, 0] == captions.tokenizer.bos_id).all()
    assert ids.shape == (2, 6) and ids[1, -1] == captions.eos_id
    assert captions.eos_id in ids[0].tolist()


def test_an_epoch_is_a_function_of_seed_and_epoch(pictures):
    some = pictures[:40]
    captions = Captions([t for texts in some.captions for t in texts], 300)

    def epoch(seed: int, number: int, **options) -> list:
        batches = PairBatches(some, captions, 16, seed=seed, **options)
        batches.set_epoch(number)
        return list(batches)

    one, same, other = epoch(0, 1), epoch(0, 1), epoch(0, 2)
    assert len(one) == 2
    for a, b in zip(one, same, strict=True):
        assert torch.equal(a.images, b.images) and torch.equal(a.token_ids, b.token_ids)
    assert not torch.equal(one[0].images, other[0].images)
    moved = epoch(0, 1, augment=True)
    gap = (moved[0].images - one[0].images).abs().mean()
    assert 0.05 < gap < 1.0


def test_each_picture_comes_with_its_own_words(pictures):
    some = pictures[:60]
    captions = Captions([t for texts in some.captions for t in texts], 300)
    for alone in (0.0, 1.0):
        for images, ids in PairBatches(some, captions, 20, words_alone=alone):
            for image, row in zip(images, ids, strict=True):
                place = (
                    (normalized(some.images) - image).abs().flatten(1).sum(1).argmin()
                )
                text = captions.tokenizer.decode(row)
                own = {w for caption in some.captions[place] for w in words(caption)}
                whole = {" ".join(words(c)) for c in some.captions[place]}
                if alone:
                    assert text in own | whole
                else:
                    assert text in whole


def test_training_learns_a_few_pairs_and_keeps_the_temperature_in_bounds(pictures):
    some = pictures[list(range(0, 1600, 100))]
    captions = Captions([t for texts in some.captions for t in texts], 200)
    torch.manual_seed(0)
    model = small_clip(captions, temperature=0.011)
    batches = PairBatches(some, captions, 16, words_alone=0.0)
    history = train_clip(model, batches, 60, lr=3e-3, progress=False)
    assert history[-1]["loss"] < 0.5 * history[0]["loss"]
    assert all(row["temperature"] >= 0.01 - 1e-6 for row in history)
    with torch.no_grad():
        images = normalized(some.images).to(model.logit_scale.device)
        ids = captions(some.names).to(images.device)
        assert (
            model(images, ids).argmax(1).cpu() == torch.arange(16)
        ).float().mean() > 0.8
    fixed = small_clip(captions, temperature=0.2)
    train_clip(fixed, batches, 2, learn_temperature=False, progress=False)
    assert math.isclose(fixed.temperature, 0.2, rel_tol=1e-5)
