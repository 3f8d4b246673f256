"""Filter similarity by both methods, against NumPy and by construction; its untrained control."""

from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision
from matplotlib.figure import Figure
from numpy.testing import assert_allclose
from numpy.typing import NDArray
from torch import Tensor, nn

from tbc_gpu import TiedBlockConv2d
from tbc_models.analysis.computed import computed_layers, default_layers
from tbc_models.analysis.controls import build_untrained, weights_digest
from tbc_models.analysis.guided import guided_backprop
from tbc_models.analysis.preact_resnet import resnet50_v2
from tbc_models.analysis.similarity import (
    bin_edges,
    filter_similarities,
    filter_similarity,
)
from tbc_models.analysis.similarity_plots import draw_compared, means_figure, similarity_figure
from tbc_models.analysis.similarity_study import Subject, similarity_study
from tbc_models.analysis.similarity_tables import (
    ends_table,
    layers_of,
    seeds_in_words,
    similarity_conclusions,
    similarity_table,
)


def network(seed: int = 0, channels: int = 8) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, channels, 3),
        nn.ReLU(),
        nn.Conv2d(channels, channels, 3, padding=1),
        nn.ReLU(),
    ).double()


def images(number: int = 3, size: int = 8) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(number, 3, size, size, generator=generator, dtype=torch.float64)


def with_filters(*filters: list[float]) -> nn.Sequential:
    """A 1x1 convolution with these filters and a rectifier."""
    made = nn.Sequential(nn.Conv2d(len(filters[0]), len(filters), 1, bias=False), nn.ReLU())
    weight = torch.tensor(filters, dtype=torch.float64)[:, :, None, None]
    made.load_state_dict({"0.weight": weight})
    return made.double()


WEIGHTS = ("trained", "untrained")
POSITIVE = torch.rand(4, 2, 5, 5, dtype=torch.float64) + 0.1


def test_identical_filters_have_similarity_one_and_orthogonal_ones_zero() -> None:
    found = filter_similarity(
        with_filters([1, 0], [2, 0], [0, 1], [-1, 0]), POSITIVE, "0", channels=4
    )
    expected = [[1, 1, 0, -1], [1, 1, 0, -1], [0, 0, 1, 0], [-1, -1, 0, 1]]
    assert_allclose(found.matrix, expected, atol=1e-12)
    assert found.dead == 0
    # Of six pairs one is 1, three are 0 and two are -1; 0 is in the middle of its bin.
    assert found.histogram[[0, 20, 40]].tolist() == [2, 3, 1]
    assert_allclose(found.mean, -1 / 6, atol=1e-12)


@pytest.mark.parametrize("method", ["text", "code"])
def test_dead_filters_are_counted_and_left_out(method: Any) -> None:
    dead = [-1.0, -1.0]  # the images are positive
    x = torch.randn(4, 2, 5, 5, dtype=torch.float64).abs()
    x[:, :, :2] = 0  # patterns are not constant
    made = with_filters([1, 0.2], dead, [0.3, 1], dead)
    found = filter_similarity(made, x, "1", channels=4, method=method)
    assert found.dead == 2
    assert found.channels == (0, 2)
    assert found.matrix.shape == (2, 2)
    assert np.isfinite(found.matrix).all()
    assert np.isfinite(found.mean)
    with pytest.raises(ValueError, match="of 2 filters of layer '1', 2 are dead: fewer than two"):
        filter_similarity(with_filters(dead, dead), x, "1", channels=2, method=method)


def patterns(layer: str, channels: range = range(8)) -> NDArray[np.float64]:
    found = guided_backprop(network(), images(), layer, channels)
    return found.flatten(2).numpy()


def test_the_text_takes_cosines_of_averages() -> None:
    averages = patterns("2").mean(axis=1)
    pairs = [(i, j) for i in range(8) for j in range(i)]
    values = [
        averages[i] @ averages[j] / np.sqrt((averages[i] ** 2).sum() * (averages[j] ** 2).sum())
        for i, j in pairs
    ]
    found = filter_similarity(network(), images(), "2", channels=8, batch_size=2)
    assert_allclose([found.matrix[i, j] for i, j in pairs], values, atol=1e-12)
    assert_allclose(found.mean, np.mean(values), atol=1e-12)
    assert found.histogram.tolist() == np.histogram(values, 41, (-1, 1))[0].tolist()
    assert (found.depth, found.images, found.channels) == (2, 3, tuple(range(8)))


def test_the_code_takes_correlations_in_each_image() -> None:
    whole = patterns("3")
    # numpy.corrcoef of one image at a time, in the order of the pairs.
    matrices = np.array([np.abs(np.corrcoef(whole[:, n])) for n in range(3)])
    values = matrices[:, *np.triu_indices(8, 1)].ravel()
    found = filter_similarity(network(), images(), "3", channels=8, method="code", batch_size=2)
    assert_allclose(found.matrix, matrices.mean(axis=0), atol=1e-12)
    assert_allclose(found.mean, values.mean(), atol=1e-12)
    assert found.histogram.tolist() == np.histogram(values, 41, (0, 1))[0].tolist()


def test_the_code_drops_exact_ones_and_what_is_undefined() -> None:
    x = POSITIVE.clone()
    x[0, :, :, :3] = 0
    x[1:] = 0  # no filter responds to three of the four images
    made = with_filters([1, 0.5], [2, 1], [0.1, 1])  # the second is twice the first
    found = filter_similarity(made, x, "1", channels=3, method="code")
    assert found.histogram.sum() == 2
    assert_allclose(found.matrix[0, 1], 1, atol=1e-12)
    with pytest.raises(ValueError, match="all correlations of layer '1' are exact ones"):
        filter_similarity(with_filters([1, 0.5], [2, 1]), x, "1", channels=2, method="code")


def test_stored_filters_are_compared_by_the_sum_of_their_responses() -> None:
    torch.manual_seed(0)
    tied = TiedBlockConv2d(8, 16, 3, groups=2, blocks=2).double()
    made = nn.Sequential(tied, nn.ReLU())
    x = torch.randn(2, 8, 6, 6, dtype=torch.float64)
    found = filter_similarity(made, x, "0", channels=8, filters="stored")
    assert found.filters == "stored"
    # Before the first rectifier a pattern is linear in the output. Filter i of group g fills
    # channel 8g + i and, in the second block, 8g + 4 + i.
    of_channel = guided_backprop(made, x, "0", range(16)).mean(1).flatten(1).numpy()
    sums = [of_channel[8 * g + i] + of_channel[8 * g + 4 + i] for g in range(2) for i in range(4)]
    directions = np.array(sums) / np.linalg.norm(sums, axis=1)[:, None]
    assert_allclose(found.matrix, directions @ directions.T, atol=1e-12)
    # Blocks read different channels, so the two responses of a filter are orthogonal.
    responses = filter_similarity(made, x, "0", channels=16)
    assert_allclose(responses.matrix[0, 4], 0, atol=1e-12)
    with pytest.raises(ValueError, match=r"`channels` \(=16\) must be at most 8, the filters of"):
        filter_similarity(made, x, "0", channels=16, filters="stored")
    with pytest.raises(ValueError, match=r"'1'\) is a ReLU, not a convolution"):
        filter_similarity(made, x, "1", channels=4, filters="stored")


def test_the_stored_filters_of_a_plain_convolution_are_its_channels() -> None:
    one, other = (
        filter_similarity(network(), images(), "2", channels=5, filters=filters)
        for filters in ("stored", "responses")
    )
    assert_allclose(one.matrix, other.matrix, atol=0)


def test_filters_are_drawn_by_the_seed() -> None:
    drawn = [
        filter_similarity(network(), images(), "2", channels=4, seed=seed).channels
        for seed in (0, 0, 1)
    ]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(set(drawn[0])) == 4
    every = filter_similarity(network(), images(), "2", channels=None)
    assert every.channels == tuple(range(8))


def test_several_layers_give_what_each_gives_alone() -> None:
    together = filter_similarities(network(), images(), ["3", "0"], channels=8)
    for found in together:
        alone = filter_similarity(network(), images(), found.layer, channels=8)
        assert_allclose(found.matrix, alone.matrix, atol=1e-12)
    assert [found.depth for found in together] == [2, 1]


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`channels` \(=9\) must be at most 8, the .* layer '2'"):
        filter_similarity(network(), images(), "2", channels=9)
    with pytest.raises(ValueError, match=r"`channels` \(=1\) must be at least 2"):
        filter_similarity(network(), images(), "2", channels=1)
    with pytest.raises(ValueError, match=r"'conv2'\) is not a layer of the network"):
        filter_similarity(network(), images(), "conv2")
    for name in ("method", "filters", "gradient"):
        wrong: Any = {name: "cod"}
        with pytest.raises(ValueError, match=rf"^`{name}` \(='cod'\) must be '\w+' or '\w+'$"):
            filter_similarity(network(), images(), "2", channels=8, **wrong)
    with pytest.raises(ValueError, match=r"`method` \(='cod'\) must be 'text' or 'code'"):
        default_layers(network(), images(), method="cod")  # type: ignore[arg-type]
    huge = network()
    nn.init.constant_(huge.get_parameter("0.weight"), 1e308)
    with pytest.raises(ValueError, match=r"patterns of `layer` \(='2'\) are not finite numbers"):
        filter_similarity(huge, images(), "2", channels=8)


def test_layers_are_chosen_evenly_over_the_depth() -> None:
    x = torch.randn(1, 3, 32, 32)
    resnet = timm.create_model("resnet20", num_classes=10)
    assert default_layers(resnet, x, method="code") == ["layer1", "layer2", "layer3"]
    assert default_layers(resnet, x, count=2) == ["conv1", "layer3.2.conv2"]
    every = [one for one in computed_layers(resnet, x) if one.kernel > 1]
    assert [one.depth for one in every] == list(range(1, 20))
    assert default_layers(network().float(), x, method="code") == ["1", "3"]  # it has no blocks
    chosen = default_layers(
        resnet50_v2(stages=2), x, method="code"
    )  # units end without a rectifier
    assert [layer.rpartition(".")[2][:4] for layer in chosen] == ["relu"] * 4
    pooled = nn.Sequential(network().float(), nn.AdaptiveAvgPool2d(1), nn.ReLU())
    assert default_layers(pooled, x, method="code") == ["0.1", "0.3"]  # the last is a single pixel
    with pytest.raises(ValueError, match="has no convolutions larger than 1x1: name `layers`"):
        default_layers(with_filters([1.0, 1.0]), POSITIVE)


def test_images_smaller_than_the_total_stride_are_refused() -> None:
    resnet = torchvision.models.resnet18()  # timm's networks state their stride, this one does not
    for size in (16, 31):
        with pytest.raises(
            ValueError, match=r"at least 32x32 pixels, the .* to 'layer4\.0\.conv1'"
        ):
            computed_layers(resnet, torch.zeros(1, 3, 32, size))
    assert computed_layers(resnet, torch.zeros(1, 3, 32, 32))[-1].name == "fc"
    squeezenet = torchvision.models.squeezenet1_1()  # without padding
    assert computed_layers(squeezenet, torch.zeros(1, 3, 33, 33))[-1].name == "classifier"


def test_the_untrained_control_depends_on_its_seed_alone() -> None:
    def build() -> nn.Module:
        return timm.create_model("resnet18", zero_init_last=True)

    state = torch.random.get_rng_state()
    one, same, other = (build_untrained(build, seed) for seed in (3, 3, 4))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert weights_digest(one) == weights_digest(same) != weights_digest(other)
    assert not one.training
    assert torch.equal(one.layer1[0].bn2.weight, torch.ones(64))  # type: ignore[union-attr, index]


def test_the_untrained_control_has_no_trained_weights() -> None:
    drawn = [build_untrained(lambda: network(7), seed) for seed in (0, 1)]
    assert len({weights_digest(one) for one in (network(7), *drawn)}) == 3

    def half() -> nn.Module:
        """A trained stem, a head with random weights, and a constant."""
        made = nn.Sequential(network(7), nn.Conv2d(8, 2, 1), nn.Conv2d(2, 2, 1))
        nn.init.zeros_(made[2].get_parameter("weight"))
        return made

    control = build_untrained(half, 0)
    own, trained = control.get_parameter("0.2.weight"), network(7).get_parameter("2.weight")
    assert not torch.isclose(own, trained).any()

    class Table(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Parameter(torch.eye(3))

    with pytest.raises(ValueError, match=r"parameter 'table' the same values whatever the seed"):
        build_untrained(Table, 0)


def test_only_the_scales_of_normalisation_layers_become_one() -> None:
    def build() -> nn.Module:
        made = nn.Sequential(nn.PReLU(init=0.0), nn.GroupNorm(2, 4), nn.BatchNorm2d(4))
        nn.init.zeros_(made[1].get_parameter("weight"))
        return made

    control = build_untrained(build, 0)
    assert control.get_parameter("0.weight").tolist() == [0]
    assert control.get_parameter("1.weight").tolist() == [1] * 4


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    subjects = [
        Subject("plain", network(0), images(), network, seed=0),
        Subject("plain", network(5), images(), network, seed=5),
        Subject("wide", network(1, 12), images(), lambda seed: network(seed, 12)),
    ]
    return similarity_study(subjects, control=[0, 1, 2])


def test_a_study_has_a_row_for_each_network_weights_and_layer(report: dict[str, Any]) -> None:
    keys = [(row["network"], row["weights"], row["seed"], row["layer"]) for row in report["rows"]]
    both = ("0", "2")
    untrained = [("plain", "untrained", seed, layer) for seed in (0, 1, 2) for layer in both]
    assert keys[:2] == [("plain", "trained", 0, layer) for layer in both]
    assert keys[2:8] == untrained  # once, although two were trained
    assert keys[8:10] == [("plain", "trained", 5, layer) for layer in both]
    assert len(keys) == 18
    alone = filter_similarity(network(0), images(), "2", channels=8)
    row = report["rows"][1]
    assert row["mean"] == round(alone.mean, 5)
    assert row["histogram"] == alone.histogram.tolist()
    assert_allclose(row["matrix"], alone.matrix, atol=0.005)  # rounded
    assert sum("matrix" in row for row in report["rows"]) == 4


def test_a_study_is_drawn_and_told(report: dict[str, Any]) -> None:
    depths, compared, matrices = similarity_figure(report).subfigs
    assert [axes.get_title() for axes in depths.axes] == ["plain", "wide"]
    assert [len(axes.lines) for axes in depths.axes] == [4, 4]
    assert [len(axes.lines) for axes in compared.axes] == [4, 4]
    assert sum(len(axes.images) for axes in matrices.axes[:4]) == 4
    for line in depths.axes[0].lines:  # a density
        assert_allclose(np.sum(line.get_ydata()) * 2 / 41, 1, atol=1e-12)
    assert layers_of(report, "wide") == ["0", "2"]
    _, lines = similarity_table(report, "plain")
    assert [line[:3] for line in lines] == [["0", "1", "8"], ["2", "2", "8"]]
    own = [row["mean"] for row in report["rows"] if row["network"] == "plain"]
    for cells in lines:
        for cell in cells[3:5]:  # the lowest and the highest seed, and no interval
            mean, low, high = (float(x.strip("[],").replace("−", "-")) for x in cell.split())
            assert low <= mean <= high
            assert all(any(abs(end - x) < 6e-4 for x in own) for end in (low, high))
    assert seeds_in_words(report) == [
        "Untrained: three networks with random weights, no interval.",
        "In brackets: the lowest and the highest network.",
    ]
    told = similarity_conclusions(report)
    assert len(told) == 6
    means = {
        (row["network"], row["layer"], row["seed"]): row["mean"]
        for row in report["rows"]
        if row["weights"] == "trained"
    }
    below = sum(
        means["wide", layer, None] < (means["plain", layer, 0] + means["plain", layer, 5]) / 2
        for layer in ("0", "2")
    )
    assert told[4] == f"wide, trained: its mean is below that of plain in {below} of 2 layers."
    assert told[5].startswith("wide, untrained: its mean is below that of plain in ")
    headers, ends = ends_table(report)
    assert headers[-1] == "layers below plain"
    assert [line[:2] for line in ends] == [["plain", "1 → 2"], ["wide", "1 → 2"]]
    assert ends[0][-1] == "–"
    assert ends[1][-1].startswith(f"{below} of 2 / ")


def test_five_reports_are_drawn_in_two_columns_with_one_legend(report: dict[str, Any]) -> None:
    figure = means_figure({str(i): report for i in range(5)})
    assert [axes.get_title() for axes in figure.axes] == list("01234")
    assert len({axes.get_position().x0.round(3) for axes in figure.axes}) == 2
    (legend,) = figure.legends
    shown = [text.get_text() for text in legend.get_texts()]
    assert shown == [f"{name}, {kind}" for name in ("plain", "wide") for kind in WEIGHTS]


def test_layers_are_paired_by_name_or_by_depth(report: dict[str, Any]) -> None:
    def renamed(layers: dict[str, str]) -> dict[str, Any]:
        """The report with other layers of the network "wide"; those without a name are left out."""
        wide = [row for row in report["rows"] if row["network"] == "wide"]
        others = [row for row in report["rows"] if row["network"] != "wide"]
        wide = [row | {"layer": layers[row["layer"]]} for row in wide if row["layer"] in layers]
        return report | {"rows": others + wide}

    def compared(some: dict[str, Any]) -> list[str]:
        figure = Figure()
        draw_compared(some, figure)
        return [axes.get_title() for axes in figure.axes]

    swapped = {**report, "rows": report["rows"][::-1]}  # "wide" comes first, "2" before "0"
    assert compared(swapped) == ["2", "0"]
    mixed = renamed({"2": "2", "0": "0"})
    mixed["rows"] = mixed["rows"][:-8] + mixed["rows"][-8:][::-1]  # of "wide", "2" before "0"
    assert layers_of(mixed, "wide") == ["2", "0"]
    assert compared(mixed) == ["0", "2"]
    assert similarity_conclusions(mixed)[-1] == similarity_conclusions(report)[-1]
    other = renamed({"0": "a", "2": "b"})
    assert compared(other) == ["0 / a", "2 / b"]
    assert similarity_conclusions(other)[-1].endswith("of 2 layers, compared in order of depth.")
    fewer = renamed({"2": "2"})
    assert ends_table(fewer)[1][-1][-1] == "–"
    assert similarity_conclusions(fewer)[-1] == (
        "wide and plain have different numbers of layers: not compared."
    )
    assert len(similarity_figure(fewer).subfigs) == 2
    with pytest.raises(ValueError, match="plain, wide have different numbers of layers"):
        compared(fewer)


def test_the_bins_are_those_of_the_published_code() -> None:
    assert_allclose(bin_edges("code"), np.linspace(0, 1, 42))
    assert_allclose(bin_edges("text")[[0, -1]], [-1, 1])
