"""Exercises of the section on using Hugging Face."""

from __future__ import annotations

from itertools import pairwise

import torch
from jaxtyping import Bool, Int
from torch import Generator, Tensor

from companion.exercises.exercise import Exercise, Inputs, Misconception, Property

# Their mask and ours


def as_boolean_mask(
    attention_mask: Int[Tensor, "batch length"],
) -> Bool[Tensor, "batch 1 1 length"]:
    return (attention_mask != 0)[:, None, None, :]


def _two_axes(attention_mask: Tensor) -> Tensor:
    return attention_mask != 0


def _hidden_is_true(attention_mask: Tensor) -> Tensor:
    return (attention_mask == 0)[:, None, None, :]


def _over_queries(attention_mask: Tensor) -> Tensor:
    return (attention_mask != 0)[:, None, :, None]


def _to_be_added(attention_mask: Tensor) -> Tensor:
    lowest = torch.finfo(torch.float32).min
    return (attention_mask == 0)[:, None, None, :] * lowest


def _real_to_real(attention_mask: Tensor) -> Tensor:
    real = attention_mask != 0
    return real[:, None, None, :] & real[:, None, :, None]


def _draw_masks(generator: Generator) -> list[Inputs]:
    lengths = ((2, [2, 1]), (4, [4, 3, 1]), (6, [6, 2]))
    return [
        ((torch.arange(longest)[None, :] < torch.tensor(real)[:, None]).long(),)
        for longest, real in lengths
    ]


def _says_the_same_of_each_key(answer, inputs: Inputs) -> bool:
    (attention_mask,) = inputs
    mask = answer(attention_mask)
    return mask.dtype == torch.bool and torch.equal(
        mask[:, 0, 0].long(), attention_mask
    )


# WordPiece


def wordpiece(word: str, vocabulary: set[str]) -> list[str]:
    pieces, start = [], 0
    while start < len(word):
        for end in range(len(word), start, -1):  # the longest first
            piece = ("##" if start else "") + word[start:end]
            if piece in vocabulary:
                break
        else:
            return ["[UNK]"]  # the whole word
        pieces.append(piece)
        start = end
    return pieces


def _shortest_first(word: str, vocabulary: set[str]) -> list[str]:
    pieces, start = [], 0
    while start < len(word):
        for end in range(start + 1, len(word) + 1):
            piece = ("##" if start else "") + word[start:end]
            if piece in vocabulary:
                break
        else:
            return ["[UNK]"]
        pieces.append(piece)
        start = end
    return pieces


def _without_marks(word: str, vocabulary: set[str]) -> list[str]:
    pieces, start = [], 0
    while start < len(word):
        for end in range(len(word), start, -1):
            if word[start:end] in vocabulary:
                break
        else:
            return ["[UNK]"]
        pieces.append(word[start:end])
        start = end
    return pieces


def _keeps_the_beginning(word: str, vocabulary: set[str]) -> list[str]:
    pieces, start = [], 0
    while start < len(word):
        for end in range(len(word), start, -1):
            piece = ("##" if start else "") + word[start:end]
            if piece in vocabulary:
                break
        else:
            return [*pieces, "[UNK]"]
        pieces.append(piece)
        start = end
    return pieces


def _skips_a_letter(word: str, vocabulary: set[str]) -> list[str]:
    pieces, start = [], 0
    while start < len(word):
        for end in range(len(word), start, -1):
            piece = ("##" if start else "") + word[start:end]
            if piece in vocabulary:
                pieces.append(piece)
                start = end
                break
        else:
            pieces.append("[UNK]")
            start += 1
    return pieces


def _draw_words(generator: Generator) -> list[Inputs]:
    vocabulary = {
        "un", "u", "want", "wa", "a", "able", "unable", "n", "##n", "##able", "##a",
        "##wa", "##nt", "##want", "##w", "##ed", "##e", "##d", "##ab", "##le",
    }  # fmt: skip
    words = ("unwanted", "unable", "wantab", "unx", "xun", "unxable", "able")
    return [*((word, vocabulary) for word in words), ("aaaa", {"a", "##a"})]


def _adds_up(answer, inputs: Inputs) -> bool:
    word, _ = inputs
    pieces = answer(*inputs)
    return pieces == ["[UNK]"] or "".join(p.removeprefix("##") for p in pieces) == word


# Byte-pair encoding


def merge_in_order(word: str, merges: list[tuple[str, str]]) -> list[str]:
    rank = {pair: i for i, pair in enumerate(merges)}
    parts = list(word)
    while len(parts) > 1:
        pairs = list(pairwise(parts))
        best = min(pairs, key=lambda pair: rank.get(pair, len(merges)))
        if best not in rank:
            break
        i = pairs.index(best)
        parts[i : i + 2] = ["".join(best)]
    return parts


def _leftmost_first(word: str, merges: list[tuple[str, str]]) -> list[str]:
    parts, i = list(word), 0
    while i < len(parts) - 1:
        if (parts[i], parts[i + 1]) in merges:
            parts[i : i + 2] = [parts[i] + parts[i + 1]]
            i = 0
        else:
            i += 1
    return parts


def _latest_first(word: str, merges: list[tuple[str, str]]) -> list[str]:
    return merge_in_order(word, merges[::-1])


def _one_merge(word: str, merges: list[tuple[str, str]]) -> list[str]:
    parts = list(word)
    for first, second in merges:
        for i in range(len(parts) - 1):
            if (parts[i], parts[i + 1]) == (first, second):
                return [*parts[:i], first + second, *parts[i + 2 :]]
    return parts


def _longest_token(word: str, merges: list[tuple[str, str]]) -> list[str]:
    known = {first + second for first, second in merges} | set(word)
    parts, start = [], 0
    while start < len(word):
        end = next(e for e in range(len(word), start, -1) if word[start:e] in known)
        parts.append(word[start:end])
        start = end
    return parts


def _draw_merges(generator: Generator) -> list[Inputs]:
    merges = [
        ("e", "r"), ("l", "o"), ("n", "e"), ("lo", "w"), ("ne", "w"), ("w", "er"),
        ("low", "er"), ("w", "e"), ("s", "t"), ("e", "st"), ("low", "est"),
    ]  # fmt: skip
    words = ("lower", "newer", "lowest", "west", "newest", "loner", "tower")
    return [(word, merges) for word in words]


def _same_letters(answer, inputs: Inputs) -> bool:
    return "".join(answer(*inputs)) == inputs[0]


# Unigram


def likeliest_pieces(word: str, log_probability: dict[str, float]) -> list[str]:
    best: list[tuple[float, list[str]]] = [(0.0, [])]  # of the first 0, 1, ... letters
    for end in range(1, len(word) + 1):
        ways = [
            (best[start][0] + log_probability[word[start:end]], best[start][1], start)
            for start in range(end)
            if word[start:end] in log_probability
        ]
        score, pieces, start = max(ways, key=lambda way: way[0])
        best.append((score, [*pieces, word[start:end]]))
    return best[-1][1]


def _cuts(word: str, known: dict[str, float]) -> list[list[str]]:
    if not word:
        return [[]]
    return [
        [word[:end], *rest]
        for end in range(1, len(word) + 1)
        if word[:end] in known
        for rest in _cuts(word[end:], known)
    ]


def _greedy(word: str, log_probability: dict[str, float]) -> list[str]:
    pieces, start = [], 0
    while start < len(word):
        end = next(
            e for e in range(len(word), start, -1) if word[start:e] in log_probability
        )
        pieces.append(word[start:end])
        start = end
    return pieces


def _fewest(word: str, log_probability: dict[str, float]) -> list[str]:
    return min(_cuts(word, log_probability), key=len)


def _likeliest_step(word: str, log_probability: dict[str, float]) -> list[str]:
    pieces, start = [], 0
    while start < len(word):
        ends = [
            e
            for e in range(start + 1, len(word) + 1)
            if word[start:e] in log_probability
        ]
        end = max(ends, key=lambda e: log_probability[word[start:e]])
        pieces.append(word[start:end])
        start = end
    return pieces


def _by_the_mean(word: str, log_probability: dict[str, float]) -> list[str]:
    def mean(pieces: list[str]) -> float:
        return sum(log_probability[piece] for piece in pieces) / len(pieces)

    return max(_cuts(word, log_probability), key=mean)


def _draw_unigram(generator: Generator) -> list[Inputs]:
    scores = {
        "h": -4.0, "e": -3.9, "r": -4.1, "l": -4.5, "n": -4.4, "t": -3.8, "s": -4.6,
        "her": -6.0, "he": -5.0, "re": -5.5, "here": -8.0, "hers": -12.5,
        "here's": -20.0, "te": -5.2, "ter": -7.0, "then": -6.5, "the": -5.1, "en": -6.9,
        "rt": -9.0, "ther": -9.5,
        "a": -3.0, "ab": -3.5, "bc": -9.0, "c": -1.0, "b": -8.0,
    }  # fmt: skip
    words = (
        "here",
        "hers",
        "then",
        "there",
        "ther",
        "thenters",
        "enter",
        "therent",
        "abc",
    )
    small = {"a": -1.0, "aa": -1.5}
    return [*((word, scores) for word in words), ("aaaa", small)]


# Labels of words, labels of tokens


def align_labels(word_ids: list[int | None], labels: list[int]) -> list[int]:
    aligned, before = [], None
    for word in word_ids:
        first = word is not None and word != before
        aligned.append(labels[word] if first else -100)
        before = word
    return aligned


def _every_piece(word_ids: list[int | None], labels: list[int]) -> list[int]:
    return [-100 if word is None else labels[word] for word in word_ids]


def _special_as_class(word_ids: list[int | None], labels: list[int]) -> list[int]:
    aligned = align_labels(word_ids, labels)
    return [0 if word is None else a for word, a in zip(word_ids, aligned, strict=True)]


def _one_by_one(word_ids: list[int | None], labels: list[int]) -> list[int]:
    rest = iter(labels)
    return [-100 if word is None else next(rest, -100) for word in word_ids]


def _last_piece(word_ids: list[int | None], labels: list[int]) -> list[int]:
    return align_labels(word_ids[::-1], labels)[::-1]


def _minus_one(word_ids: list[int | None], labels: list[int]) -> list[int]:
    return [-1 if a == -100 else a for a in align_labels(word_ids, labels)]


def _draw_labels(generator: Generator) -> list[Inputs]:
    return [
        ([None, 0, 0, 1, None], [1, 2]),
        ([None, 0, 1, 1, 1, 2, None, None], [0, 3, 0]),
        ([None, 0, 1, 2, 2, 3, None], [2, 1, 1, 0]),
    ]


def _one_for_each_word(answer, inputs: Inputs) -> bool:
    word_ids, labels = inputs
    aligned = answer(word_ids, labels)
    return [a for a in aligned if a != -100] == labels and len(aligned) == len(word_ids)


# From tokens to entities

Token = tuple[str, int, int]  # tag, first character, after the last one


def group_entities(tokens: list[Token]) -> list[Token]:
    found: list[Token] = []
    before = "O"
    for tag, start, end in tokens:
        kind = tag[2:]
        if tag.startswith("I-") and before[2:] == kind:
            found[-1] = (kind, found[-1][1], end)
        elif tag != "O":
            found.append((kind, start, end))
        before = tag
    return found


def _ignores_begin(tokens: list[Token]) -> list[Token]:
    return group_entities([(tag.replace("B-", "I-"), s, e) for tag, s, e in tokens])


def _one_token_each(tokens: list[Token]) -> list[Token]:
    return [(tag[2:], s, e) for tag, s, e in tokens if tag != "O"]


def _kinds_run_together(tokens: list[Token]) -> list[Token]:
    found: list[Token] = []
    before = "O"
    for tag, start, end in tokens:
        if tag.startswith("I-") and before != "O":
            found[-1] = (found[-1][0], found[-1][1], end)
        elif tag != "O":
            found.append((tag[2:], start, end))
        before = tag
    return found


def _needs_begin(tokens: list[Token]) -> list[Token]:
    found: list[Token] = []
    before = "O"
    for tag, start, end in tokens:
        kind = tag[2:]
        if tag.startswith("B-"):
            found.append((kind, start, end))
            before = tag
        elif tag.startswith("I-") and before[2:] == kind:
            found[-1] = (kind, found[-1][1], end)
        else:
            before = "O"
    return found


def _bridges_gaps(tokens: list[Token]) -> list[Token]:
    return group_entities([token for token in tokens if token[0] != "O"])


def _draw_tokens(generator: Generator) -> list[Inputs]:
    return [
        ([("B-PER", 0, 4), ("I-PER", 5, 9), ("O", 10, 12), ("B-LOC", 13, 19)],),
        ([("B-PER", 0, 3), ("B-PER", 4, 7), ("O", 7, 8), ("I-PER", 9, 12)],),
        ([("B-ORG", 0, 2), ("I-LOC", 3, 6), ("I-LOC", 7, 9), ("O", 9, 10)],),
        ([("O", 0, 2), ("B-LOC", 3, 6), ("O", 6, 7), ("I-LOC", 8, 11)],),
        ([("I-PER", 0, 3), ("I-PER", 4, 7), ("O", 8, 9)],),
    ]


def _inside_the_text(answer, inputs: Inputs) -> bool:
    (tokens,) = inputs
    named = {(s, e) for tag, s, e in tokens if tag != "O"}
    starts, ends = {s for s, _ in named}, {e for _, e in named}
    covered = sum(e - s for s, e in named)
    found = answer(tokens)
    spans = sum(e - s for _, s, e in found)
    gaps = len(named) - len(found)  # a blank between tokens of one entity
    return (
        all(s in starts and e in ends for _, s, e in found) and spans == covered + gaps
    )


EXERCISES: tuple[Exercise, ...] = (
    Exercise(
        name="as_boolean_mask",
        chapter="hugging-face",
        title="Their attention_mask as our mask",
        difficulty=1,
        minutes=5,
        trains="translates a mask between conventions, axes and meaning",
        reference=as_boolean_mask,
        inputs=_draw_masks,
        properties=(
            Property(
                "it says of each key what theirs says", _says_the_same_of_each_key
            ),
        ),
        misconceptions=(
            Misconception(
                "keeps two axes",
                _two_axes,
                "A (batch, length) mask broadcasts over queries, as if its first axis were "
                "they. Scores are (batch, heads, queries, keys): put two axes in between.",
            ),
            Misconception(
                "turns it round",
                _hidden_is_true,
                "True stands for hidden here. In theirs 1, and in ours True, means: may be "
                "attended to.",
            ),
            Misconception(
                "masks queries",
                _over_queries,
                "The axis of length lies where the queries are. Padding must be hidden as a "
                "key; what a padded query computes is ignored anyway.",
            ),
            Misconception(
                "makes numbers to be added",
                _to_be_added,
                "That is what transformers makes inside. Our masks are boolean, and numbers "
                "are refused.",
            ),
            Misconception(
                "hides keys from padded queries too",
                _real_to_real,
                "A padded query would attend nowhere. It does no harm to let it look, and "
                "(batch, 1, 1, length) is enough.",
            ),
        ),
        hints=(
            "Two things change: the type, and the shape.",
            "Which axis of (batch, heads, queries, keys) does theirs speak of?",
            "(attention_mask != 0)[:, None, None, :]",
        ),
    ),
    Exercise(
        name="wordpiece",
        chapter="hugging-face",
        title="Cut a word as BERT does",
        difficulty=3,
        minutes=15,
        trains="cuts by the longest match, and gives up whole words only",
        reference=wordpiece,
        inputs=_draw_words,
        properties=(Property("the pieces make up the word, or it is [UNK]", _adds_up),),
        misconceptions=(
            Misconception(
                "takes the shortest piece",
                _shortest_first,
                "WordPiece takes the longest piece that fits, so the ends are tried from "
                "the end of the word backward.",
            ),
            Misconception(
                "forgets the marks",
                _without_marks,
                "A piece inside a word is looked up with ## in front: 'able' and '##able' "
                "are different tokens.",
            ),
            Misconception(
                "keeps the beginning of an unknown word",
                _keeps_the_beginning,
                "If some part fits nothing, BERT gives up the whole word: one [UNK], and "
                "no pieces before it.",
            ),
            Misconception(
                "skips the letter that does not fit",
                _skips_a_letter,
                "One unknown letter makes the whole word unknown; nothing is kept of it.",
            ),
        ),
        hints=(
            "From the left, always the longest piece that is in the vocabulary.",
            "Every piece but the first is looked up with ## in front of it.",
            "Python's for ... else runs the else when nothing was found: [UNK].",
        ),
    ),
    Exercise(
        name="merge_in_order",
        chapter="hugging-face",
        title="Cut a word as GPT-2 does",
        difficulty=3,
        minutes=15,
        trains="applies merges by their rank and not by their place",
        reference=merge_in_order,
        inputs=_draw_merges,
        properties=(Property("the parts make up the word", _same_letters),),
        misconceptions=(
            Misconception(
                "merges from the left",
                _leftmost_first,
                "The pair that stands first in the word is merged first. It must be the "
                "pair that stands first in the list of merges.",
            ),
            Misconception(
                "takes the latest merge",
                _latest_first,
                "The list is gone through backward. Earlier merges were learned first, "
                "and later ones build on them.",
            ),
            Misconception(
                "merges once",
                _one_merge,
                "After one merge there are new neighbors, for which there may be another.",
            ),
            Misconception(
                "takes the longest token",
                _longest_token,
                "That is WordPiece's way. BPE never looks at a token that its merges do not "
                "reach in order.",
            ),
        ),
        hints=(
            "Begin with letters. Which pair of neighbors is first in the list?",
            "A dict from pair to its place makes min(pairs, key=...) easy.",
            "Repeat until no pair of neighbors is in the list.",
        ),
    ),
    Exercise(
        name="likeliest_pieces",
        chapter="hugging-face",
        title="Cut a word as SentencePiece's Unigram does",
        difficulty=4,
        minutes=25,
        trains="finds a best segmentation by dynamic programming",
        reference=likeliest_pieces,
        inputs=_draw_unigram,
        properties=(Property("the pieces make up the word", _same_letters),),
        misconceptions=(
            Misconception(
                "takes the longest piece",
                _greedy,
                "Greedy and longest is WordPiece. Here a long, rare piece may lose "
                "against two frequent short ones.",
            ),
            Misconception(
                "takes the fewest pieces",
                _fewest,
                "Fewer pieces often win, since each costs; but what counts is the sum of "
                "the log probabilities.",
            ),
            Misconception(
                "takes the likeliest next piece",
                _likeliest_step,
                "Each step takes the likeliest piece, which is a short one. The best first "
                "piece depends on what can follow: keep the best way to every position.",
            ),
            Misconception(
                "takes the mean",
                _by_the_mean,
                "Probabilities of independent pieces multiply, so their logs add up. A mean "
                "would reward cutting into many frequent letters.",
            ),
        ),
        hints=(
            "Let best[end] be the best way to cut the first `end` letters.",
            "The last piece is word[start:end], and the rest is best[start].",
            "For each end, take the maximum over start of best[start] plus the log "
            "probability of word[start:end].",
        ),
    ),
    Exercise(
        name="align_labels",
        chapter="hugging-face",
        title="Give labels of words to tokens",
        difficulty=2,
        minutes=10,
        trains="carries labels from words over to their pieces",
        reference=align_labels,
        inputs=_draw_labels,
        properties=(
            Property("each word's label appears once, in order", _one_for_each_word),
        ),
        misconceptions=(
            Misconception(
                "labels every piece",
                _every_piece,
                "A word of four pieces counts four times in the loss. Asked is its first "
                "piece only, as in BERT's paper.",
            ),
            Misconception(
                "gives special tokens a class",
                _special_as_class,
                "Class 0 for [CLS] and [SEP] is a label like any other, and is learned. "
                "-100 is what the loss leaves out.",
            ),
            Misconception(
                "deals labels out one by one",
                _one_by_one,
                "The second piece of a word gets the next word's label, and everything "
                "after it is shifted. word_ids says where each token belongs.",
            ),
            Misconception(
                "labels the last piece",
                _last_piece,
                "The last piece has the label. Asked is the first.",
            ),
            Misconception(
                "uses -1",
                _minus_one,
                "PyTorch's cross_entropy ignores -100 by default; -1 is out of range.",
            ),
        ),
        hints=(
            "A token begins a word when its word differs from that of the token before.",
            "Special tokens belong to no word: None.",
            "labels[word] at the beginning of a word, -100 elsewhere.",
        ),
    ),
    Exercise(
        name="group_entities",
        chapter="hugging-face",
        title="From tags to entities in the text",
        difficulty=3,
        minutes=15,
        trains="joins tagged tokens without joining neighbors of another kind",
        reference=group_entities,
        inputs=_draw_tokens,
        properties=(
            Property("entities begin and end where tokens do", _inside_the_text),
        ),
        misconceptions=(
            Misconception(
                "does not look at B",
                _ignores_begin,
                "Two names that follow each other become one. B says that a new entity "
                "begins here, whatever came before.",
            ),
            Misconception(
                "keeps tokens apart",
                _one_token_each,
                "Every tagged token is an entity of its own. I continues the one before.",
            ),
            Misconception(
                "joins different kinds",
                _kinds_run_together,
                "An I of another kind continues nothing: it begins an entity.",
            ),
            Misconception(
                "drops an I without a B",
                _needs_begin,
                "Models write an I after an O now and then. Losing the entity is worse than "
                "taking that I for its beginning, which is what pipeline does.",
            ),
            Misconception(
                "joins across a gap",
                _bridges_gaps,
                "An O in between ends the entity, even if the next tag is an I of the same "
                "kind.",
            ),
        ),
        hints=(
            "Go from left to right and remember the tag before.",
            "I continues if the tag before has the same kind; else it begins.",
            "To continue: replace the end of the last entity that was found.",
        ),
    ),
)
