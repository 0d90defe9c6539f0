"""English sentences that say which word belongs to which: gold answers to score attention with.

Two sources, both written for this book:

- `grammar_sentences` draws sentences from a small grammar. It knows each relation because
  it made it. Adjectives, prepositional phrases, auxiliaries and relative clauses come
  between related words, so that no fixed distance explains a relation.
- `coreference_pairs` holds hand-written sentences with a pronoun. They come in twos that
  differ in a word or two, and with these the pronoun's antecedent changes from one noun to
  the other. A rule that looks at neither the pronoun nor the rest, such as "the nearest
  noun", is therefore right exactly half the time.

The relations are those of Stanford Dependencies (de Marneffe et al., 2006), which Clark et
al. (2019), "What Does BERT Look At?", use.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

# Relation -> what its dependent is, and what its head is.
RELATIONS = {
    "det": ("determiner", "noun"),
    "poss": ("possessive", "noun"),
    "amod": ("adjective", "noun"),
    "nsubj": ("subject", "verb"),
    "dobj": ("object", "verb"),
    "aux": ("auxiliary", "verb"),
    "prep": ("preposition", "what it modifies"),
    "pobj": ("noun", "preposition"),
    "mark": ("conjunction", "verb of its clause"),
}


@dataclass(frozen=True)
class Arc:
    """One relation in a sentence. ``dependent`` and ``head`` are indices of words."""

    relation: str
    dependent: int
    head: int


@dataclass(frozen=True)
class AnnotatedSentence:
    """Words, punctuation among them, and the relations between them."""

    words: tuple[str, ...]
    arcs: tuple[Arc, ...]

    def __str__(self) -> str:
        return re.sub(r" (?=[.,])", "", " ".join(self.words))

    def pairs(self, relation: str) -> list[tuple[int, int]]:
        """The ``(dependent, head)`` pairs of one relation."""
        return [(a.dependent, a.head) for a in self.arcs if a.relation == relation]


@dataclass(frozen=True)
class CoreferenceSentence:
    """A sentence with a pronoun, the noun it means, and a noun it could have meant.

    Attributes:
        words: the words, punctuation among them.
        pronoun, antecedent, distractor: indices into ``words``.
        cue: what decides: ``"gender"``, ``"number"``, ``"animacy"`` or ``"plausibility"``.
    """

    words: tuple[str, ...]
    pronoun: int
    antecedent: int
    distractor: int
    cue: str

    def __str__(self) -> str:
        return re.sub(r" (?=[.,])", "", " ".join(self.words))


def grammar_sentences(number: int, seed: int = 0) -> list[AnnotatedSentence]:
    """``number`` different sentences of 4 to about 30 words, with all their relations.

    Raises:
        ValueError: ``number`` is negative.
    """
    if number < 0:
        raise ValueError(f"number must not be negative, but it is {number}")
    rng = random.Random(seed)
    sentences: dict[tuple[str, ...], AnnotatedSentence] = {}
    while len(sentences) < number:
        sentence = _Writer(rng).sentence()
        sentences.setdefault(sentence.words, sentence)
    return list(sentences.values())


def coreference_pairs() -> list[tuple[CoreferenceSentence, CoreferenceSentence]]:
    """The hand-written pairs. The two of a pair have their antecedent and distractor swapped."""
    return [
        (_read_coreference(first, cue), _read_coreference(second, cue))
        for cue, pairs in _COREFERENCE.items()
        for first, second in pairs
    ]


# The grammar

# Nouns are (singular, plural), verbs (base, third person, past, -ing, past participle).
_PEOPLE = [
    ("teacher", "teachers"),
    ("farmer", "farmers"),
    ("doctor", "doctors"),
    ("sailor", "sailors"),
    ("painter", "painters"),
    ("soldier", "soldiers"),
    ("lawyer", "lawyers"),
    ("nurse", "nurses"),
    ("child", "children"),
    ("woman", "women"),
    ("neighbor", "neighbors"),
    ("student", "students"),
]
_THINGS = [
    ("book", "books"),
    ("letter", "letters"),
    ("lamp", "lamps"),
    ("basket", "baskets"),
    ("bottle", "bottles"),
    ("chair", "chairs"),
    ("coat", "coats"),
    ("picture", "pictures"),
    ("key", "keys"),
    ("cake", "cakes"),
]
_ANIMALS = [
    ("dog", "dogs"),
    ("horse", "horses"),
    ("cat", "cats"),
    ("bird", "birds"),
    ("goat", "goats"),
    ("duck", "ducks"),
]
_PLACES = [
    ("garden", "gardens"),
    ("kitchen", "kitchens"),
    ("market", "markets"),
    ("village", "villages"),
    ("church", "churches"),
    ("station", "stations"),
    ("harbor", "harbors"),
    ("school", "schools"),
]
_NOUNS = {
    "person": _PEOPLE,
    "animal": _ANIMALS,
    "thing": _THINGS,
    "place": _PLACES,
}
# Two lists a kind: of two adjectives the first comes from the first list.
_ADJECTIVES = {
    "person": (
        ["kind", "famous", "quiet", "clever", "cheerful"],
        ["young", "old", "tired", "rich", "tall"],
    ),
    "animal": (
        ["hungry", "lazy", "wild", "friendly"],
        ["young", "old", "brown", "white", "small"],
    ),
    "thing": (
        ["heavy", "broken", "cheap", "beautiful", "empty"],
        ["red", "green", "new", "old", "wooden"],
    ),
    "place": (
        ["quiet", "crowded", "famous", "dark", "distant"],
        ["small", "old", "new", "empty"],
    ),
}
# A verb's object is of one of these kinds.
_TRANSITIVE = [
    (("carry", "carries", "carried", "carrying", "carried"), ("thing", "animal")),
    (("find", "finds", "found", "finding", "found"), ("thing", "animal", "person")),
    (("paint", "paints", "painted", "painting", "painted"), ("thing", "place")),
    (
        ("watch", "watches", "watched", "watching", "watched"),
        ("animal", "person", "place"),
    ),
    (("drop", "drops", "dropped", "dropping", "dropped"), ("thing",)),
    (("sell", "sells", "sold", "selling", "sold"), ("thing", "animal")),
    (("visit", "visits", "visited", "visiting", "visited"), ("person", "place")),
    (("help", "helps", "helped", "helping", "helped"), ("person", "animal")),
    (
        ("forget", "forgets", "forgot", "forgetting", "forgotten"),
        ("thing", "person", "place"),
    ),
    (("clean", "cleans", "cleaned", "cleaning", "cleaned"), ("thing", "place")),
]
_INTRANSITIVE = [
    ("sleep", "sleeps", "slept", "sleeping", "slept"),
    ("wait", "waits", "waited", "waiting", "waited"),
    ("laugh", "laughs", "laughed", "laughing", "laughed"),
    ("arrive", "arrives", "arrived", "arriving", "arrived"),
    ("sing", "sings", "sang", "singing", "sung"),
    ("leave", "leaves", "left", "leaving", "left"),
]
_PREPOSITIONS = {
    "place": ["in", "near", "behind", "from"],
    "thing": ["with", "without"],
    "person": ["with", "for", "beside"],
}
_CONJUNCTIONS = ["because", "while", "before", "after", "if", "although"]
_POSSESSIVES = ["my", "your", "our", "their", "her", "his"]


class _Writer:
    """Writes one sentence, word by word, and notes each relation as it arises."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.words: list[str] = []
        self.arcs: list[Arc] = []

    def sentence(self) -> AnnotatedSentence:
        opening = self.rng.random()
        if opening < 0.15:  # "While the dog slept, ..."
            self.subordinate_clause()
            self.say(",")
        elif opening < 0.35:  # "In the old garden, ..."
            phrase = self.prepositional_phrase("place", deep=False)
            self.say(",")
        verb = self.clause()
        if 0.15 <= opening < 0.35:
            self.relate("prep", phrase, verb)
        if opening >= 0.15 and self.chance(0.35):
            self.subordinate_clause()
        self.say(".")
        self.words[0] = self.words[0].capitalize()
        return AnnotatedSentence(
            tuple(self.words), tuple(sorted(self.arcs, key=lambda a: a.dependent))
        )

    def clause(self, *, deep: bool = True) -> int:
        """Subject, verb, perhaps an object, perhaps a place. Returns the verb's index."""
        plural = self.chance(0.4)
        kind = "person" if self.chance(0.7) else "animal"
        subject = self.noun_phrase(kind, plural=plural, deep=deep)
        verb = self.predicate(plural=plural, deep=deep)
        self.relate("nsubj", subject, verb)
        return verb

    def predicate(self, *, plural: bool, deep: bool) -> int:
        """The verb and what follows it. Returns the verb's index."""
        if self.chance(0.75):
            forms, kinds = self.rng.choice(_TRANSITIVE)
            verb = self.verb(forms, plural=plural)
            kind = self.rng.choice(kinds)
            item = self.noun_phrase(kind, plural=self.chance(0.4), deep=deep)
            self.relate("dobj", item, verb)
        else:
            verb = self.verb(self.rng.choice(_INTRANSITIVE), plural=plural)
        if self.chance(0.3):
            phrase = self.prepositional_phrase("place", deep=False)
            self.relate("prep", phrase, verb)
        return verb

    def verb(self, forms: tuple[str, ...], *, plural: bool) -> int:
        """A verb in some tense, with its auxiliary if it has one. Returns the verb's index."""
        base, third, past, progressive, participle = forms
        auxiliary, form = self.rng.choice(
            [
                ("", past),
                ("", past),
                ("", base if plural else third),
                (self.rng.choice(["will", "can", "must", "should"]), base),
                ("have" if plural else "has", participle),
                ("were" if plural else "was", progressive),
            ]
        )
        if not auxiliary:
            return self.say(form)
        helper = self.say(auxiliary)
        if self.chance(0.3):
            self.say(self.rng.choice(["not", "often", "never", "quietly"]))
        verb = self.say(form)
        self.relate("aux", helper, verb)
        return verb

    def noun_phrase(self, kind: str, *, plural: bool, deep: bool) -> int:
        """Determiner, adjectives, noun, perhaps a modifier. Returns the noun's index."""
        before: list[tuple[str, int]] = []
        if self.chance(0.2):
            before.append(("poss", self.say(self.rng.choice(_POSSESSIVES))))
        elif not plural or self.chance(0.7):
            articles = ["the", "some", "these"] if plural else ["the", "the", "this"]
            before.append(("det", self.say(self.rng.choice(articles))))
        for adjectives in _ADJECTIVES[kind]:
            if self.chance(0.38):
                adjective = self.say(self.rng.choice(adjectives))
                before.append(("amod", adjective))
        noun = self.say(self.rng.choice(_NOUNS[kind])[plural])
        for relation, dependent in before:
            self.relate(relation, dependent, noun)
        if deep and kind in ("person", "animal") and self.chance(0.35):
            if kind == "person" and self.chance(0.4):
                self.say("who")
                self.predicate(plural=plural, deep=False)
            else:
                phrase = self.prepositional_phrase(
                    self.rng.choice(["place", "thing"]), deep=False
                )
                self.relate("prep", phrase, noun)
        return noun

    def prepositional_phrase(self, kind: str, *, deep: bool) -> int:
        """A preposition and its noun phrase. Returns the preposition's index."""
        preposition = self.say(self.rng.choice(_PREPOSITIONS[kind]))
        noun = self.noun_phrase(kind, plural=self.chance(0.25), deep=deep)
        self.relate("pobj", noun, preposition)
        return preposition

    def subordinate_clause(self) -> None:
        conjunction = self.say(self.rng.choice(_CONJUNCTIONS))
        self.relate("mark", conjunction, self.clause(deep=False))

    def say(self, word: str) -> int:
        self.words.append(word)
        return len(self.words) - 1

    def relate(self, relation: str, dependent: int, head: int) -> None:
        self.arcs.append(Arc(relation, dependent, head))

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability


# The hand-written sentences: {antecedent}, [distractor], *pronoun*.

_COREFERENCE = {
    "plausibility": [
        (
            "The {cat} sat on the [mat] because *it* was tired .",
            "The [cat] sat on the {mat} because *it* was soft .",
        ),
        (
            "The {snake} hid in the [grass] because *it* was frightened .",
            "The [snake] hid in the {grass} because *it* was tall .",
        ),
        (
            "The {cup} fell off the [shelf] because *it* was round .",
            "The [cup] fell off the {shelf} because *it* was crooked .",
        ),
        (
            "The {goat} ate the [hay] because *it* was hungry .",
            "The [goat] ate the {hay} because *it* was fresh .",
        ),
        (
            "The {knife} could not cut the [rope] because *it* was blunt .",
            "The [knife] could not cut the {rope} because *it* was thick .",
        ),
        (
            "The {wagon} broke the [bridge] because *it* was so heavy .",
            "The [wagon] broke the {bridge} because *it* was so rotten .",
        ),
        (
            "The {storm} sank the [ship] because *it* was so violent .",
            "The [storm] sank the {ship} because *it* was so old .",
        ),
        (
            "The {oven} burned the [bread] because *it* was far too hot .",
            "The [oven] burned the {bread} because *it* was sliced too thin .",
        ),
        (
            "The {bird} left the [nest] when *it* had learned to fly .",
            "The [bird] left the {nest} when *it* had fallen to pieces .",
        ),
        (
            "The {guard} stopped the [thief] because *he* was on duty .",
            "The [guard] stopped the {thief} because *he* was carrying a stolen painting .",
        ),
        (
            "The {doctor} called the [patient] because *she* had the results of the test .",
            "The [doctor] called the {patient} because *she* had missed an appointment .",
        ),
        (
            "The {teacher} praised the [pupil] after *she* had read the essay .",
            "The [teacher] praised the {pupil} after *she* had handed in the essay .",
        ),
        (
            "The {dog} buried the [bone] before *it* lay down to sleep .",
            "The [dog] buried the {bone} before *it* could be stolen .",
        ),
        (
            "The {hunters} followed the [wolves] until *they* ran out of bullets .",
            "The [hunters] followed the {wolves} until *they* reached their den .",
        ),
    ],
    "gender": [
        (
            "The {king} wrote to the [queen] before *he* left the palace .",
            "The [king] wrote to the {queen} before *she* left the palace .",
        ),
        (
            "The {waitress} smiled at the [policeman] as *she* came in .",
            "The [waitress] smiled at the {policeman} as *he* came in .",
        ),
        (
            "The {boy} waved to his [mother] because *he* was leaving .",
            "The [boy] waved to his {mother} because *she* was leaving .",
        ),
        (
            "The {actress} told the [gentleman] that *she* had lost the tickets .",
            "The [actress] told the {gentleman} that *he* had lost the tickets .",
        ),
        (
            "The {uncle} met the [girl] at the station where *he* bought a newspaper .",
            "The [uncle] met the {girl} at the station where *she* bought a newspaper .",
        ),
        (
            "The {grandmother} asked the [monk] whether *she* should wait .",
            "The [grandmother] asked the {monk} whether *he* should wait .",
        ),
    ],
    "number": [
        (
            "The {farmers} sold the [horse] because *they* needed money for the winter .",
            "The [farmers] sold the {horse} because *it* needed more food than they had .",
        ),
        (
            "The {captain} warned the [sailors] that *he* would not come back .",
            "The [captain] warned the {sailors} that *they* would not come back .",
        ),
        (
            "The {children} followed the [kitten] until *they* grew tired .",
            "The [children] followed the {kitten} until *it* grew tired .",
        ),
        (
            "The {nurse} counted the [soldiers] when *she* entered the room .",
            "The [nurse] counted the {soldiers} when *they* entered the room .",
        ),
        (
            "The {apples} fell on the [car] because *they* were ripe .",
            "The [apples] fell on the {car} because *it* was parked under the tree .",
        ),
    ],
    "animacy": [
        (
            "The {sailor} looked at the [boat] before *he* went to bed .",
            "The [sailor] looked at the {boat} before *it* went down .",
        ),
        (
            "The {widow} sold the [house] because *she* was lonely .",
            "The [widow] sold the {house} because *it* was damp .",
        ),
        (
            "The {painter} covered the [canvas] when *he* left the room .",
            "The [painter] covered the {canvas} when *it* was dry .",
        ),
        (
            "The {mechanic} washed the [engine] until *she* was satisfied .",
            "The [mechanic] washed the {engine} until *it* was spotless .",
        ),
        (
            "The {baker} opened the [window] because *he* felt hot .",
            "The [baker] opened the {window} because *it* had been stuck all winter .",
        ),
    ],
}


def _read_coreference(marked: str, cue: str) -> CoreferenceSentence:
    words = marked.split()
    index = {
        opening: next(i for i, word in enumerate(words) if word.startswith(opening))
        for opening in "*{["
    }
    return CoreferenceSentence(
        words=tuple(word.strip("*{}[]") for word in words),
        pronoun=index["*"],
        antecedent=index["{"],
        distractor=index["["],
        cue=cue,
    )
