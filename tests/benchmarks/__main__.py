"""``make bench``, or ``python -m tests.benchmarks [section ...]``: one table of ratios."""

from __future__ import annotations

import argparse
import json
import platform
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from datetime import date
from pathlib import Path

import torch

import companion
from companion.analysis.bench import Row, save_rows
from tests.benchmarks import (
    attention,
    efficient,
    encoder,
    importing,
    language_models,
    tokenization,
    translation,
)
from tests.benchmarks.side_by_side import Pair, compare, lines, table

SECTIONS: dict[str, Callable[[], Iterator[Pair]]] = {
    "training": language_models.training_pairs,
    "generation": language_models.generation_pairs,
    "smollm2": language_models.smollm2_pairs,
    "encoder": encoder.pairs,
    "translation": translation.pairs,
    "attention": attention.pairs,
    "efficient": efficient.pairs,
    "tokenization": tokenization.pairs,
    "import": importing.pairs,
    "gpu": language_models.gpu_pairs,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run sections, print the table, and keep it."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if unknown := set(options.sections) - set(SECTIONS):
        parser.error(f"section must be one of {', '.join(SECTIONS)}, not {unknown}")
    torch.manual_seed(0)
    rows: list[Row] = []
    for section in options.sections or SECTIONS:
        for pair in SECTIONS[section]():
            new = compare(section, pair, short=options.short)
            rows += new
            print("\n".join(lines(new)), file=sys.stderr)
        _keep(rows, options)
    print("\n".join(_about(options)), table(rows), sep="\n\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks", description=__doc__
    )
    parser.add_argument(
        "sections", nargs="*", metavar="section", help=f"of {', '.join(SECTIONS)}"
    )
    parser.add_argument("--json", type=Path, default=Path("_build/bench.json"))
    parser.add_argument("--csv", type=Path, help="where to keep the table for the book")
    parser.add_argument("--short", action="store_true", help="a fifth of the rounds")
    return parser


def _keep(rows: list[Row], options: argparse.Namespace) -> None:
    """Write what there is so far: a long run that is stopped has not been for nothing."""
    about = _about(options)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    kept = {"about": about, "rows": [asdict(row) for row in rows]}
    options.json.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    if options.csv:
        save_rows(rows, about, options.csv)


def _about(options: argparse.Namespace) -> list[str]:
    from importlib.metadata import version

    command = ["python", "-m", "tests.benchmarks", *options.sections]
    command += ["--short"] if options.short else []
    command += ["--csv", str(options.csv)] if options.csv else []
    device = companion.device()
    hardware = (
        torch.cuda.get_device_name()
        if device.type == "cuda"
        else f"{torch.get_num_threads()} cores of a CPU ({platform.machine()})"
    )
    return [
        "Two ways of doing the same work, timed in turns in one process. Made by",
        shlex.join(command),
        f"{hardware}, torch {torch.__version__}, transformers {version('transformers')}, "
        f"{date.today()}",
        "ratio: how many times as fast ours is. low, high: the middle half over the turns.",
        "fraction: of the machine's own rate at the product named by limit.",
    ]


if __name__ == "__main__":
    main()
