"""Generation against Hugging Face's: its filters on the same logits, its search on our models.

Our own networks are driven by `transformers`' ``generate`` through a thin adapter, so that
both sides search the same distribution.
"""

from __future__ import annotations

import pytest
import torch
from transformers import GenerationConfig, PretrainedConfig, PreTrainedModel
from transformers.generation import (
    GenerationMixin,
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)
from transformers.modeling_outputs import BaseModelOutput, Seq2SeqLMOutput
from transformers.utils import logging

from companion import padding_mask
from companion.generation import (
    GivenSource,
    Greedy,
    Sampling,
    beam_search,
    generate,
    translate,
)
from tests.generation_cases import SOURCE, VOCAB, encoder_decoder, language_model

logging.set_verbosity_error()

PAD = 10  # not 0, which its beam search takes for none and fills up with a stop token
PROMPTS = torch.tensor([[1, 5, 6], [3, 3, 9], [8, 10, 2]])
SEEDS = range(1, 5)


class Config(PretrainedConfig):
    model_type = "companion"


class Encoder(torch.nn.Module):
    def __init__(self, model: torch.nn.Module):
        super().__init__()
        self.model = model

    def forward(self, input_ids, attention_mask, **_):
        mask = attention_mask.bool()[:, None, None]
        return BaseModelOutput(self.model.encode(input_ids, mask))


class Driven(PreTrainedModel, GenerationMixin):
    """One of our models, in the shape that ``generate`` drives; without a cache."""

    config_class = Config
    main_input_name = "input_ids"

    def __init__(self, model: torch.nn.Module, is_encoder_decoder: bool = False):
        super().__init__(
            Config(is_encoder_decoder=is_encoder_decoder, vocab_size=VOCAB)
        )
        self.model = model
        self.anchor = torch.nn.Parameter(torch.zeros(1))  # generate asks for a device
        self.eval()

    def prepare_inputs_for_generation(self, input_ids, **kwargs):
        if not self.config.is_encoder_decoder:
            return {"input_ids": input_ids}
        names = ("encoder_outputs", "attention_mask")
        return {"decoder_input_ids": input_ids} | {n: kwargs[n] for n in names}

    def get_encoder(self, modality=None):
        return Encoder(self.model)

    def forward(
        self,
        input_ids=None,
        decoder_input_ids=None,
        encoder_outputs=None,
        attention_mask=None,
        return_dict=True,
    ):
        if decoder_input_ids is None:
            return Seq2SeqLMOutput(logits=self.model(input_ids))
        mask = attention_mask.bool()[:, None, None]
        memory = encoder_outputs.last_hidden_state
        return Seq2SeqLMOutput(
            logits=self.model.decode(decoder_input_ids, memory, mask)
        )


def theirs(model, ids, max_new_tokens, stop_ids, **options):
    """What ``transformers`` generates with our model; sources if it has an encoder."""
    is_encoder_decoder = hasattr(model, "encode")
    config = GenerationConfig(
        max_new_tokens=max_new_tokens,
        eos_token_id=stop_ids or None,
        pad_token_id=PAD,
        decoder_start_token_id=1,
        use_cache=False,
        do_sample=False,
        return_dict_in_generate=True,
        output_scores=True,
        num_return_sequences=options.get("num_beams", 1),
        **options,
    )
    inputs = {"attention_mask": (ids != 0).long()} if is_encoder_decoder else {}
    driven = Driven(model, is_encoder_decoder)
    return driven.generate(ids, generation_config=config, **inputs)


def same_texts(ours: torch.Tensor, reference: torch.Tensor) -> bool:
    """Equal, but for padding that one of them has more of at the end."""
    width = max(ours.shape[-1], reference.shape[-1])
    pad = torch.nn.functional.pad
    return torch.equal(
        pad(ours, (0, width - ours.shape[-1]), value=PAD),
        pad(reference, (0, width - reference.shape[-1]), value=PAD),
    )


FILTERS = {
    "temperature": ({"temperature": 0.7}, [TemperatureLogitsWarper(0.7)]),
    "top_k": ({"top_k": 5}, [TopKLogitsWarper(5)]),
    "top_k above the vocabulary": ({"top_k": 500}, [TopKLogitsWarper(500)]),
    "top_p": ({"top_p": 0.8}, [TopPLogitsWarper(0.8)]),
    "small top_p": ({"top_p": 0.05}, [TopPLogitsWarper(0.05)]),
    "min_p": ({"min_p": 0.1}, [MinPLogitsWarper(0.1)]),
    "repetition_penalty": (
        {"repetition_penalty": 1.4},
        [RepetitionPenaltyLogitsProcessor(1.4)],
    ),
    "reward for repetition": (
        {"repetition_penalty": 0.7},
        [RepetitionPenaltyLogitsProcessor(0.7)],
    ),
    "all, in generate's order": (
        {
            "repetition_penalty": 1.4,
            "temperature": 1.7,
            "top_k": 20,
            "top_p": 0.9,
            "min_p": 0.08,
        },
        [
            RepetitionPenaltyLogitsProcessor(1.4),
            TemperatureLogitsWarper(1.7),
            TopKLogitsWarper(20),
            TopPLogitsWarper(0.9),
            MinPLogitsWarper(0.08),
        ],
    ),
}


@pytest.mark.parametrize("name", FILTERS)
def test_filtered_distributions(parity_record, name):
    """On logits of different sharpness; the tokens that are left must be the same ones."""
    settings, processors = FILTERS[name]
    torch.manual_seed(0)
    logits = torch.randn(64, 50) * torch.linspace(0.2, 5.0, 64)[:, None]
    text = torch.randint(0, 50, (64, 12))
    expected = LogitsProcessorList(processors)(text, logits.clone()).softmax(-1)
    p = Sampling(**settings).probabilities(logits, text)
    assert torch.equal(p > 0, expected > 0)
    parity_record(
        f"Sampling, {name}",
        "transformers' logits processors",
        (p - expected).abs().max(),
        1e-6,
    )


def test_generate_applies_its_processors_in_our_order():
    """The order itself is taken from ``generate``, so that it can't change unnoticed."""
    config = GenerationConfig(
        do_sample=True,
        repetition_penalty=1.4,
        temperature=1.7,
        top_k=20,
        top_p=0.9,
        min_p=0.08,
    )
    chosen = Driven(language_model())._get_logits_processor(
        config, input_ids_seq_length=3, logits_processor=LogitsProcessorList()
    )
    kinds = [type(processor) for processor in chosen]
    _, ours = FILTERS["all, in generate's order"]
    assert [k for k in kinds if k in map(type, ours)] == [type(p) for p in ours]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("stop_ids", [[], [4], [4, 7, 9]])
@pytest.mark.parametrize("penalty", [1.0, 1.3])
def test_greedy(seed, stop_ids, penalty):
    model = language_model(seed)
    expected = theirs(model, PROMPTS, 9, stop_ids, repetition_penalty=penalty)
    strategy = Greedy(repetition_penalty=penalty)
    ours = generate(model, PROMPTS, 9, strategy, stop_ids=stop_ids, pad_id=PAD)
    assert same_texts(ours, expected.sequences)


@pytest.mark.parametrize("seed", SEEDS)
def test_greedy_with_prompts_of_unequal_lengths(seed):
    """A batch of ours against one call of theirs for each prompt."""
    model, prompts = language_model(seed), [[1, 5, 6], [3], [8, 9, 3, 10, 4, 2]]
    ours = generate(model, prompts, 9, stop_ids=[4], pad_id=PAD)
    for prompt, row in zip(prompts, ours, strict=True):
        expected = theirs(model, torch.tensor([prompt]), 9, [4])
        assert same_texts(row[None], expected.sequences)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("penalty", [1.0, 1.5])
def test_greedy_translation(seed, penalty):
    model = encoder_decoder(seed)
    expected = theirs(model, SOURCE, 9, [4], repetition_penalty=penalty)
    ours = translate(
        model,
        SOURCE,
        9,
        Greedy(repetition_penalty=penalty),
        start_id=1,
        source_mask=padding_mask(SOURCE),
        stop_ids=[4],
        pad_id=PAD,
    )
    assert same_texts(ours, expected.sequences[:, 1:])


BEAMS = [
    (num_beams, penalty, early, stop_ids)
    for num_beams, penalty, early in (
        (2, 1.0, False),
        (3, 0.0, "never"),
        (3, 2.0, "never"),
        (4, 0.6, True),
        (4, -0.5, False),
        (4, 1.0, False),
    )
    for stop_ids in ([], [4], [4, 7, 9])
]


@pytest.mark.parametrize("kind", ["decoder-only", "encoder-decoder"])
@pytest.mark.parametrize(("num_beams", "penalty", "early", "stop_ids"), BEAMS)
def test_beam_search(parity_record, kind, num_beams, penalty, early, stop_ids):
    """All beams' texts and scores, over several models."""
    differences = []
    for seed in SEEDS:
        options = {"length_penalty": penalty, "early_stopping": early}
        if kind == "decoder-only":
            model, ids, prompts = language_model(seed), PROMPTS, PROMPTS
            given = model
        else:
            model, ids = encoder_decoder(seed), SOURCE
            given = GivenSource(model, SOURCE, padding_mask(SOURCE))
            prompts = torch.ones(3, 1, dtype=torch.long)
        expected = theirs(model, ids, 8, stop_ids, num_beams=num_beams, **options)
        found = beam_search(
            given, prompts, 8, num_beams, stop_ids=stop_ids, pad_id=PAD, **options
        )
        assert same_texts(found.token_ids.flatten(0, 1), expected.sequences)
        differences.append(found.scores.flatten() - expected.sequences_scores)
    parity_record(
        f"beam_search, {kind}, {num_beams} beams, length_penalty {penalty}, "
        f"early_stopping {early}, {len(stop_ids)} stop ids",
        "transformers.generate",
        torch.cat(differences).abs().max(),
        1e-5,
    )
