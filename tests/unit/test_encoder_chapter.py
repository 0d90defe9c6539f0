"""The data, the ablated layers and the measurements of the chapter on the encoder."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from companion import EncoderLayer, TransformerEncoder, record_attention
from companion.analysis import depth, language_id
from companion.data.languages import (
    LANGUAGES,
    LabelledText,
    emoji_names,
    family,
    language_texts,
)
from companion.runtime import device

TEXTS = [
    LabelledText("mit brille", "de"),
    LabelledText("glasses", "en"),
    LabelledText("occhiali", "it"),
    LabelledText("a", "tr"),
]


@pytest.fixture(scope="module")
def split():
    return language_texts()


class TestTexts:
    def test_names_are_plain(self):
        names = emoji_names("de")
        assert names["😂"] == "gesicht mit freudentränen"
        assert emoji_names("en")["🥇"] == "1st place medal"
        assert len(names) > 1000
        assert not any("_" in name or ":" in name for name in names.values())

    def test_without_flags_and_skin_tones(self):
        names = emoji_names("en")
        assert "🇩🇪" not in names and "👍🏽" not in names and "👍" in names
        assert not any("skin tone" in name for name in names.values())
        flags = [name for name in names.values() if name.startswith("flag")]
        assert flags == ["flag in hole"]  # on a golf course
        assert "england" not in names.values() and "pirate flag" in names.values()

    def test_unknown_language(self):
        with pytest.raises(ValueError, match="language must be one of ar, de, en"):
            emoji_names("xx")

    @pytest.mark.parametrize(
        ("emoji", "other"),
        [
            ("👨\u200d🚒", "👩\u200d🚒"),
            ("🏃\u200d♀️", "🏃"),
            ("🧑\u200d🎨", "👩\u200d🎨"),
        ],
    )
    def test_forms_of_one_person_are_a_family(self, emoji, other):
        assert family(emoji) == family(other)
        assert family("🐈") != family("🐕")

    def test_no_family_is_on_both_sides(self, split):
        """A family's names of all languages are on one side, or are left out."""
        train, test = (set(side) for side in split)
        assert not train & test
        for language in LANGUAGES:
            families = [
                {
                    family(emoji)
                    for emoji, text in emoji_names(language).items()
                    if LabelledText(text, language) in side
                }
                for side in (train, test)
            ]
            # A name that two families share is in training only.
            assert len(families[0] & families[1]) <= 0.02 * len(families[1])

    def test_a_text_has_one_language(self, split):
        seen = {}
        for item in [*split[0], *split[1]]:
            assert seen.setdefault(item.text, item.language) == item.language

    def test_sizes_and_repeatability(self, split):
        train, test = split
        assert 0.17 < len(test) / (len(train) + len(test)) < 0.23
        assert {item.language for item in test} == set(LANGUAGES)
        assert language_texts() == split
        assert language_texts(seed=1) != split

    def test_bad_arguments(self):
        with pytest.raises(ValueError, match="at least two"):
            language_texts(("de",))
        with pytest.raises(ValueError, match="test_share must be between 0 and 1"):
            language_texts(test_share=1.0)


class TestAblatedLayer:
    @pytest.mark.parametrize("norm", ["pre", "post"])
    def test_with_all_parts_it_is_the_encoder_layer(self, norm):
        torch.manual_seed(0)
        ours = depth.AblatedLayer(16, 4, norm=norm)
        layer = EncoderLayer(16, 4, 64, 0.0, norm_first=norm == "pre")
        attention, feed_forward = ours.sublayers
        layer.self_attention.load_state_dict(attention.state_dict())
        layer.feed_forward.load_state_dict(feed_forward.state_dict())
        x = torch.randn(2, 5, 16)
        torch.testing.assert_close(ours(x), layer(x))

    def test_alone_it_is_attention(self):
        torch.manual_seed(0)
        ours = depth.AblatedLayer(
            16, 4, residual=False, norm="none", feed_forward=False
        )
        x = torch.randn(2, 5, 16)
        torch.testing.assert_close(ours(x), ours.sublayers[0](x)[0])

    def test_parts_left_out(self):
        torch.manual_seed(0)
        x = torch.randn(2, 5, 16)
        bare = depth.AblatedLayer(16, 4, norm="none", feed_forward=False)
        torch.testing.assert_close(bare(x), x + bare.sublayers[0](x)[0])
        norm = depth.AblatedLayer(16, 4, residual=False, feed_forward=False)
        expected = F.layer_norm(norm.sublayers[0](x)[0], (16,))
        torch.testing.assert_close(norm(x), expected)


class TestDistinctness:
    def test_extremes(self):
        same = torch.ones(2, 1, 8).expand(2, 5, 8)
        assert depth.distinctness(same) == 0
        apart = torch.tensor([[[1.0, 0.0], [-1.0, 0.0]]])
        assert depth.distinctness(apart) == pytest.approx(1)

    def test_by_hand(self):
        """Rows (3, 0) and (5, 0): mean 4, |apart| = sqrt 2, |x| = sqrt 34."""
        x = torch.tensor([[[3.0, 0.0], [5.0, 0.0]]])
        assert depth.distinctness(x) == pytest.approx(math.sqrt(2 / 34))

    def test_of_each_layer(self):
        class Mean(nn.Module):
            def forward(self, x):
                return x.mean(dim=1, keepdim=True).expand_as(x)

        x = torch.randn(2, 5, 8, dtype=torch.float64) + 3
        found = depth.distinctness_by_depth([nn.Identity(), Mean()], x)
        assert found[0] == found[1] == depth.distinctness(x)
        assert found[2] < 1e-12


class TestGradients:
    def test_length_of_a_known_gradient(self):
        """loss = 3 w_1 + 4 w_2 for a layer's two weights, 0 for the other layer."""
        layers = [nn.Linear(2, 1, bias=False), nn.Linear(2, 1)]
        loss = layers[0](torch.tensor([3.0, 4.0])).sum()
        assert depth.layer_gradients(loss, layers) == [5.0, 0.0]

    def test_one_number_a_layer(self):
        found = depth.stack_gradients(3, norm="pre")
        assert len(found) == 3 and all(g > 0 for g in found)
        assert found == depth.stack_gradients(3, norm="pre")
        assert found != depth.stack_gradients(3, norm="pre", seed=1)

    def test_of_a_classifier(self):
        letters = language_id.Letters(TEXTS)
        post = depth.classifier_gradients(3, False, letters, TEXTS)
        pre = depth.classifier_gradients(3, True, letters, TEXTS)
        assert len(post) == len(pre) == 3 and post != pre

    def test_first_step(self):
        """Adam's first step has the size of the rate, so half the rate moves half as far."""
        letters = language_id.Letters(TEXTS)
        moved = [
            depth.first_step_change(2, True, letters, TEXTS, rate=rate)
            for rate in (1e-5, 5e-6)
        ]
        assert moved[0] / moved[1] == pytest.approx(2, rel=0.05)
        assert 0 < moved[0] < 0.01


class TestClassifier:
    def test_letters(self):
        letters = language_id.Letters(TEXTS)
        ids = letters.encode(["ab", "a?", "x" * 100]).cpu()
        assert ids.shape == (3, language_id.MAX_LETTERS)
        assert ids[0, 2:].eq(language_id.PAD_ID).all()
        assert ids[1, 0] == ids[0, 0] and ids[1, 1] == language_id.UNKNOWN_ID
        assert len(letters) == len({x for item in TEXTS for x in item.text}) + 2

    def test_company_and_padding_change_nothing(self):
        letters = language_id.Letters(TEXTS)
        model = language_id.new_classifier(letters).eval()
        alone = model(letters.encode(["occhiali"]))
        beside = model(letters.encode(["occhiali", "mit brille und hut"]))
        torch.testing.assert_close(alone[0], beside[0])

    def test_without_positions_letters_may_be_shuffled(self):
        letters = language_id.Letters(TEXTS)
        words = letters.encode(["occhiali"]), letters.encode(["ilaihcco"])
        for positions in (True, False):
            model = language_id.new_classifier(letters, positions=positions).eval()
            same = torch.allclose(model(words[0]), model(words[1]), atol=1e-5)
            assert same is not positions

    def test_remove_positions(self):
        encoder = TransformerEncoder(10, 16, 2, 32, 1).eval()
        assert language_id.remove_positions(encoder) is encoder
        ids = torch.tensor([[4, 4, 4]])
        x = encoder.embedding(ids)
        torch.testing.assert_close(x[:, 0], x[:, 2])

    def test_training_learns_what_is_easy(self, split):
        """Turkish's dotless ı against the rest: a few steps should be enough."""
        train = [
            LabelledText("aıb" if i % 2 else "aeb", "tr" if i % 2 else "de")
            for i in range(200)
        ]
        letters = language_id.Letters(train)
        model = language_id.new_classifier(letters, dropout=0.0, d_model=32)
        losses = language_id.train_classifier(model, letters, train, steps=30, batch=32)
        assert len(losses) == 30 and losses[-1] < losses[0] / 2
        assert language_id.accuracy(model, letters, train) == 1.0
        found = language_id.predict(model, letters, ["aıb", "aeb"])
        assert found.sum(dim=1).tolist() == pytest.approx([1, 1])
        assert found[0].argmax() == language_id.CODES.index("tr")

    def test_predictions_come_in_the_order_of_the_texts(self):
        letters = language_id.Letters(TEXTS)
        model = language_id.new_classifier(letters).eval()
        texts = ["mit brille", "a", "glasses"]
        together = language_id.predict(model, letters, texts)
        for text, row in zip(texts, together, strict=True):
            alone = language_id.predict(model, letters, [text])[0]
            torch.testing.assert_close(row, alone)

    def test_every_text_once_an_epoch(self, split):
        texts = split[0][:1000]
        batches = language_id._batches(texts, 10, seed=0)
        epoch = [item for _ in range(100) for item in next(batches)]
        assert sorted(map(repr, epoch)) == sorted(map(repr, texts))

    def test_attention_by_offset(self):
        """Against a loop over all pairs of letters."""
        letters = language_id.Letters(TEXTS)
        model = language_id.new_classifier(letters).eval()
        texts = ["glasses", "a", "mit"]
        found = language_id.attention_by_offset(model, letters, texts, [-2, 0, 1])
        assert found.shape == (2, 4, 3)
        for i, offset in enumerate((-2, 0, 1)):
            seen = []
            for text in texts:
                with record_attention(model) as maps:
                    model(letters.encode([text]))
                weights = maps.stack()[:, 0]  # (layers, H, L, L)
                seen += [
                    weights[:, :, q, q + offset]
                    for q in range(len(text))
                    if 0 <= q + offset < len(text)
                ]
            torch.testing.assert_close(found[..., i], torch.stack(seen).mean(dim=0))

    def test_attention_by_letter(self):
        """One letter alone gets its fair share; shares over a text average to 1."""
        letters = language_id.Letters(TEXTS)
        model = language_id.new_classifier(letters)
        found = language_id.attention_by_letter(model, letters, ["aaa"])
        share = found[..., letters.ids["a"]]
        torch.testing.assert_close(share, torch.ones_like(share))
        found = language_id.attention_by_letter(model, letters, ["gls", "a"])
        three = sum(found[..., letters.ids[x]] for x in "gls") / 3
        torch.testing.assert_close(three, torch.ones_like(three))
        assert found[..., letters.ids["m"]].count_nonzero() == 0

    def test_baseline(self, split):
        train, test = (side[:1500] for side in split)
        single = language_id.ngram_accuracy(train, test, 1)
        runs = language_id.ngram_accuracy(train, test, 3)
        assert 0.4 < single < runs < 0.95


class TestStoredRuns:
    def test_complete(self):
        stored = depth.stored_results()
        assert stored.keys() == depth.RUNS.keys()
        for runs in stored.values():
            assert [len(row) for row in runs] == [len(depth.RATES)] * 3

    def test_labels(self):
        assert language_id.labels(TEXTS).device.type == device().type
        assert language_id.labels(TEXTS).tolist() == [0, 1, 5, 7]
