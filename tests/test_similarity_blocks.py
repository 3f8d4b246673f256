"""Similarity within blocks and between them, where the wiring is known."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch import nn

from tbc_gpu import TiedBlockConv2d
from tbc_models.analysis.similarity import filter_similarity
from tbc_models.analysis.similarity_study import Subject, similarity_study, within_and_between
from tbc_models.analysis.similarity_tables import block_table


def network(seed: int = 0) -> nn.Module:
    """Two blocks that stay apart: block 1 reads channels 0 and 1, block 2 channels 2 and 3."""
    torch.manual_seed(seed)
    return nn.Sequential(
        TiedBlockConv2d(4, 8, 3, blocks=2), nn.ReLU(), TiedBlockConv2d(8, 8, 3, blocks=2)
    )


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(3, 4, 9, 9, generator=torch.Generator().manual_seed(1))


def test_the_means_are_those_of_the_squares_of_the_matrix(images: torch.Tensor) -> None:
    found = filter_similarity(network(), images, "2", channels=8)
    means = within_and_between(network(), found)
    assert means is not None
    squares = [found.matrix[:4, :4], found.matrix[4:, 4:]]
    within = np.mean([square[np.triu_indices(4, 1)].mean() for square in squares])
    assert_allclose(means, (within, found.matrix[:4, 4:].mean()), atol=1e-12)
    # The patterns of different blocks lie on different channels of the image.
    assert_allclose(means[1], 0, atol=1e-12)
    assert np.abs(found.matrix[:4, :4][np.triu_indices(4, 1)]).max() > 0.1


def test_dead_and_undrawn_filters_keep_the_others_in_their_blocks(images: torch.Tensor) -> None:
    some = network()
    with torch.no_grad():
        some.get_parameter("2.weight")[1] = 0  # channels 1 and 5 are dead
    found = filter_similarity(some, images, "2", channels=7)
    assert found.dead >= 1
    means = within_and_between(some, found)
    assert means is not None
    assert_allclose(means[1], 0, atol=1e-12)


def test_layers_without_blocks_have_no_such_means(images: torch.Tensor) -> None:
    plain = nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU())
    assert within_and_between(plain, filter_similarity(plain, images, "0", channels=4)) is None
    found = filter_similarity(plain, images, "1", channels=4)
    assert within_and_between(plain, found) is None
    stored = filter_similarity(network(), images, "2", channels=4, filters="stored")
    assert within_and_between(network(), stored) is None
    code = filter_similarity(network(), images, "2", channels=8, method="code")
    assert within_and_between(network(), code) is None


def test_the_report_and_its_table_have_both_means(images: torch.Tensor) -> None:
    report = similarity_study([Subject("tied", network(), images, network)], control=[1])
    for row in report["rows"]:
        assert row["between"] == pytest.approx(0, abs=1e-5)
    headers, lines = block_table(report, "tied")
    assert headers == ["layer", "weights", "same block", "other block"]
    kinds = [[layer, weights] for layer in ("0", "2") for weights in ("trained", "untrained")]
    assert [line[:2] for line in lines] == kinds
    for line in lines:
        row = next(r for r in report["rows"] if [r["layer"], r["weights"]] == line[:2])
        assert line[2:] == [f"{row[k]:.3f}".replace("-", "−") for k in ("within", "between")]
