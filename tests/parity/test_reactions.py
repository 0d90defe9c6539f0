"""RXNMapper's weights in our ALBERT: against transformers, and against what its authors state."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from torch import Tensor

from companion.analysis.reactions import (
    HEAD,
    LAYER,
    atom_attention,
    map_atoms,
    reaction_model,
)
from companion.data.assets import fetch
from companion.data.reactions import REACTIONS, ReactionTokenizer
from companion.models.albert import ALBERTForPreTraining
from tests.parity.encoders import compare_states, difference

transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def model() -> ALBERTForPreTraining:
    return reaction_model()


@torch.no_grad()
def test_hidden_states_and_logits(model, parity_record):
    """In 64 bits, since logits of the size of these are known to 1e-4 in 32."""
    model = copy.deepcopy(model).double()
    folder = fetch("rxnmapper")
    config = json.loads((folder / "config.json").read_text())
    theirs = transformers.AlbertForMaskedLM(
        transformers.AlbertConfig(
            **{
                name: config[name]
                for name in transformers.AlbertConfig().to_dict()
                if name in config and name != "architectures"
            },
            attn_implementation="eager",
        )
    ).eval()
    weights: dict[str, Tensor] = torch.load(
        folder / "pytorch_model.bin", map_location="cpu", weights_only=True
    )
    absent, left = theirs.load_state_dict(weights, strict=False)
    theirs.double()
    assert not absent
    assert all("pooler" in name for name in left), left
    batch = ReactionTokenizer().batch([r.smiles for r in REACTIONS[:6]])
    output = theirs(
        batch.token_ids,
        attention_mask=batch.mask[:, 0, 0].long(),
        output_hidden_states=True,
    )
    states = model.hidden_states(batch.token_ids, batch.mask)
    name = "transformers.AlbertForMaskedLM"
    worst = compare_states(states, output.hidden_states, 1e-6)
    parity_record("RXNMapper's ALBERT: hidden states", name, worst, 1e-6)
    worst = difference(model(batch.token_ids, batch.mask), output.logits)
    parity_record("RXNMapper's ALBERT: logits", name, worst, 1e-6)


# What the tests of rxnmapper 0.4.3 (MIT license) state for these reactions. Those that it
# puts into a canonical order first are written here in that order.
STATED = {
    "C(C)O.BrC(C)>>CCOCC": 0.9754605679009868,
    "CCO.BrCFC>>CCOCFC": 0.9730222157275086,
    "[1*]C=C.O>>*CCO": 0.9988284870307568,
    "CC(C)S.CN(C)C=O.Fc1cccnc1F.O=C([O-])[O-].[K+].[K+]>>CC(C)Sc1ncccc1F": (
        0.9565619900376546
    ),
    "C1COCCO1.CC(C)(C)OC(=O)CONC(=O)NCc1cccc2ccccc12.Cl"
    ">>O=C(O)CONC(=O)NCc1cccc2ccccc12": 0.9704424331552834,
    "COC(=O)CCBr.O=C[O-]->[K+]>>COC(=O)CCOC(=O)C": 0.9322116305783666,
}


@pytest.mark.parametrize("smiles", STATED)
def test_the_confidence_is_what_the_authors_state(smiles, model, parity_record):
    attention = atom_attention(model, ReactionTokenizer(), smiles)[LAYER, HEAD]
    found = map_atoms(attention, smiles)
    off = abs(found.confidence - STATED[smiles])
    parity_record(
        f"RXNMapper: {smiles.partition('>>')[2]}", "rxnmapper 0.4.3", off, 1e-5
    )


def test_a_stated_mapping(model):
    """``[CH2:2]([CH3:1])[OH:3].Br[CH2:4][CH3:5]>>[CH3:1][CH2:2][O:3][CH2:4][CH3:5]``."""
    smiles = "C(C)O.BrC(C)>>CCOCC"
    attention = atom_attention(model, ReactionTokenizer(), smiles)[LAYER, HEAD]
    assert map_atoms(attention, smiles).sources == [1, 0, 2, 4, 5]
