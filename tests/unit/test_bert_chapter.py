"""The experiments of the chapter on BERT: their data, their scores, their stored tables."""

from __future__ import annotations

import pytest
import torch

from companion.analysis import (
    finetuning,
    masking,
    name_tagging,
    pretraining,
    semantic_search,
)
from companion.analysis import question_answering as qa
from companion.data.bible_names import mark_names
from companion.data.bible_questions import Question
from companion.data.tokenizers import load_tokenizer
from companion.models.bert import BERT
from companion.models.bert_tasks import BERTForTokenClassification
from companion.runtime import device


@pytest.fixture(scope="module")
def tokenizer():
    from companion.data.assets import fetch

    return load_tokenizer(fetch("minilm"))


class TestSearch:
    def test_ranks_give_ties_the_worst_place(self):
        scores = torch.tensor([[0.9, 0.5, 0.5, 0.1], [0.0, 0.0, 0.0, 0.0]])
        assert semantic_search.ranks(scores, [1, 2]) == [3, 4]
        assert semantic_search.recall([3, 4], 3) == 0.5

    def test_word_overlap_prefers_rare_shared_words(self):
        texts = ["the king went", "the king wept", "the ark rested", "a king"]
        scores = semantic_search.word_overlap(["who wept for the king"], texts)[0]
        assert scores.argmax() == 1 and scores[2] > 0

    def test_stems(self):
        scores = semantic_search.word_overlap(["he loves"], ["she loveth", "we go"])
        assert scores[0, 0] > 0 and scores[0, 1] == 0

    def test_vectors_have_length_one_and_no_trace_of_the_batch(self, tokenizer):
        torch.manual_seed(0)
        model = BERT(tokenizer.vocab_size, 16, 4, 32, 1, 64).to(device()).eval()
        texts = ["a b c", "a much longer text than the other one", "x"]
        together = semantic_search.embed(model, tokenizer, texts)
        assert torch.allclose(together.norm(dim=1), torch.ones(3), atol=1e-5)
        for i, text in enumerate(texts):
            alone = semantic_search.embed(model, tokenizer, [text])
            assert torch.allclose(together[i], alone[0], atol=1e-5)

    def test_table(self):
        stored = semantic_search.stored_ranks()
        assert set(stored) == {"MiniLM", "untrained", "BM25"}
        assert all(len(places) == 36 for places in stored.values())


class TestMasking:
    def test_ways_to_hide(self):
        ids = torch.randint(0, 27, (50, 16))
        draw = torch.Generator().manual_seed(0)
        inputs, labels = masking.hide(ids, "nothing hidden", draw)
        assert torch.equal(inputs, ids) and torch.equal(labels, ids)
        inputs, labels = masking.hide(ids, "all hidden", draw)
        asked = labels != -100
        assert (inputs[asked] == masking.MASK_ID).all()
        assert torch.equal(inputs[~asked], ids[~asked])
        inputs, labels = masking.hide(ids, "80/10/10", draw)
        asked = labels != -100
        hidden = (inputs[asked] == masking.MASK_ID).float().mean()
        assert 0.6 < hidden < 0.95


class TestFineTuning:
    def test_sentiment_parts_are_apart(self):
        train, test = finetuning.sentiment_data(100, 50)
        longer, _ = finetuning.sentiment_data(200, 50)
        assert not set(train.texts) & set(test.texts)
        assert longer.first(100).texts == train.texts
        assert 0.3 < test.labels.float().mean() < 0.7

    def test_frozen_layers_stay_and_the_others_move(self):
        torch.manual_seed(0)
        model = BERTForTokenClassification(BERT(20, 16, 4, 32, 3, 8), 2).to(device())
        before = {name: p.clone() for name, p in model.named_parameters()}
        batch = {
            "token_ids": torch.randint(1, 20, (4, 6)),
            "labels": torch.randint(0, 2, (4, 6)),
        }
        finetuning.fine_tune(
            model, [batch] * 3, epochs=4, frozen_layers=2, progress=False
        )
        moved = {n for n, p in model.named_parameters() if not p.equal(before[n])}
        assert moved and all(
            name.startswith(("encoder.layers.2", "output")) for name in moved
        )

    def test_learns_what_can_be_learned(self):
        torch.manual_seed(0)
        model = BERTForTokenClassification(BERT(20, 16, 4, 32, 1, 8), 2).to(device())
        ids = torch.randint(1, 20, (32, 6))
        batch = {"token_ids": ids, "labels": (ids > 10).long()}
        rows = finetuning.fine_tune(
            model, [batch], epochs=60, peak_lr=5e-3, progress=False
        )
        assert rows[-1]["loss"] < 0.1 < 0.5 < rows[0]["loss"]


class TestNames:
    def test_labels_stand_on_first_tokens(self, tokenizer):
        text = mark_names("And Nebushasban went unto Jesse’s son")
        batch = name_tagging.name_batches(tokenizer, [text])[0]
        assert (batch["labels"] != -100).sum() == len(text.words)
        assert (batch["labels"] == 1).sum() == sum(text.is_name)
        tokens = tokenizer.tokens(text.text)
        named = [tokens[i] for i in (batch["labels"][0] == 1).nonzero()[:, 0]]
        assert named[0].startswith("ne") and named[1] == "jesse"

    def test_scores(self):
        train = [mark_names("And Moses spake unto Aaron")]
        test = [mark_names("And Moses spake unto Caleb and Aaron")]
        found = name_tagging.find_known_names(train, test)
        result = name_tagging.scores(test, found, train)
        assert result["precision"] == 1 and result["recall"] == pytest.approx(2 / 3)
        assert result["unseen recall"] == 0
        everything = name_tagging.scores(test, [test[0].spans], train)
        assert set(everything.values()) == {1.0}
        nothing = name_tagging.scores(test, [()], train)
        assert set(nothing.values()) == {0.0}

    def test_a_name_with_a_wrong_end_does_not_count(self):
        test = [mark_names("unto the LORD God of hosts")]
        (first, last) = test[0].spans[0]
        assert last == first + 1
        assert name_tagging.scores(test, [((first, first),)], [])["f1"] == 0

    def test_table(self):
        stored = name_tagging.stored_scores()
        assert stored["fine-tuned MiniLM"]["f1"] > stored["dictionary"]["f1"]


class TestQuestions:
    question = Question(
        "Who begat Shechem?", "And Hamor begat Shechem.", 4, 9, "father", "x"
    )

    def test_grades(self):
        assert qa.exact_match("The Hamor,", "hamor") == 1
        assert qa.word_f1("Hamor begat", "Hamor") == pytest.approx(2 / 3)
        assert qa.word_f1("Moses", "Hamor") == 0 == qa.exact_match("", "Hamor")

    def test_tokens_of_the_answer(self, tokenizer):
        first, last = qa.answer_tokens(tokenizer, self.question)
        tokens = tokenizer.tokens(self.question.question, self.question.passage)
        assert "".join(tokens[first : last + 1]).replace("##", "") == "hamor"
        assert tokens[qa.passage_start(tokenizer, self.question)] == "and"

    def test_answers_come_from_the_passage(self, tokenizer):
        questions = [self.question, qa.test_questions("by hand")[0]]
        torch.manual_seed(0)
        encoder = BERT(tokenizer.vocab_size, 16, 4, 32, 1, 128)
        model = qa.BERTForQuestionAnswering(encoder).to(device())
        for q, answer in zip(
            questions, qa.answers(model, tokenizer, questions), strict=True
        ):
            assert answer and answer in q.passage

    def test_rules(self):
        assert qa.nearest_name(self.question) == "Hamor"
        assert qa.random_span(self.question) == qa.random_span(self.question)
        old = Question(
            "How old was David?", "And David was thirty years old", 14, 26, "age", "x"
        )
        assert qa.nearest_name(old) == "thirty years"

    def test_table(self):
        stored = qa.stored_grades()
        assert set(stored) == {*qa.BASELINES, "untrained head", "fine-tuned MiniLM"}
        assert set(stored["random span"]) == set(qa.TESTS)


class TestPreTraining:
    def test_held_out_chapters(self):
        split = pretraining.bible_split()
        train = {(v.book, v.chapter) for v in split.train}
        test = {(v.book, v.chapter) for v in split.test}
        assert not train & test and len(train) + len(test) == 1189
        assert len(split.train) + len(split.test) == 31_102
        held_out = {v.text for v in split.test if len(v.text) > 80}
        seen = {
            text for document in pretraining.training_documents() for text in document
        }
        assert len(held_out & seen) < 30  # the Bible repeats a few verses word for word

    def test_labels_are_balanced(self):
        train, test = pretraining.part_data(60, seed=1, num_test=120)
        assert train.labels.bincount().tolist() == [10] * 6
        assert test.labels.bincount().tolist() == [20] * 6
        assert train.texts != pretraining.part_data(60, seed=2)[0].texts

    def test_batches(self):
        documents = [[[5 + i, 6 + i, 7 + i]] * 6 for i in range(20)]
        pairs = pretraining.make_pairs(documents, seed=0)
        batches = pretraining.PreTrainingBatches(pairs, size=4)
        first = [batch["token_ids"] for batch in batches]
        assert all(map(torch.equal, first, (b["token_ids"] for b in batches)))
        batches.set_epoch(1)
        assert not all(map(torch.equal, first, (b["token_ids"] for b in batches)))

    def test_writes_no_padding_and_keeps_the_prompt(self):
        model = pretraining.new_model()
        for order in pretraining.ORDERS:
            text = pretraining.write_on(model, "And it came", 4, order=order)
            assert text.startswith("and it came") and "[MASK]" not in text

    def test_table(self):
        stored = pretraining.stored_results()
        accuracy = stored["part of the Bible"]
        for name in ("pre-trained", "from scratch", "bag of words"):
            for number in pretraining.LABELS:
                assert len(accuracy[name, number]) == pretraining.SEEDS
        assert set(pretraining.stored_samples()) == {"guesses", "written"}
