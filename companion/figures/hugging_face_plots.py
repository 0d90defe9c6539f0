"""The plots of the section on using Hugging Face."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import PercentFormatter

from companion.figures.style import COLORS, WIDTH

Counts = Mapping[str, Mapping[str, float]]  # tokenizer -> language -> number


def plot_languages(tokens: Counts, unchanged: Counts) -> None:
    """What each tokenizer makes of the same names in several languages.

    Args:
        tokens: how many there are.
        unchanged: the share of names that come back as they were.
    """
    _, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 3.8), sharey=True)
    colors = (COLORS["query"], COLORS["key"], COLORS["value"])
    base = next(iter(tokens.values()))["en"]
    height = 0.8 / len(tokens)
    for i, (name, color) in enumerate(zip(tokens, colors, strict=False)):
        languages = list(tokens[name])
        places = np.arange(len(languages)) + (i - (len(tokens) - 1) / 2) * height
        counts = [tokens[name][code] / base for code in languages]
        shares = [unchanged[name][code] for code in languages]
        left.barh(places, counts, height, color=color, label=name)
        right.barh(places, shares, height, color=color)
    left.set_yticks(np.arange(len(languages)), languages)
    left.invert_yaxis()
    left.set(title="Other scripts cost more ...", xlabel="tokens / GPT-2's for English")
    left.legend(fontsize=8, loc="upper right")
    right.set(title="... or get lost", xlabel="names that come back")
    right.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    plt.show()
