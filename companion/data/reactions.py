"""Chemical reactions, written out and mapped by hand, and the tokenizer of RXNMapper.

In the reactions below, ``sources`` tells where each atom of the product comes from: the
number of that atom among the atoms of the reactants, counted from 0 in the order of the
text. These are textbook reactions, mapped by their accepted mechanisms. Where a text has
no standard mapping, such as proton exchanges, the reaction was left out.

Source of the tokenizer: Schwaller et al. (2021), "Extraction of Organic Chemistry Grammar
from Unsupervised Learning of Chemical Reactions".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from companion.data.assets import fetch
from companion.data.smiles import ARROW, element, read_graph, smiles_tokens
from companion.data.tokenizers import Batch
from companion.layers import padding_mask


@dataclass(frozen=True)
class Reaction:
    """A reaction whose atoms are mapped.

    Attributes:
        name: what chemists call it.
        smiles: ``reactants>>product``.
        sources: of each atom of the product, the atom of the reactants that it was.

    Raises:
        ValueError: the sources are not one a product atom, or of other elements, or one
            is named twice.
    """

    name: str
    smiles: str
    sources: tuple[int, ...]

    def __post_init__(self) -> None:
        reactants, product = self.atoms()
        if len(self.sources) != len(product):
            raise ValueError(
                f"sources must be {len(product)} numbers, but {self.name} has "
                f"{len(self.sources)}"
            )
        if len(set(self.sources)) < len(self.sources):
            raise ValueError(f"sources of {self.name} name an atom twice")
        for atom, source in zip(product, self.sources, strict=True):
            if element(atom) != element(reactants[source]):
                raise ValueError(
                    f"sources of {self.name} make {atom} of {reactants[source]}"
                )

    def atoms(self) -> tuple[list[str], list[str]]:
        """The tokens of the atoms of the reactants, and of the product."""
        reactants, product = self.smiles.split(ARROW)
        return tuple(read_graph(smiles_tokens(x)).atoms for x in (reactants, product))


class ReactionTokenizer:
    """SMILES to token ids and back, with RXNMapper's vocabulary.

    Attributes:
        tokens: of each id its token.
        pad_id, cls_id, sep_id, mask_id: the special tokens.
    """

    def __init__(self) -> None:
        text = (fetch("rxnmapper") / "vocab.txt").read_text(encoding="utf-8")
        self.tokens = text.splitlines()
        self._ids = {token: index for index, token in enumerate(self.tokens)}
        self.pad_id, self._unknown, self.cls_id, self.sep_id, self.mask_id = (
            self._ids[f"[{name}]"] for name in ("PAD", "UNK", "CLS", "SEP", "MASK")
        )

    def encode(self, smiles: str) -> list[int]:
        """[CLS], the tokens of a reaction or molecule, [SEP]. An unknown atom is [UNK]."""
        ids = [self._ids.get(t, self._unknown) for t in smiles_tokens(smiles)]
        return [self.cls_id, *ids, self.sep_id]

    def batch(self, reactions: Sequence[str]) -> Batch:
        """Several reactions, padded at the end to the longest of them."""
        rows = [self.encode(smiles) for smiles in reactions]
        token_ids = torch.full((len(rows), max(map(len, rows))), self.pad_id)
        for row, ids in enumerate(rows):
            token_ids[row, : len(ids)] = torch.tensor(ids)
        tokens = [["[CLS]", *smiles_tokens(smiles), "[SEP]"] for smiles in reactions]
        mask = padding_mask(token_ids, self.pad_id)
        return Batch(token_ids, mask, tokens, torch.zeros_like(token_ids))


def _reaction(name: str, smiles: str, sources: str) -> Reaction:
    return Reaction(name, smiles, tuple(map(int, sources.split())))


REACTIONS: tuple[Reaction, ...] = (
    _reaction(
        "Fischer esterification of acetic acid",
        "CC(=O)O.OCC.OS(=O)(=O)O>>CC(=O)OCC",
        "0 1 2 4 5 6",
    ),
    _reaction(
        "aspirin from salicylic acid",
        "CC(=O)OC(C)=O.OC(=O)c1ccccc1O>>CC(=O)Oc1ccccc1C(=O)O",
        "0 1 2 16 15 14 13 12 11 10 8 9 7",
    ),
    _reaction(
        "paracetamol from 4-aminophenol",
        "CC(=O)OC(C)=O.Nc1ccc(O)cc1>>CC(=O)Nc1ccc(O)cc1",
        "0 1 2 7 8 9 10 11 12 13 14",
    ),
    _reaction(
        "Williamson ether synthesis",
        "CCBr.[O-]c1ccccc1.[Na+]>>CCOc1ccccc1",
        "0 1 3 4 5 6 7 8 9",
    ),
    _reaction(
        "Suzuki coupling",
        "Brc1ccccc1.OB(O)c1ccc(C)cc1.O=C([O-])[O-].[K+].[K+]>>Cc1ccc(-c2ccccc2)cc1",
        "14 13 12 11 10 1 2 3 4 5 6 16 15",
    ),
    _reaction(
        "reduction of acetophenone",
        "CC(=O)c1ccccc1.[BH4-].[Na+]>>CC(O)c1ccccc1",
        "0 1 2 3 4 5 6 7 8",
    ),
    _reaction(
        "Grignard addition to benzaldehyde",
        "C[Mg]Br.O=Cc1ccccc1>>CC(O)c1ccccc1",
        "0 4 3 5 6 7 8 9 10",
    ),
    _reaction(
        "Diels-Alder reaction",
        "C=CC=C.O=C1C=CC(=O)O1>>O=C1OC(=O)C2CC=CCC12",
        "4 5 10 8 9 7 0 1 2 3 6",
    ),
    _reaction(
        "aldol condensation",
        "CC(C)=O.O=Cc1ccccc1.[OH-].[Na+]>>CC(=O)C=Cc1ccccc1",
        "0 1 3 2 5 6 7 8 9 10 11",
    ),
    _reaction(
        "Wittig reaction",
        "C=P(c1ccccc1)(c1ccccc1)c1ccccc1.O=Cc1ccccc1>>C=Cc1ccccc1",
        "0 21 22 23 24 25 26 27",
    ),
    _reaction(
        "Friedel-Crafts acylation",
        "c1ccccc1.CC(=O)Cl.Cl[Al](Cl)Cl>>CC(=O)c1ccccc1",
        "6 7 8 0 1 2 3 4 5",
    ),
    _reaction(
        "nitration of toluene",
        "Cc1ccccc1.O[N+](=O)[O-]>>Cc1ccc([N+](=O)[O-])cc1",
        "0 1 2 3 4 8 9 10 5 6",
    ),
    _reaction(
        "amide coupling",
        "O=C(O)c1ccccc1.NCc1ccccc1>>O=C(NCc1ccccc1)c1ccccc1",
        "0 1 9 10 11 12 13 14 15 16 3 4 5 6 7 8",
    ),
    _reaction(
        "Boc protection",
        "CC(C)(C)OC(=O)OC(=O)OC(C)(C)C.NCc1ccccc1>>CC(C)(C)OC(=O)NCc1ccccc1",
        "0 1 2 3 4 5 6 15 16 17 18 19 20 21 22",
    ),
    _reaction(
        "Boc deprotection",
        "CC(C)(C)OC(=O)NCc1ccccc1.O=C(O)C(F)(F)F>>NCc1ccccc1",
        "7 8 9 10 11 12 13 14",
    ),
    _reaction(
        "chloride of benzoic acid",
        "O=C(O)c1ccccc1.O=S(Cl)Cl>>O=C(Cl)c1ccccc1",
        "0 1 11 3 4 5 6 7 8",
    ),
    _reaction(
        "nucleophilic aromatic substitution",
        "CC(C)S.Fc1cccnc1F.O=C([O-])[O-].[K+].[K+]>>CC(C)Sc1ncccc1F",
        "0 1 2 3 10 9 8 7 6 5 4",
    ),
    _reaction(
        "azide-alkyne cycloaddition",
        "C#Cc1ccccc1.[N-]=[N+]=NCc1ccccc1>>c1ccc(Cn2cc(-c3ccccc3)nn2)cc1",
        "15 14 13 12 11 10 0 1 2 3 4 5 6 7 8 9 17 16",
    ),
    _reaction(
        "bromination of styrene",
        "C=Cc1ccccc1.BrBr>>BrCC(Br)c1ccccc1",
        "8 0 1 9 2 3 4 5 6 7",
    ),
    _reaction(
        "opening of an epoxide",
        "C1CO1.NCc1ccccc1>>OCCNCc1ccccc1",
        "2 1 0 3 4 5 6 7 8 9 10",
    ),
    _reaction(
        "reductive amination",
        "CC(C)=O.NCc1ccccc1.[BH3-]C#N.[Na+]>>CC(C)NCc1ccccc1",
        "0 1 2 4 5 6 7 8 9 10 11",
    ),
    _reaction(
        "Heck reaction",
        "Ic1ccccc1.C=CC(=O)OC.CCN(CC)CC>>COC(=O)C=Cc1ccccc1",
        "12 11 9 10 8 7 1 2 3 4 5 6",
    ),
    _reaction(
        "Sonogashira coupling",
        "Ic1ccccc1.C#Cc1ccc(C)cc1.CCN(CC)CC>>Cc1ccc(C#Cc2ccccc2)cc1",
        "13 12 11 10 9 8 7 1 2 3 4 5 6 15 14",
    ),
    _reaction(
        "Buchwald-Hartwig amination",
        "Brc1ccc(OC)cc1.C1COCCN1>>COc1ccc(N2CCOCC2)cc1",
        "6 5 4 3 2 1 14 13 12 11 10 9 8 7",
    ),
    _reaction(
        "lidocaine, last step",
        "CCNCC.Cc1cccc(C)c1NC(=O)CCl>>CCN(CC)CC(=O)Nc1c(C)cccc1C",
        "0 1 2 3 4 16 14 15 13 12 10 11 9 8 7 6 5",
    ),
    _reaction(
        "Mitsunobu reaction",
        "CCO.Oc1ccccc1.CCOC(=O)N=NC(=O)OCC.c1ccc(P(c2ccccc2)c2ccccc2)cc1>>CCOc1ccccc1",
        "0 1 3 4 5 6 7 8 9",
    ),
    _reaction(
        "oxidation of benzyl alcohol",
        "OCc1ccccc1.O=[Mn]=O>>O=Cc1ccccc1",
        "0 1 2 3 4 5 6 7",
    ),
    _reaction(
        "reduction of nitrobenzene",
        "O=[N+]([O-])c1ccccc1.[Fe].Cl>>Nc1ccccc1",
        "1 3 4 5 6 7 8",
    ),
    _reaction(
        "Claisen condensation",
        "CCOC(C)=O.CCOC(C)=O.CC[O-].[Na+]>>CCOC(=O)CC(C)=O",
        "0 1 2 3 5 4 9 10 11",
    ),
    _reaction(
        "Michael addition",
        "C=CC(C)=O.CCOC(=O)CC(=O)OCC>>CCOC(=O)C(CCC(C)=O)C(=O)OCC",
        "5 6 7 8 9 10 0 1 2 3 4 11 12 13 14 15",
    ),
    _reaction(
        "Fischer indole synthesis",
        "NNc1ccccc1.CC(C)=O>>Cc1cc2ccccc2[nH]1",
        "8 9 10 3 4 5 6 7 2 1",
    ),
)
