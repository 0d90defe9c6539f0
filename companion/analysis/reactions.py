"""What an ALBERT knows of chemistry that only ever filled in masked tokens of reactions.

It is shown reactions as text, and learns which atom of the product was which atom of the
reactants: one of its heads attends from the one to the other.

Source: Schwaller et al. (2021), "Extraction of Organic Chemistry Grammar from Unsupervised
Learning of Chemical Reactions", *Science Advances* 7, eabe4166.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from safetensors.torch import save_file
from torch import Tensor

from companion.data.assets import fetch
from companion.data.reactions import Reaction, ReactionTokenizer
from companion.data.smiles import (
    ARROW,
    Graph,
    element,
    equivalent_atoms,
    read_graph,
    smiles_tokens,
)
from companion.layers import record_attention
from companion.models.albert import ALBERTForPreTraining

# The head that RXNMapper reads, counted from 0: the sixth of the eleventh layer.
LAYER, HEAD = 10, 5


def reaction_model() -> ALBERTForPreTraining:
    """RXNMapper's ALBERT with its trained weights, in evaluation mode.

    The package has them as a pickle. PyTorch reads it without running anything
    (``weights_only=True``); what `from_hf` gets is a folder with safetensors.
    """
    folder = fetch("rxnmapper")
    weights = torch.load(
        folder / "pytorch_model.bin", map_location="cpu", weights_only=True
    )
    with tempfile.TemporaryDirectory() as safe:
        shutil.copy(folder / "config.json", safe)
        save_file(
            {name: tensor.clone() for name, tensor in weights.items()},
            Path(safe) / "model.safetensors",
        )
        return ALBERTForPreTraining.from_hf(safe)


# Masked tokens


class MaskedScores(NamedTuple):
    """Shares of masked tokens that are told right, from the others of their reaction.

    Attributes:
        top1, top5: the model's first guess, and its first five.
        frequent: always the token that is most frequent in all the reactions.
        copied: the token that stands between the same two neighbors elsewhere in the
            reaction; where there is none, the reaction's most frequent token.
        tokens: how many were asked for.
    """

    top1: float
    top5: float
    frequent: float
    copied: float
    tokens: int


@torch.no_grad()
def masked_scores(
    model: ALBERTForPreTraining,
    tokenizer: ReactionTokenizer,
    reactions: Sequence[str],
    *,
    product_only: bool = False,
    spacing: int = 7,
) -> MaskedScores:
    """Mask each token of each reaction once, every seventh at a time, and ask for it.

    So about 15 % are masked at a time, as in training.

    Args:
        model: fills in tokens.
        tokenizer: its own.
        reactions: in SMILES.
        product_only: ask for the tokens behind the arrow only.
        spacing: mask every ``spacing``-th token at a time.
    """
    device = next(model.parameters()).device
    counts = Counter(t for smiles in reactions for t in smiles_tokens(smiles))
    frequent = counts.most_common(1)[0][0]
    hits = torch.zeros(4)
    asked = 0
    for smiles in reactions:
        tokens = smiles_tokens(smiles)
        start = tokens.index(ARROW) + 1 if product_only else 0
        places = torch.arange(start, len(tokens))
        ids = torch.tensor(tokenizer.encode(smiles))
        rows = places % spacing  # one copy of the reaction for each remainder
        masked = ids.repeat(spacing, 1)
        masked[rows, places + 1] = tokenizer.mask_id  # [CLS] is the first
        logits = model(masked.to(device)).cpu()[rows, places + 1]
        found = logits.topk(5).indices == ids[places + 1][:, None]
        hits[0] += found[:, 0].sum()
        hits[1] += found.any(dim=1).sum()
        hits[2] += sum(tokens[place] == frequent for place in places)
        hits[3] += sum(tokens[place] == _copy(tokens, int(place)) for place in places)
        asked += len(places)
    return MaskedScores(*(hits / asked).tolist(), asked)


def _copy(tokens: list[str], place: int) -> str:
    padded = ["[CLS]", *tokens, "[SEP]"]  # token i stands at i + 1
    around = padded[place], padded[place + 2]
    for other in range(len(tokens)):
        if other != place and (padded[other], padded[other + 2]) == around:
            return tokens[other]
    return Counter(tokens[:place] + tokens[place + 1 :]).most_common(1)[0][0]


# Attention from atom to atom


@torch.no_grad()
def atom_attention(
    model: ALBERTForPreTraining, tokenizer: ReactionTokenizer, smiles: str
) -> Float[Tensor, "layers heads product reactants"]:
    """How much each atom of the product and each of the reactants attend to each other.

    The sum of both directions, of every head: from 0 to 2.
    """
    device = next(model.parameters()).device
    ids = torch.tensor([tokenizer.encode(smiles)], device=device)
    with record_attention(model.encoder) as maps:
        model.encoder(ids)
    (layers,) = maps.values()  # the one layer, which ran several times
    attention = torch.cat(layers).cpu()  # (layers, heads, tokens, tokens)
    tokens = smiles_tokens(smiles)
    arrow = tokens.index(ARROW)
    places = read_graph(tokens).places
    reactants = torch.tensor([p + 1 for p in places if p < arrow])
    product = torch.tensor([p + 1 for p in places if p > arrow])
    there = attention[:, :, product][..., reactants]
    back = attention[:, :, reactants][..., product]
    return there + back.mT


class HeadScores(NamedTuple):
    """Of each head, what becomes of the atoms of the products if each goes where it attends most.

    Attributes:
        same_element: the share that goes to an atom of the same element.
        right: the share that goes to the atom that it was, or to one that nothing tells
            apart from that.
    """

    same_element: Float[Tensor, "layers heads"]
    right: Float[Tensor, "layers heads"]


def head_scores(
    model: ALBERTForPreTraining,
    tokenizer: ReactionTokenizer,
    reactions: Sequence[Reaction],
) -> HeadScores:
    """Every head as a mapper of atoms, with nothing done about its attention."""
    elements, right, number = 0.0, 0.0, 0
    for reaction in reactions:
        reactants, product = _graphs(reaction.smiles)
        best = atom_attention(model, tokenizer, reaction.smiles).argmax(dim=-1)
        of_reactants = torch.tensor(_numbers(reactants.atoms, product.atoms))
        of_product = torch.tensor(_numbers(product.atoms, product.atoms))
        alike = torch.tensor(equivalent_atoms(reactants))
        elements = elements + (of_reactants[best] == of_product).sum(-1)
        right = right + (alike[best] == alike[list(reaction.sources)]).sum(-1)
        number += len(product.atoms)
    return HeadScores(elements / number, right / number)


def share_right(
    reactions: Sequence[Reaction], mapped: Sequence[Sequence[int]]
) -> float:
    """The share of product atoms that are mapped right; equivalent atoms count as the same."""
    hits = number = 0
    for reaction, sources in zip(reactions, mapped, strict=True):
        alike = equivalent_atoms(_graphs(reaction.smiles)[0])
        for found, source in zip(sources, reaction.sources, strict=True):
            hits += found >= 0 and alike[found] == alike[source]
        number += len(reaction.sources)
    return hits / number


# Mapping


class AtomMap(NamedTuple):
    """Where the atoms of a product come from.

    Attributes:
        sources: of each atom of the product, an atom of the reactants; -1 for none.
        confidence: the product of the shares of attention that decided.
    """

    sources: list[int]
    confidence: float


def map_atoms(
    attention: Float[Tensor, "product reactants"],
    smiles: str,
    neighbor_factor: float = 90.0,
) -> AtomMap:
    """RXNMapper's way from one head's attention to a mapping, one atom after the other.

    The pair of atoms that is surest goes first. No atom of the reactants is given twice,
    an atom goes only to one of its element, and when two atoms belong together, their
    neighbors become likelier to belong together too.

    Args:
        attention: of one head, from `atom_attention`.
        smiles: the reaction.
        neighbor_factor: what the attention between neighbors of a mapped pair is
            multiplied by.
    """
    reactants, product = _graphs(smiles)
    of_reactants = torch.tensor(_numbers(reactants.atoms, product.atoms))
    of_product = torch.tensor(_numbers(product.atoms, product.atoms))
    weights = attention.double() * (of_product[:, None] == of_reactants)
    sources, confidence = [-1] * len(product.atoms), 1.0
    for _ in product.atoms:
        shares = weights / weights.sum(1, keepdim=True).clamp(min=1e-300)
        atom = int(shares.amax(dim=1).argmax())
        source = int(shares[atom].argmax())
        if shares[atom, source] < 1e-8:
            break  # nothing of these elements is left
        sources[atom] = source
        confidence *= float(shares[atom, source])
        for a in product.bonds[atom]:
            for b in reactants.bonds[source]:
                weights[a, b] *= neighbor_factor
        weights[atom] = 0.0
        weights[:, source] = 0.0
    return AtomMap(sources, confidence)


def map_in_order(smiles: str) -> list[int]:
    """A baseline: the k-th carbon of the product is the k-th carbon of the reactants, and so on."""
    reactants, product = _graphs(smiles)
    left: dict[str, list[int]] = {}
    for atom, token in enumerate(reactants.atoms):
        left.setdefault(element(token), []).append(atom)
    queues = {name: iter(atoms) for name, atoms in left.items()}
    return [next(queues.get(element(t), iter(())), -1) for t in product.atoms]


def chance_right(reactions: Sequence[Reaction]) -> float:
    """The share that is right on average when each atom goes to any one of its element."""
    total, number = 0.0, 0
    for reaction in reactions:
        reactants, product = _graphs(reaction.smiles)
        alike = equivalent_atoms(reactants)
        names = [element(token) for token in reactants.atoms]
        for token, source in zip(product.atoms, reaction.sources, strict=True):
            same = [a for a, name in enumerate(names) if name == element(token)]
            total += sum(alike[a] == alike[source] for a in same) / len(same)
        number += len(product.atoms)
    return total / number


def new_bonds(smiles: str, sources: Sequence[int]) -> Int[Tensor, "bonds 2"]:
    """The bonds of the product, as pairs of its atoms, that the reactants did not have."""
    reactants, product = _graphs(smiles)
    made = [
        (a, b)
        for a, bonds in enumerate(product.bonds)
        for b in bonds
        if a < b and sources[b] not in reactants.bonds[sources[a]]
    ]
    return torch.tensor(made, dtype=torch.long).view(-1, 2)


def _graphs(smiles: str) -> tuple[Graph, Graph]:
    reactants, product = smiles.split(ARROW)
    return read_graph(smiles_tokens(reactants)), read_graph(smiles_tokens(product))


def _numbers(atoms: list[str], names: list[str]) -> list[int]:
    """Of each atom the number of its element; -1 where ``names`` has no such element."""
    order = {name: i for i, name in enumerate(dict.fromkeys(map(element, names)))}
    return [order.get(element(atom), -1) for atom in atoms]
