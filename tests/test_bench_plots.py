"""The plots of `tbc bench`: they show every number, on a white and on a black ground."""

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from tbc_models.bench import plots
from tbc_models.bench.layers import AUTHORS, CHOSEN, LayerCase, LayerRow, classes, mean_ratio
from tbc_models.bench.timing import Time
from tbc_models.results import committed

STYLE = Path(__file__).parent.parent / "tutorials" / "matplotlibrc"
FILES = {
    "layers": "layers-cpu",
    "blocks": "blocks-cpu",
    "networks": "networks-cpu",
    "parts": "networks-cpu",
    "reference": "reference",
}


@pytest.fixture(autouse=True)
def _site_style() -> Iterator[None]:
    with mpl.rc_context(fname=STYLE):
        yield
    plt.close("all")


def report(name: str) -> dict[str, Any]:
    found = committed(name)
    assert found is not None
    return found


def drawn(name: str) -> Figure:
    axes = getattr(plots, name)(report(FILES[name]))
    figure = (axes[0] if isinstance(axes, list) else axes).figure
    assert isinstance(figure, Figure)
    figure.canvas.draw()
    return figure


def dots(axes: Axes) -> list[float]:
    marked = [line for line in axes.lines if line.get_marker() not in ("None", None)]
    return sorted(float(x) for line in marked for x in np.asarray(line.get_xdata()))


@pytest.mark.parametrize("training", [False, True])
def test_layers_draws_one_dot_for_every_mean(training: bool) -> None:
    rows = classes(plots.layer_rows(report("layers-cpu")))
    panels = plots.layers(report("layers-cpu"), training=training)
    for axes, layout in zip(panels, plots.WORDS, strict=True):
        means = [
            mean_ratio(same, name)
            for alike, same in rows.items()
            if (alike.layout, alike.training) == (layout, training)
            for name in plots.CANDIDATES
        ]
        expected = sorted(mean for mean in means if mean is not None)
        assert len(expected) >= 4
        assert dots(axes) == pytest.approx(expected)
        assert axes.get_yticklabels()[0].get_text() == CHOSEN


def test_layers_gives_each_dtype_and_batch_a_panel() -> None:
    times = {name: Time(1, 1, 1) for name in (CHOSEN, AUTHORS)}
    rows = [
        LayerRow(LayerCase(8, 8, 3, 1, 8, 2, batch=batch, dtype=dtype), times).record()
        for dtype in ("float32", "bfloat16")
        for batch in (32, 256)
    ]
    titles = [axes.get_title() for axes in plots.layers({"rows": rows})]
    kinds = ["float32, N = 32", "float32, N = 256", "bfloat16, N = 32", "bfloat16, N = 256"]
    assert titles == [f"channels-last (NHWC), {kind}" for kind in kinds]


def contrast(colour: Any, ground: float) -> float:
    """The ratio of WCAG 2 of a colour to white (1) or black (0)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgba(colour)]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    dark, light = sorted((luminance, ground))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("name", FILES)
def test_plots_can_be_read_on_white_and_on_black(name: str) -> None:
    figure = drawn(name)
    assert to_rgba(figure.get_facecolor())[3] == 0
    checked = 0
    for artist in figure.findobj():
        if isinstance(artist, Text) and artist.get_text():
            colour, least = artist.get_color(), 3
        elif isinstance(artist, Line2D):
            colour, least = artist.get_color(), 2
        elif isinstance(artist, Rectangle):
            colour, least = artist.get_facecolor(), 2
        else:
            continue
        if artist.get_visible() and to_rgba(colour)[3] > 0:
            checked += 1
            assert contrast(colour, 0) >= least, artist
            assert contrast(colour, 1) >= least, artist
    assert checked > 20


def written(figure: Figure) -> list[Text]:
    """The texts of a figure, without tick labels beyond the ends of an axis, which nobody sees."""
    beyond: set[Text] = set()
    for axes, k in product(figure.axes, (0, 1)):
        axis = (axes.xaxis, axes.yaxis)[k]
        low, high = sorted(axis.get_view_interval())
        labels = [*axis.get_majorticklabels(), *axis.get_minorticklabels()]
        beyond |= {label for label in labels if not low <= label.get_position()[k] <= high}
    return [t for t in figure.findobj(Text) if t.get_text().strip() and t not in beyond]


@pytest.mark.parametrize("name", FILES)
def test_no_label_leaves_the_figure_or_meets_another(name: str) -> None:
    figure = drawn(name)
    boxes = [(t.get_text(), t.get_window_extent()) for t in written(figure) if t.get_visible()]
    inside = figure.bbox.expanded(1.001, 1.001)
    assert len(boxes) > 10
    for k, (text, box) in enumerate(boxes):
        assert inside.x0 <= box.x0 < box.x1 <= inside.x1, text
        assert not [other for other, at in boxes[:k] if box.overlaps(at)], text


def test_the_contrast_check_would_find_black_and_white() -> None:
    assert contrast("black", 0) == pytest.approx(1)
    assert contrast("white", 1) == pytest.approx(1)
    assert contrast("#7a808a", 1) > 3
