"""Rotary positions as the config of a Hugging Face checkpoint describes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from companion.layers import (
    DynamicNTKScaling,
    LinearScaling,
    Llama3Scaling,
    RotaryScaling,
    YaRNScaling,
)
from companion.models.hf import HFConfig, check_options

_YARN = (
    "beta_fast beta_slow attention_factor mscale mscale_all_dim truncate"  # as ours
).split()


def rotary_from_hf(
    config: HFConfig, model: str, default_base: float = 10000.0
) -> tuple[float, RotaryScaling | None]:
    """The base of the angles and their scaling, from a config of any age.

    Version 5 of ``transformers`` writes ``rope_parameters``; older ones wrote
    ``rope_theta``, and ``rope_scaling`` where there is one.

    Args:
        config: of the checkpoint.
        model: the name of our class, for the error.
        default_base: where the config names none.

    Raises:
        ValueError: a scaling that is not implemented, or one whose numbers are missing.
    """
    given = dict(config.get("rope_parameters") or config.get("rope_scaling") or {})
    given.setdefault("rope_type", given.get("type", "default"))
    check_options(
        given, {"rope_type": tuple(_SCALINGS), "partial_rotary_factor": (1.0,)}, model
    )
    base = given.get("rope_theta") or config.get("rope_theta") or default_base
    trained = config["max_position_embeddings"]
    if (
        given["rope_type"] != "dynamic"
    ):  # that one starts where the others' reading ends
        trained = given.get("original_max_position_embeddings") or trained
    return float(base), _SCALINGS[given["rope_type"]](HFConfig(given), trained)


def _yarn(given: Mapping[str, Any], trained: int) -> YaRNScaling:
    chosen = {name: given[name] for name in _YARN if given.get(name) is not None}
    return YaRNScaling(given["factor"], trained, **chosen)


def _llama3(given: Mapping[str, Any], trained: int) -> Llama3Scaling:
    return Llama3Scaling(
        given["factor"], trained, given["low_freq_factor"], given["high_freq_factor"]
    )


_SCALINGS = {
    "default": lambda given, trained: None,
    "linear": lambda given, trained: LinearScaling(given["factor"]),
    "dynamic": lambda given, trained: DynamicNTKScaling(given["factor"], trained),
    "yarn": _yarn,
    "llama3": _llama3,
}
