"""The annotated sentences: the gold answers must be right, and hard to guess by distance."""

from __future__ import annotations

from collections import Counter

import pytest

from companion.data.annotated import (
    RELATIONS,
    AnnotatedSentence,
    coreference_pairs,
    grammar_sentences,
)

SENTENCES = grammar_sentences(400)
PAIRS = coreference_pairs()
DETERMINERS = {"the", "this", "these", "some"}
POSSESSIVES = {"my", "your", "our", "their", "her", "his"}
PREPOSITIONS = {"in", "near", "behind", "from", "with", "without", "for", "beside"}
CONJUNCTIONS = {"because", "while", "before", "after", "if", "although"}
AUXILIARIES = {"will", "can", "must", "should", "have", "has", "were", "was"}
OF_RELATION = {
    "det": DETERMINERS,
    "poss": POSSESSIVES,
    "prep": PREPOSITIONS,
    "mark": CONJUNCTIONS,
    "aux": AUXILIARIES,
}


def test_sentences_are_different_and_the_same_each_time():
    assert len({s.words for s in SENTENCES}) == 400
    assert grammar_sentences(400) == SENTENCES
    assert grammar_sentences(20, seed=1) != SENTENCES[:20]
    assert grammar_sentences(20) == SENTENCES[:20]


def test_every_relation_occurs_often():
    number = Counter(arc.relation for s in SENTENCES for arc in s.arcs)
    assert set(number) == set(RELATIONS)
    assert min(number.values()) > 50


@pytest.mark.parametrize("relation", RELATIONS)
def test_no_fixed_distance_explains_a_relation(relation):
    distances = Counter(
        head - dependent for s in SENTENCES for dependent, head in s.pairs(relation)
    )
    assert len(distances) >= 2
    assert max(distances.values()) < 0.85 * distances.total()


@pytest.mark.parametrize("relation", OF_RELATION)
def test_closed_class_words_and_relations_belong_together(relation):
    """Each such word has its arc, and no other word has one."""
    for s in SENTENCES:
        has_arc = {dependent for dependent, _ in s.pairs(relation)}
        of_class = {
            i for i, word in enumerate(s.words) if word.lower() in OF_RELATION[relation]
        }
        assert has_arc == of_class, s


def test_a_word_has_at_most_one_head_of_a_relation():
    for s in SENTENCES:
        dependents = [(arc.relation, arc.dependent) for arc in s.arcs]
        assert len(dependents) == len(set(dependents))
        assert all(arc.dependent != arc.head for arc in s.arcs)


def test_subjects_agree_with_the_verbs_next_to_them():
    singular = {"was", "has"}
    for s in SENTENCES:
        subjects = {head: dependent for dependent, head in s.pairs("nsubj")}
        for helper, verb in s.pairs("aux"):
            if verb not in subjects or s.words[helper] not in singular | {
                "were",
                "have",
            }:
                continue
            noun = s.words[subjects[verb]]
            plural = noun.endswith("s") or noun in ("children", "women")
            assert plural == (s.words[helper] not in singular), str(s)


def test_sentences_read_as_sentences():
    for s in SENTENCES:
        text = str(s)
        assert text[0].isupper() and text.endswith(".") and " ." not in text
        assert " , " not in text
    assert str(AnnotatedSentence(("Yes", ",", "here", "."), ())) == "Yes, here."


def test_number_of_sentences_is_checked():
    assert grammar_sentences(0) == []
    with pytest.raises(ValueError, match="number must not be negative, but it is -1"):
        grammar_sentences(-1)


def test_coreference_pairs_swap_antecedent_and_distractor():
    assert 20 <= len(PAIRS) and 40 <= 2 * len(PAIRS) <= 60
    for first, second in PAIRS:
        assert first.cue == second.cue
        nouns = first.words[first.antecedent], first.words[first.distractor]
        assert nouns == (
            second.words[second.distractor],
            second.words[second.antecedent],
        )
        assert first.pronoun == second.pronoun
        assert first.words[: first.pronoun] == second.words[: second.pronoun]
        assert first.words != second.words


def test_the_nearest_noun_is_right_exactly_half_the_time():
    flat = [s for pair in PAIRS for s in pair]
    nearest = sum(s.antecedent > s.distractor for s in flat)
    assert nearest == len(flat) / 2


def test_pronouns_agree_with_their_nouns():
    """Gender and number decide where they are the cue, and must not where plausibility does."""
    for first, second in PAIRS:
        pronouns = {s.words[s.pronoun] for s in (first, second)}
        assert pronouns <= {"he", "she", "it", "they"}
        if first.cue == "plausibility":
            assert len(pronouns) == 1
        else:
            assert len(pronouns) == 2
        for s in (first, second):
            noun = s.words[s.antecedent]
            plural = noun == "children" or noun.endswith("s")
            plural &= not noun.endswith("ss")  # grass, actress
            plural &= noun != "canvas"
            assert plural == (s.words[s.pronoun] == "they"), str(s)


def test_marks_are_gone_from_the_words():
    for pair in PAIRS:
        for s in pair:
            assert not set("".join(s.words)) & set("*{}[]")
            assert len({s.pronoun, s.antecedent, s.distractor}) == 3
