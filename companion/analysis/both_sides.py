"""What each side of a gap is worth to a masked language model.

The small BERT of `pretraining` is asked for each token of verses that it has not seen: with
the whole verse around the gap, with what stands before it alone, and with what comes after
it alone. The answers are kept beside this file, in ``both_sides.json``. Made anew by

    python -m companion.analysis.both_sides

which trains the model, for two to five minutes on one core.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from companion.analysis import pretraining
from companion.models.bert import BERTForPreTraining
from companion.runtime import device

SIDES = ("both sides", "left only", "right only")
VERSES = 200  # for the means
SHOWN = (  # are kept token by token
    "And we came to Jerusalem, and abode there three days.",
    "And Noah did according unto all that the LORD commanded him.",
    "The LORD lift up his countenance upon thee, and give thee peace.",
    "Thou hast enlarged my steps under me; so that my feet did not slip.",
    "Now therefore, our God, we thank thee, and praise thy glorious name.",
)
LIKELIEST = 5

_RESULTS = Path(__file__).with_suffix(".json")


@torch.no_grad()
def logits_by_side(
    model: BERTForPreTraining, token_ids: Sequence[int]
) -> dict[str, Float[Tensor, "length vocab"]]:
    """Hide each token in turn; what the model expects there, by what it sees of the rest.

    What is not seen is cut off, not masked: the model reads a shorter text that begins or
    ends with the gap.

    Args:
        model: in evaluation mode.
        token_ids: the text with [CLS] and [SEP], whose rows are NaN.
    """
    ids = list(token_ids)
    tables = {}
    for side in SIDES:
        table = torch.full((len(ids), pretraining.VOCAB_SIZE), math.nan)
        for place in range(1, len(ids) - 1):
            before = ids[1:place] if side != "right only" else []
            after = ids[place + 1 : -1] if side != "left only" else []
            row = [ids[0], *before, pretraining.MASK_ID, *after, ids[-1]]
            logits = model(torch.tensor([row], device=device()))
            table[place] = logits[0, 1 + len(before)].cpu()
        tables[side] = table
    return tables


def expected_by_side(model: BERTForPreTraining, text: str) -> dict:
    """The tokens of a text, and for each side and token: p of it, and what is likeliest."""
    _, tokenizer = pretraining.new_tokenizer()
    encoded = tokenizer.encode(text)
    sides: dict[str, list] = {}
    for side, table in logits_by_side(model, encoded.ids).items():
        chances = table[1:-1].softmax(dim=-1)
        sides[side] = [
            [
                float(f"{p[token]:.3g}"),
                [
                    [tokenizer.id_to_token(i), round(v, 4)]
                    for v, i in zip(
                        *(x.tolist() for x in p.topk(LIKELIEST)), strict=True
                    )
                ],
            ]
            for p, token in zip(chances, encoded.ids[1:-1], strict=True)
        ]
    return {"tokens": encoded.tokens[1:-1], "sides": sides}


def held_out_verses() -> list[str]:
    """`VERSES` short verses of chapters that the model has not seen, from all over."""
    texts = [v.text for v in pretraining.bible_split().test if 40 < len(v.text) < 75]
    return texts[:: len(texts) // VERSES][:VERSES]


def stored_results() -> tuple[dict[str, float], dict[str, dict]]:
    """Side -> mean bits a token; and text -> what `expected_by_side` says of it."""
    found = json.loads(_RESULTS.read_text(encoding="utf-8"))
    return found["bits"], found["verses"]


def main() -> None:
    """Pre-train as `pretraining` does with seed 0, ask, and write ``both_sides.json``."""
    from datetime import date

    documents = pretraining.as_tokens(pretraining.training_documents())
    model = pretraining.tell_frequencies(pretraining.new_model(seed=0), documents)
    pairs = pretraining.make_pairs(documents, 0)
    pretraining.pretrain(model, pairs, steps=pretraining.STEPS, seed=0)
    write_answers(
        model.eval(),
        "python -m companion.analysis.both_sides, seed 0, "
        f"{pretraining.STEPS} steps; {device().type}, {torch.get_num_threads()} threads, "
        f"torch {torch.__version__}, {date.today()}",
    )


def write_answers(model: BERTForPreTraining, made: str) -> None:
    """Ask about `VERSES` verses for the means, and keep the answers on some."""
    answers = [expected_by_side(model, text) for text in held_out_verses()]
    bits = {}
    for side in SIDES:
        chances = [p for answer in answers for p, _ in answer["sides"][side]]
        bits[side] = round(-sum(map(math.log2, chances)) / len(chances), 3)
    verses = {text: expected_by_side(model, text) for text in SHOWN}
    content = {"made": made, "bits": bits, "verses": verses}
    _RESULTS.write_text(
        json.dumps(content, ensure_ascii=False) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
