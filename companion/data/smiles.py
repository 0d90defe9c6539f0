"""SMILES: molecules and reactions as lines of text, cut into tokens, and read as graphs.

``CC(=O)O`` is acetic acid: atoms one after the other, branches in parentheses, ``=`` for a
double bond, hydrogens left out; digits mark where a ring closes, small letters are
aromatic, ``.`` separates molecules. In a reaction ``>>`` stands between what goes in and
what comes out.

Sources: Weininger (1988), "SMILES, a Chemical Language and Information System"; Schwaller
et al. (2019), "Molecular Transformer", for the tokens.
"""

from __future__ import annotations

import re
from typing import NamedTuple

ARROW = ">>"
# An atom in brackets, one with a letter or two, a bond, a branch, a ring's digit.
_TOKEN = re.compile(
    r"\[[^\]]+\]|Br|Cl|[BCNOSPFIbcnosp*]|>>|%\d\d|\d|[().=#\-+\\/:~@?>$]"
)
_ELEMENT = re.compile(r"\[\d*([A-Z][a-z]?|[a-z]{1,2}|\*)")


def smiles_tokens(smiles: str) -> list[str]:
    """The tokens of a molecule or reaction, which joined give the text again.

    Raises:
        ValueError: a character that SMILES does not have.
    """
    tokens = _TOKEN.findall(smiles)
    if "".join(tokens) != smiles:
        raise ValueError(f"smiles must be written in SMILES, but it is {smiles!r}")
    return tokens


def is_atom(token: str) -> bool:
    """Whether a token of SMILES stands for an atom."""
    return token[0].isalpha() or token[0] in "[*"


def element(token: str) -> str:
    """The element of an atom's token: ``"C"`` of ``"C"``, ``"c"`` and ``"[C@H]"``."""
    bracketed = _ELEMENT.match(token)
    return (bracketed[1] if bracketed else token).capitalize()


class Graph(NamedTuple):
    """The atoms of one or more molecules, and the bonds between them.

    Attributes:
        atoms: their tokens, in the order of the text.
        bonds: ``bonds[a][b]`` is the token of the bond between atoms a and b, ``""`` for
            one that is not written.
        places: of each atom, its place among all tokens.
    """

    atoms: list[str]
    bonds: list[dict[int, str]]
    places: list[int]


def read_graph(tokens: list[str]) -> Graph:
    """The graph of the tokens of molecules, or of a whole reaction.

    Raises:
        ValueError: a branch or a ring that is not closed.
    """
    graph = Graph([], [], [])
    branches: list[int | None] = []
    rings: dict[str, tuple[int, str]] = {}
    last: int | None = None
    bond = ""

    def connect(a: int, b: int, kind: str) -> None:
        graph.bonds[a][b] = graph.bonds[b][a] = kind

    for place, token in enumerate(tokens):
        if is_atom(token):
            atom = len(graph.atoms)
            graph.atoms.append(token)
            graph.bonds.append({})
            graph.places.append(place)
            if last is not None:
                connect(last, atom, bond)
            last, bond = atom, ""
        elif token == "(":
            branches.append(last)
        elif token == ")":
            if not branches:
                raise ValueError(f"tokens close a branch too many: {''.join(tokens)}")
            last = branches.pop()
        elif token.lstrip("%").isdigit() and last is not None:
            if token in rings:
                start, kind = rings.pop(token)
                connect(start, last, kind or bond)
            else:
                rings[token] = (last, bond)
            bond = ""
        elif token in (".", ARROW):
            last, bond = None, ""
        else:
            bond = token
    if branches or rings:
        raise ValueError(f"tokens leave a branch or a ring open: {''.join(tokens)}")
    return graph


def equivalent_atoms(graph: Graph) -> list[int]:
    """A number for each atom, the same for atoms that nothing in their molecules tells apart.

    Each atom begins with its token as its color. Then, again and again, its color becomes
    the old one with the colors of its neighbors (Weisfeiler and Leman, 1968), until no
    more atoms are told apart. The three methyls of a tert-butyl come out equal.
    """
    colors = _numbered(graph.atoms)
    while True:
        finer = _numbered(
            [
                (color, tuple(sorted((kind, colors[b]) for b, kind in bonds.items())))
                for color, bonds in zip(colors, graph.bonds, strict=True)
            ]
        )
        if max(finer, default=0) == max(colors, default=0):
            return colors
        colors = finer


def _numbered(things: list) -> list[int]:
    order = {thing: number for number, thing in enumerate(dict.fromkeys(things))}
    return [order[thing] for thing in things]
