"""Pictures of the book: one style, the source of real objects, heatmaps, live figures."""

from __future__ import annotations

import importlib
from typing import Any

# Public name -> the module that holds it; loaded when first asked for.
_EXPORTS = {
    "BarExplorer": "companion.figures.bar_explorer",
    "FeatureScrubber": "companion.figures.feature_scrubber",
    "HeadViewer": "companion.figures.head_viewer",
    "MaskViewer": "companion.figures.mask_viewer",
    "SamplingViewer": "companion.figures.sampling_viewer",
    "MemoryPlanner": "companion.figures.memory_planner",
    "PatchViewer": "companion.figures.patch_viewer",
    "PatternExplorer": "companion.figures.pattern_explorer",
    "QueryPlane": "companion.figures.query_plane",
    "RotaryExplorer": "companion.figures.rotary_explorer",
    "StackExplorer": "companion.figures.stack_explorer",
    "TrainingScrubber": "companion.figures.training_scrubber",
    "Writing": "companion.figures.writing_viewer",
    "WritingViewer": "companion.figures.writing_viewer",
    "QuantizationExplorer": "companion.figures.quantization_explorer",
    "Reading": "companion.figures.token_reader",
    "SpanExplorer": "companion.figures.span_explorer",
    "TokenReader": "companion.figures.token_reader",
    "WindowExplorer": "companion.figures.window_explorer",
    "PictureSearch": "companion.figures.picture_search",
    "attention_heatmap": "companion.figures.heatmaps",
    "show_source": "companion.figures.source",
    "visualize_attention_heads": "companion.figures.heatmaps",
}

__all__ = sorted(_EXPORTS)


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'companion.figures' has no attribute {name!r}")
    value = getattr(importlib.import_module(_EXPORTS[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_EXPORTS})
