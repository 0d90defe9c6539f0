"""SMILES as tokens and graphs, the reactions mapped by hand, and what is measured on them."""

from __future__ import annotations

import pytest
import torch

from companion import ALBERT, ALBERTForPreTraining
from companion.analysis.reactions import (
    _copy,
    atom_attention,
    chance_right,
    head_scores,
    map_atoms,
    map_in_order,
    masked_scores,
    new_bonds,
    share_right,
)
from companion.data.reactions import REACTIONS, Reaction, ReactionTokenizer
from companion.data.smiles import (
    element,
    equivalent_atoms,
    is_atom,
    read_graph,
    smiles_tokens,
)

BY_NAME = {reaction.name: reaction for reaction in REACTIONS}


def test_tokens():
    assert smiles_tokens("CC(=O)Cl.[C@H](Br)N>>c1ccccc1%12") == [
        *"CC(=O)",
        "Cl",
        ".",
        "[C@H]",
        "(",
        "Br",
        ")",
        "N",
        ">>",
        *"c1ccccc1",
        "%12",
    ]
    for wrong in ("CC!", "hello", "C C", "[C"):
        with pytest.raises(ValueError, match="must be written in SMILES"):
            smiles_tokens(wrong)


def test_elements():
    tokens = ["C", "c", "Cl", "[nH]", "[C@@H]", "[13CH3]", "[Na+]", "[se]", "[1*]", "*"]
    names = ["C", "C", "Cl", "N", "C", "C", "Na", "Se", "*", "*"]
    assert [element(token) for token in tokens] == names
    assert all(map(is_atom, tokens)) and not any(map(is_atom, "=#()1.-"))


def bonds(smiles: str) -> set[tuple[int, int, str]]:
    graph = read_graph(smiles_tokens(smiles))
    return {
        (a, b, k)
        for a, near in enumerate(graph.bonds)
        for b, k in near.items()
        if a < b
    }


def test_graphs():
    assert bonds("CC(=O)O") == {(0, 1, ""), (1, 2, "="), (1, 3, "")}
    assert bonds("C1CC1.C") == {(0, 1, ""), (1, 2, ""), (0, 2, "")}
    assert bonds("C=1CC=1") == {(0, 1, ""), (1, 2, ""), (0, 2, "=")}
    assert bonds("C%10CC%10") == bonds("C1CC1")
    assert bonds("CO>>C=O") == {(0, 1, ""), (2, 3, "=")}
    naphthalene = read_graph(smiles_tokens("c1ccc2ccccc2c1"))
    assert sorted(map(len, naphthalene.bonds)) == [2] * 8 + [3] * 2
    assert read_graph(smiles_tokens("CC(=O)O")).places == [0, 1, 4, 6]
    for wrong in ("C1CC", "C(C", "CC)"):
        with pytest.raises(ValueError, match="branch"):
            read_graph(smiles_tokens(wrong))


@pytest.mark.parametrize(
    ("smiles", "classes"),
    [
        ("CC(C)(C)O", [{0, 2, 3}, {1}, {4}]),
        ("Cc1ccccc1", [{0}, {1}, {2, 6}, {3, 5}, {4}]),
        ("CC(=O)OC(C)=O", [{0, 5}, {1, 4}, {2, 6}, {3}]),
        ("CCO.CCO", [{0, 3}, {1, 4}, {2, 5}]),
        ("C=CC=C", [{0, 3}, {1, 2}]),
    ],
)
def test_equivalent_atoms(smiles, classes):
    found: dict[int, set[int]] = {}
    for atom, color in enumerate(equivalent_atoms(read_graph(smiles_tokens(smiles)))):
        found.setdefault(color, set()).add(atom)
    assert sorted(map(sorted, found.values())) == sorted(map(sorted, classes))


# Bonds that each reaction makes, by what it is: a check of the mapping that does not
# know how it was written down.
MADE = {
    "Diels-Alder reaction": 2,
    "azide-alkyne cycloaddition": 2,
    "bromination of styrene": 2,
    "Fischer indole synthesis": 2,
    "reduction of acetophenone": 0,
    "Boc deprotection": 0,
    "oxidation of benzyl alcohol": 0,
    "reduction of nitrobenzene": 0,
}


@pytest.mark.parametrize("name", BY_NAME)
def test_a_reaction_makes_as_many_bonds_as_its_kind(name):
    reaction = BY_NAME[name]
    made = new_bonds(reaction.smiles, reaction.sources)
    assert len(made) == MADE.get(name, 1)


def test_the_new_bond_of_a_suzuki_coupling():
    reaction = BY_NAME["Suzuki coupling"]
    ((a, b),) = new_bonds(reaction.smiles, reaction.sources).tolist()
    reactants, _ = reaction.atoms()
    graph = read_graph(smiles_tokens(reaction.smiles.split(">>")[0]))
    near = [
        {element(reactants[c]) for c in graph.bonds[reaction.sources[x]]}
        for x in (a, b)
    ]
    assert {"Br", "B"} <= near[0] | near[1] and ("Br" in near[0]) != ("Br" in near[1])


def test_what_a_reaction_refuses():
    with pytest.raises(ValueError, match="must be 3 numbers"):
        Reaction("x", "CCO>>CC=O", (0, 1))
    with pytest.raises(ValueError, match="twice"):
        Reaction("x", "CCO>>CC=O", (0, 0, 2))
    with pytest.raises(ValueError, match="make C of O"):
        Reaction("x", "CCO>>CC=O", (0, 2, 1))


def test_the_vocabulary_knows_every_token():
    tokenizer = ReactionTokenizer()
    assert len(tokenizer.tokens) == 591
    for reaction in REACTIONS:
        ids = tokenizer.encode(reaction.smiles)
        text = "".join(tokenizer.tokens[i] for i in ids[1:-1])
        assert text == reaction.smiles
    assert tokenizer.tokens[tokenizer.encode("[Og]")[1]] == "[UNK]"
    batch = tokenizer.batch(["CCO", "C"])
    assert batch.token_ids.shape == (2, 5) and batch.mask.sum() == 8
    assert batch.tokens[1] == ["[CLS]", "C", "[SEP]"]


# Mapping, with attention made by hand


def test_an_atom_is_given_once_and_to_its_element():
    smiles = "CO.CN>>COC"  # reactant atoms C O C N
    attention = torch.tensor(
        [[0.9, 0.0, 0.8, 2.0], [0.5, 0.1, 0.5, 2.0], [0.95, 0.0, 0.3, 2.0]]
    )
    found = map_atoms(attention, smiles, neighbor_factor=1.0)
    assert found.sources == [2, 1, 0]
    shares = [
        1.0,
        0.95 / 1.25,
        1.0,
    ]  # O first, then the surest carbon, then what is left
    assert found.confidence == pytest.approx(shares[0] * shares[1] * shares[2])


def test_neighbors_help():
    smiles = "CC.NC>>NC"  # is the carbon the nitrogen's neighbor?
    attention = torch.tensor([[0.0, 0.0, 1.0, 0.0], [0.4, 0.3, 0.0, 0.2]])
    assert map_atoms(attention, smiles, neighbor_factor=1.0).sources == [2, 0]
    assert map_atoms(attention, smiles).sources == [2, 3]


def test_an_atom_from_nowhere():
    assert map_atoms(torch.ones(2, 1), "C>>CO").sources == [0, -1]
    assert map_in_order("C>>CO") == [0, -1]


def test_map_in_order():
    assert map_in_order("NC.OC>>CNC") == [1, 0, 3]


def test_shares_right():
    ester = BY_NAME["Boc deprotection"]
    assert share_right([ester], [ester.sources]) == 1
    wrong = list(ester.sources)
    wrong[0], wrong[1] = wrong[1], wrong[0]
    assert share_right([ester], [wrong]) == 1 - 2 / len(wrong)
    turned = list(ester.sources)  # the two ortho carbons, which nothing tells apart
    turned[3], turned[7] = turned[7], turned[3]
    assert share_right([ester], [turned]) == 1
    assert share_right([ester], [[-1] * len(wrong)]) == 0
    both = Reaction("x", "CCO>>CC=O", (0, 1, 2))  # each carbon by chance: 1 of 2
    assert chance_right([both]) == pytest.approx((0.5 + 0.5 + 1) / 3)


# With a model whose weights are random: shapes and counts


@pytest.fixture
def untrained() -> ALBERTForPreTraining:
    torch.manual_seed(0)
    encoder = ALBERT(591, 16, 4, 32, 3, d_embedding=8)
    return ALBERTForPreTraining(encoder, next_sentence=False).eval()


def test_atom_attention(untrained):
    tokenizer = ReactionTokenizer()
    smiles = "C(C)O.BrC(C)>>CCOCC"
    attention = atom_attention(untrained, tokenizer, smiles)
    assert attention.shape == (3, 4, 5, 6)
    assert (attention > 0).all() and (attention < 2).all()
    scores = head_scores(untrained, tokenizer, REACTIONS[:3])
    assert scores.right.shape == scores.same_element.shape == (3, 4)
    assert (scores.right <= scores.same_element).all()


class Knows(ALBERTForPreTraining):
    """Says the tokens of one reaction, whatever is masked."""

    def forward(self, token_ids, mask=None, token_types=None):
        wanted = torch.tensor(ReactionTokenizer().encode("CCO>>CC=O"))
        return (
            torch.nn.functional.one_hot(wanted, 591).expand(len(token_ids), -1, -1)
            + 0.0
        )


def test_masked_scores():
    model = Knows(ALBERT(591, 16, 4, 32, 1), next_sentence=False)
    scores = masked_scores(model, ReactionTokenizer(), ["CCO>>CC=O"])
    assert scores.tokens == 8 and scores.top1 == scores.top5 == 1.0
    assert scores.frequent == pytest.approx(4 / 8)  # four of them are C
    product = masked_scores(
        model, ReactionTokenizer(), ["CCO>>CC=O"], product_only=True
    )
    assert product.tokens == 4


def test_copying():
    tokens = smiles_tokens("NC=O.NF=O")
    assert _copy(tokens, 1) == "F", "it stands between N and = elsewhere"
    assert _copy(tokens, 6) == "C"
    tokens = smiles_tokens("CCO>>CC=O")
    assert _copy(tokens, 2) == "C", "no other token follows C and precedes an arrow"
