"""Writing with a model: greedy, sampled, by beams, or checked drafts, with a key-value cache."""

from companion.generation.beam import Beams, beam_search
from companion.generation.interface import GivenSource, LanguageModel, Reader
from companion.generation.sampling import generate, stream
from companion.generation.speculative import Speculation, speculative_generate
from companion.generation.strategies import Greedy, Sampling
from companion.generation.translation import translate
from companion.generation.unrolled import unrolled

__all__ = [
    "Beams",
    "GivenSource",
    "Greedy",
    "LanguageModel",
    "Reader",
    "Sampling",
    "Speculation",
    "beam_search",
    "generate",
    "speculative_generate",
    "stream",
    "translate",
    "unrolled",
]
