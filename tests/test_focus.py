"""Energy and pointing on maps that are known, and the study that averages them."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from tbc_models.analysis.focus import box_mask, energy_of_others, measure_focus


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, dtype=torch.float64, generator=torch.manual_seed(seed))


def test_all_inside_none_inside_and_half_inside() -> None:
    mask = torch.zeros(4, 4)
    mask[:2] = 1
    inside, outside, half = torch.zeros(4, 4), torch.zeros(4, 4), torch.zeros(4, 4)
    inside[1, 1], outside[3, 3], half[0, 0], half[3, 0] = 5, 2, 1, 1
    found = measure_focus(torch.stack([inside, outside, half]), mask.expand(3, 4, 4))
    assert found.energy.tolist() == [1, 0, 0.5]
    assert found.pointing.tolist() == [1, 0, 0.5]  # two pixels share the maximum
    assert found.share.tolist() == [0.5] * 3


def test_a_uniform_map_has_the_share_of_the_mask() -> None:
    masks = torch.stack([box_mask([1, 2, 6.5, 7], 9, 8), box_mask([0, 0, 8, 9], 9, 8)])
    found = measure_focus(torch.full((2, 9, 8), 0.3), masks)
    expected = [5.5 * 5 / 72, 1]
    for values in (found.energy, found.pointing, found.share):
        assert_allclose(values, expected, rtol=1e-12)


def test_it_is_what_loops_compute_and_its_scale_does_not_matter() -> None:
    maps, masks = random(5, 6, 7), (random(5, 6, 7, seed=1) > 0.5).double()
    found = measure_focus(maps, masks)
    for i in range(5):
        pixels = [(y, x) for y in range(6) for x in range(7)]
        inside = sum(float(maps[i, y, x]) for y, x in pixels if masks[i, y, x])
        best = max(pixels, key=lambda place: float(maps[i, place[0], place[1]]))
        assert_allclose(found.energy[i], inside / sum(float(maps[i, y, x]) for y, x in pixels))
        assert found.pointing[i] == masks[i, best[0], best[1]]
    larger = measure_focus(1e6 * maps, masks)
    assert_allclose(larger.energy, found.energy, rtol=1e-12)


def test_maps_of_zeros_are_counted_and_left_out() -> None:
    maps, masks = random(4, 3, 3), torch.ones(4, 3, 3)
    maps[[0, 2]] = 0
    found = measure_focus(maps, masks)
    assert (found.empty, found.kept.tolist(), len(found.energy)) == (2, [1, 3], 2)
    nothing = measure_focus(torch.zeros(2, 3, 3), torch.ones(2, 3, 3))
    assert (nothing.empty, nothing.energy.size, nothing.pointing.size) == (2, 0, 0)


def test_other_images_are_all_but_ones_own() -> None:
    maps, masks = random(6, 4, 4), (random(6, 4, 4, seed=1) > 0.4).double()
    maps[4] = 0
    images = [7, 7, 3, 3, 5, 9]
    found = energy_of_others(maps, masks, images)
    for i in range(6):
        others = [j for j in range(6) if images[j] != images[i] and j != 4]
        energies = measure_focus(maps[others], masks[[i] * len(others)]).energy
        assert_allclose(found[i], energies.mean(), rtol=1e-12)
    with pytest.raises(ValueError, match="must name several images"):
        energy_of_others(maps, masks, [1] * 6)


def test_a_box_covers_parts_of_pixels() -> None:
    mask = box_mask([1.25, 0.5, 3, 2], 4, 5)
    assert mask[:, 1].tolist() == [0.375, 0.75, 0, 0]
    assert mask[:, 2].tolist() == [0.5, 1, 0, 0]
    assert float(mask.sum()) == 1.75 * 1.5
    assert float(box_mask([-5, -5, 50, 50], 3, 3).sum()) == 9
    assert float(box_mask([10, 10, 12, 12], 3, 3).sum()) == 0


def test_maps_and_masks_that_do_not_fit_are_refused() -> None:
    maps, masks = random(2, 3, 3), torch.ones(2, 3, 3)
    with pytest.raises(ValueError, match=r"`maps` \(shape \(2, 3, 3\)\) and `masks` \(shape \(2, "):
        measure_focus(maps, masks[..., :2])
    with pytest.raises(ValueError, match="finite and not negative"):
        measure_focus(-maps, masks)
    with pytest.raises(ValueError, match="finite and not negative"):
        measure_focus(maps * np.nan, masks)
    with pytest.raises(ValueError, match="must be from 0 to 1"):
        measure_focus(maps, 2 * masks)
    with pytest.raises(ValueError, match=r"`masks\[1\]` is zero everywhere"):
        measure_focus(maps, torch.stack([masks[0], 0 * masks[1]]))
    with pytest.raises(ValueError, match="at least one map"):
        measure_focus(maps[:0], masks[:0])
