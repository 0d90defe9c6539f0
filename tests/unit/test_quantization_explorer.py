"""The quantization explorer rounds as the layers do."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from companion.figures import QuantizationExplorer
from companion.layers.quantization import (
    quantize_absmax,
    quantize_blocks,
    relative_error,
)


def weights() -> torch.Tensor:
    """Four rows with as few digits as the figure keeps; the second has an outlier."""
    drawn = 0.05 * torch.randn(4, 96, generator=torch.Generator().manual_seed(0))
    drawn[1, 40] = -1.3
    digits = [[float(f"{w:.5g}") for w in row] for row in drawn.tolist()]
    return torch.tensor(digits, dtype=torch.float64)


def explorer(**options: object) -> QuantizationExplorer:
    W = weights()
    rows = {f"row {i}": W[i].numpy() for i in range(3)}
    return QuantizationExplorer(rows, W.abs().max().item(), len(W), **options)


@pytest.mark.parametrize("row", range(3))
@pytest.mark.parametrize(("way", "per_row"), [("matrix", False), ("row", True)])
def test_eight_bits_are_those_of_the_layer(row: int, way: str, per_row: bool) -> None:
    figure = explorer(row=row, way=way)
    levels, scale = quantize_absmax(weights(), per_row=per_row)
    np.testing.assert_array_equal(figure.levels(), levels[row].numpy())
    back = (levels * scale)[row]
    np.testing.assert_allclose(figure.rounded(), back.numpy(), rtol=1e-12)
    expected = relative_error(back, weights()[row])
    assert figure.error() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("row", range(3))
def test_four_bits_in_blocks_are_those_of_the_layer(row: int) -> None:
    figure = explorer(row=row, way="blocks", bits=4)
    back = quantize_blocks(weights())[row].numpy()
    np.testing.assert_allclose(figure.rounded(), back, atol=1e-7)
    assert figure.levels().min() == 0 and figure.levels().max() == 15


@pytest.mark.parametrize("way", ["matrix", "row", "blocks"])
def test_more_bits_come_closer_and_no_weight_is_further_off_than_half_a_step(
    way,
) -> None:
    errors = []
    for bits in range(2, 9):
        figure = explorer(way=way, bits=bits, row=2)
        off = np.abs(figure.rounded() - figure.rows[2])
        step, _ = figure.grids()
        assert (
            off <= step / 2 + 1e-3 * step + 2e-4
        ).all()  # 16 bits of a block's scale
        errors.append(figure.error())
    assert errors[-1] < errors[0] / 10 or way == "matrix"


def test_an_outlier_costs_where_it_shares_a_scale() -> None:
    assert explorer(row=0).error() > 5 * explorer(row=0, way="row").error()
    assert (
        explorer(row=1, way="row").error() > 3 * explorer(row=1, way="blocks").error()
    )


def test_scales_are_counted() -> None:
    assert explorer(way="blocks", bits=4).bits_a_weight() == 5
    assert explorer(way="row", bits=8).bits_a_weight() == 8 + 32 / 96
    assert explorer(way="matrix", bits=8).bits_a_weight() == 8 + 32 / (4 * 96)


def test_page_is_the_same_each_time_and_says_it_without_javascript() -> None:
    figure = explorer(bits=3, way="row", caption="Rows.")
    assert figure.to_html() == explorer(bits=3, way="row", caption="Rows.").to_html()
    assert (
        f"to 3 bits with a scale for each row, is {100 * figure.error():.1f}% off"
        in figure.fallback()
    )
    assert repr(figure) == "<interactive figure: 3 rows of 96 weights, rounded>"


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"rows": {"a": np.ones(33)}}, "a multiple of 32, but their shapes are"),
        ({"rows": {"a": np.ones(32), "b": np.ones(64)}}, "rows must be of one length"),
        ({"rows": {}}, "rows must be of one length"),
        ({"peak": 0.5}, "peak must be at least the largest weight, 1, and above 0"),
        ({"num_rows": 0}, "num_rows must be at least the 1 that are given, not 0"),
        ({"bits": 9}, "bits must be from 2 to 8, but it is 9"),
        ({"row": 1}, "row must be from 0 to 0, but it is 1"),
        ({"place": 32}, "place must be from 0 to 31, but it is 32"),
        ({"way": "column"}, "way must be one of matrix, row, blocks, but it is"),
    ],
)
def test_what_does_not_fit_is_refused(changed: dict, says: str) -> None:
    arguments = {"rows": {"a": np.ones(32)}, "peak": 1.0, "num_rows": 3, **changed}
    with pytest.raises(ValueError, match=says):
        QuantizationExplorer(**arguments)
