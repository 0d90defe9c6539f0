"""How an encoder-decoder is compared with its reference, the same for T5 and BART."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn

from companion import (
    GivenSource,
    beam_search,
    padding_mask,
    record_attention,
    translate,
)
from companion.models.hf import load_hf
from companion.models.seq2seq import EncoderDecoder

Inputs = tuple[Tensor, Tensor, Tensor]


def shake(model: nn.Module, std: float = 0.2) -> nn.Module:
    """No parameter is left at zero or one, so that none can be mixed up."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape) * std)
        padding = getattr(model.get_input_embeddings(), "padding_idx", None)
        if padding is not None:
            model.get_input_embeddings().weight[padding] = 0.0
    return model.eval()


def inputs(ours: EncoderDecoder, vocab_size: int, length: int = 9) -> Inputs:
    """Sources padded to different lengths, their mask, and labels that end early."""
    source = torch.randint(3, vocab_size, (3, length))
    source[1, length // 2 :] = ours.pad_id
    source[2, 1:] = ours.pad_id
    labels = torch.randint(3, vocab_size, (3, length - 2))
    labels[0, 4:] = -100
    return source, padding_mask(source, ours.pad_id), labels


def difference(ours: Tensor, theirs: Tensor) -> float:
    assert ours.shape == theirs.shape
    return float((ours - theirs).detach().abs().max())


def compare_states(stack: str, ours, theirs, bound: float) -> float:
    """The largest difference. Fails at the first layer that is off, and names it."""
    assert len(ours) == len(theirs)
    worst = [difference(a, b) for a, b in zip(ours, theirs, strict=True)]
    for layer, off in enumerate(worst):
        if not off < bound:
            name = f"{stack} layer {layer}" if layer else f"the {stack}'s embedding"
            pytest.fail(
                f"{name} is the first to differ: by {off:.2e}, bound {bound:.0e}"
            )
    return max(worst)


def check_states(ours, theirs, name, reference, parity_record) -> None:
    """Hidden states layer by layer, logits, loss; with padding and without."""
    for masked in (False, True):
        source, mask, labels = inputs(ours, theirs.config.vocab_size)
        seen = mask[:, 0, 0].long() if masked else torch.ones_like(source)
        mask = mask if masked else None
        expected = theirs(
            source, attention_mask=seen, labels=labels, output_hidden_states=True
        )
        reads = theirs.prepare_decoder_input_ids_from_labels(labels)
        encoder, decoder = ours.hidden_states(source, reads, mask)
        case = name + ", padding" * masked
        states = max(
            compare_states("encoder", encoder, expected.encoder_hidden_states, 1e-4),
            compare_states("decoder", decoder, expected.decoder_hidden_states, 1e-4),
        )
        parity_record(f"{case}: hidden states", reference, states, 1e-4)
        logits = difference(ours(source, reads, mask), expected.logits)
        parity_record(f"{case}: logits", reference, logits, 1e-4)
        loss = difference(ours.loss(source, labels, mask), expected.loss)
        parity_record(f"{case}: loss", reference, loss, 1e-4)


def check_target_mask(ours, theirs, name, reference, parity_record) -> None:
    source, mask, labels = inputs(ours, theirs.config.vocab_size)
    target = theirs.prepare_decoder_input_ids_from_labels(labels)
    seen = torch.ones_like(target, dtype=torch.bool)
    seen[1, 3:] = seen[2, 1:3] = False
    expected = theirs(
        source,
        attention_mask=mask[:, 0, 0].long(),
        decoder_input_ids=target,
        decoder_attention_mask=seen.long(),
    ).logits
    output = ours(source, target, mask, seen[:, None, None])
    off = difference(output, expected)
    parity_record(f"{name}: hidden target tokens", reference, off, 1e-4)


def check_gradients(
    ours: EncoderDecoder,
    theirs: nn.Module,
    rules: Mapping[str, str],
    name: str,
    reference: str,
    parity_record,
) -> None:
    source, mask, labels = inputs(ours, theirs.config.vocab_size)
    theirs(source, attention_mask=mask[:, 0, 0].long(), labels=labels).loss.backward()
    ours.loss(source, labels, mask).backward()
    # Their gradients under our names: as if they were the weights of a model.
    expected = copy.deepcopy(ours)
    gradients = {name: p.grad for name, p in theirs.named_parameters()}
    buffers = dict(theirs.named_buffers())
    if "final_logits_bias" in buffers:
        gradients["final_logits_bias"] = buffers["final_logits_bias"]
    load_hf(expected, gradients, rules)
    worst = max(
        difference(p.grad, want)
        for p, want in zip(ours.parameters(), expected.parameters(), strict=True)
    )
    assert max(p.grad.abs().max() for p in ours.parameters()) > 1e-3
    parity_record(f"{name}: gradients", reference, worst, 1e-4)


def check_attention_maps(ours, theirs, name, reference, parity_record) -> None:
    source, mask, labels = inputs(ours, theirs.config.vocab_size)
    reads = theirs.prepare_decoder_input_ids_from_labels(labels)
    with record_attention(ours) as maps, torch.no_grad():
        ours(source, reads, mask)
    expected = theirs(
        source,
        attention_mask=mask[:, 0, 0].long(),
        decoder_input_ids=reads,
        output_attentions=True,
    )
    pairs = {
        ("encoder", "self_attention"): expected.encoder_attentions,
        ("decoder", "self_attention"): expected.decoder_attentions,
        ("decoder", "cross_attention"): expected.cross_attentions,
    }
    assert len(maps) == sum(map(len, pairs.values()))
    worst = max(
        difference(maps[f"{stack}.layers.{i}.{kind}"][0], one)
        for (stack, kind), theirs_ in pairs.items()
        for i, one in enumerate(theirs_)
    )
    parity_record(f"{name}: attention maps", reference, worst, 1e-4)


def check_generation(ours: EncoderDecoder, theirs: nn.Module, num_beams: int) -> None:
    """The very tokens of ``transformers.generate``, with our cache and without."""
    source, mask, _ = inputs(ours, theirs.config.vocab_size)
    expected = theirs.generate(
        source,
        attention_mask=mask[:, 0, 0].long(),
        use_cache=_their_cache_works(ours),
        max_new_tokens=7,
        num_beams=num_beams,
        do_sample=False,
        forced_eos_token_id=None,
        forced_bos_token_id=None,
    )[:, 1:]
    options = {
        "start_id": ours.start_id,
        "source_mask": mask,
        "num_beams": num_beams,
        "stop_ids": [ours.eos_id],
        "pad_id": ours.pad_id,
    }
    for use_cache in (True, False):
        found = translate(ours, source, 7, use_cache=use_cache, **options)
        assert found.tolist() == expected.tolist(), (num_beams, use_cache)


def check_beam_scores(ours, theirs, name, reference, parity_record) -> None:
    source, mask, _ = inputs(ours, theirs.config.vocab_size)
    expected = theirs.generate(
        source,
        attention_mask=mask[:, 0, 0].long(),
        use_cache=_their_cache_works(ours),
        max_new_tokens=6,
        num_beams=3,
        num_return_sequences=3,
        do_sample=False,
        forced_eos_token_id=None,
        forced_bos_token_id=None,
        output_scores=True,
        return_dict_in_generate=True,
    )
    found = beam_search(
        GivenSource(ours, source, mask),
        torch.full((3, 1), ours.start_id),
        6,
        num_beams=3,
        stop_ids=[ours.eos_id],
        pad_id=ours.pad_id,
    )
    off = difference(found.scores.flatten(), expected.sequences_scores)
    parity_record(f"{name}: scores of 3 beams", reference, off, 1e-4)


def _their_cache_works(ours: EncoderDecoder) -> bool:
    """It makes room for as many layers as the encoder has, and fails beyond."""
    return len(ours.decoder.layers) <= len(ours.encoder.layers)
