"""Eq. (5): the occlusion ratio of boxes and masks, held against pixels that are counted one by one.

Counts of pixels are whole numbers, which float64 holds exactly, so ratios of them must be equal.
"""

from itertools import combinations, product
from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tbc_models.data.occlusion import Overlap, Total, occlusion_ratio, occlusion_ratios

SIDE = 12
READINGS = list(product(get_args(Overlap), get_args(Total)))

Box = tuple[int, int, int, int]
Pixels = list[set[tuple[int, int]]]

every_reading = pytest.mark.parametrize(("overlap", "total"), READINGS)
whole_boxes = st.lists(
    st.tuples(*[st.integers(0, SIDE - 1)] * 4).map(
        lambda c: (min(c[0], c[2]), min(c[1], c[3]), max(c[0], c[2]) + 1, max(c[1], c[3]) + 1)
    ),
    max_size=6,
)


@st.composite
def some_masks(draw: st.DrawFn) -> Any:
    """Up to five random masks of one size, each with at least one pixel."""
    count, height, width = (draw(st.integers(least, 5)) for least in (0, 1, 1))
    masks = draw(arrays(bool, (count, height, width)))
    for mask in masks:
        mask[draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))] = True
    return masks


@st.composite
def real_boxes(draw: st.DrawFn) -> torch.Tensor:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    corners = rng.uniform(0, 100, (draw(st.integers(1, 12)), 2))
    return tensor(np.hstack([corners, corners + rng.uniform(1, 60, corners.shape)]))


def tensor(boxes: Any) -> torch.Tensor:
    return torch.tensor(boxes, dtype=torch.float64).reshape(-1, 4)


def pixels_of_boxes(boxes: list[Box]) -> Pixels:
    return [{(x, y) for x in range(x1, x2) for y in range(y1, y2)} for x1, y1, x2, y2 in boxes]


def expected_ratio(pixels: Pixels, overlap: str, total: str) -> float:
    """Count pixels one at a time."""
    everywhere = [pixel for one in pixels for pixel in one]
    covered = sum(everywhere.count(pixel) > 1 for pixel in set(everywhere))
    pairs = sum(len(one & other) for one, other in combinations(pixels, 2))
    hidden = {"pairs": pairs, "pairs-twice": 2 * pairs, "covered": covered}[overlap]
    whole = len(everywhere) if total == "sum" else len(set(everywhere))
    return hidden / whole if whole else 0.0


@every_reading
@given(whole_boxes)
def test_boxes_give_the_ratio_of_counted_pixels(overlap: Any, total: Any, boxes: list[Box]) -> None:
    expected = expected_ratio(pixels_of_boxes(boxes), overlap, total)
    for dtype in (torch.float64, torch.float32, torch.int64):
        ratio = occlusion_ratio(tensor(boxes).to(dtype), overlap=overlap, total=total)
        assert ratio == expected


@every_reading
@given(some_masks())
def test_masks_give_the_ratio_of_counted_pixels(overlap: Any, total: Any, masks: Any) -> None:
    pixels = [set(zip(*np.nonzero(mask), strict=True)) for mask in masks]
    expected = expected_ratio(pixels, overlap, total)
    of_bools = torch.from_numpy(masks)
    for instances in (of_bools, of_bools.to(torch.uint8) * 255, 0.5 * of_bools):
        assert occlusion_ratio(instances, overlap=overlap, total=total) == expected


@every_reading
@given(whole_boxes)
def test_boxes_may_end_between_pixels(overlap: Any, total: Any, boxes: list[Box]) -> None:
    """Eighths are exact in every dtype, and on a grid of eighths they are whole."""
    expected = expected_ratio(pixels_of_boxes(boxes), overlap, total)
    for dtype in (torch.float64, torch.float32, torch.float16):
        eighths = tensor(boxes).to(dtype) / 8
        assert occlusion_ratio(eighths, overlap=overlap, total=total) == expected


@given(real_boxes())
def test_any_boxes_give_the_ratio_of_the_equation(boxes: torch.Tensor) -> None:
    def area(x1: float, y1: float, x2: float, y2: float) -> float:
        return max(x2 - x1, 0) * max(y2 - y1, 0)

    rows = boxes.tolist()
    whole = sum(area(*row) for row in rows)
    shared = [
        area(*np.maximum(a[:2], b[:2]), *np.minimum(a[2:], b[2:])) for a, b in combinations(rows, 2)
    ]
    # Sides are summed from pieces here, which rounds a few hundred times by at most 2^-53.
    assert occlusion_ratio(boxes) == pytest.approx(sum(shared) / whole, rel=1e-12, abs=0)


@given(real_boxes())
def test_readings_are_ordered_and_bounded(boxes: torch.Tensor) -> None:
    r = {(o, t): occlusion_ratio(boxes, overlap=o, total=t) for o, t in READINGS}
    assert r["covered", "sum"] <= 1 / 2
    assert r["covered", "union"] <= 1
    for total in get_args(Total):
        assert r["pairs-twice", total] == 2 * r["pairs", total]
        assert r["covered", total] <= r["pairs", total]
    for overlap in get_args(Overlap):
        assert r[overlap, "sum"] <= r[overlap, "union"]


@every_reading
def test_the_bounds_are_reached(overlap: Any, total: Any) -> None:
    """Three objects at one place make three pairs and three areas."""
    same = torch.tensor([[0.0, 0, 3, 5]]).repeat(3, 1)
    hidden = {"pairs": 3, "pairs-twice": 6, "covered": 1}[overlap]
    whole = {"sum": 3, "union": 1}[total]
    assert occlusion_ratio(same, overlap=overlap, total=total) == hidden / whole
    pair = occlusion_ratio(same[:2], overlap="covered", total=total)
    assert pair == {"sum": 1 / 2, "union": 1}[total]


@every_reading
@given(whole_boxes, st.randoms(use_true_random=False), st.integers(1, 7), st.integers(-50, 50))
def test_order_scale_and_place_do_not_matter(
    overlap: Any, total: Any, boxes: list[Box], random: Any, scale: int, shift: int
) -> None:
    def ratio(boxes: torch.Tensor) -> float:
        return occlusion_ratio(boxes, overlap=overlap, total=total)

    first = ratio(tensor(boxes))
    shuffled = random.sample(boxes, len(boxes))
    assert ratio(tensor(shuffled)) == first
    assert ratio(scale * tensor(boxes)) == first
    assert ratio(tensor(boxes) + torch.tensor([shift, -shift, shift, -shift])) == first
    assert ratio(tensor(boxes)[:, [1, 0, 3, 2]]) == first  # x and y exchanged


@every_reading
@given(whole_boxes)
def test_the_ratio_is_0_exactly_when_nothing_overlaps(
    overlap: Any, total: Any, boxes: list[Box]
) -> None:
    apart = all(
        x2 <= u1 or u2 <= x1 or y2 <= v1 or v2 <= y1
        for (x1, y1, x2, y2), (u1, v1, u2, v2) in combinations(boxes, 2)
    )
    assert (occlusion_ratio(tensor(boxes), overlap=overlap, total=total) == 0) == apart


@every_reading
def test_boxes_that_touch_do_not_overlap(overlap: Any, total: Any) -> None:
    tiles = tensor([[x, y, x + 0.7, y + 0.7] for x in (0, 0.7, -0.7) for y in (0, 0.7, -0.7)])
    assert occlusion_ratio(tiles, overlap=overlap, total=total) == 0


@every_reading
@pytest.mark.parametrize(
    "instances",
    [
        *(torch.zeros(shape) for shape in ((0, 4), (0, 5, 7), (0, 0, 0))),
        torch.tensor([[0.0, 0, 3, 2]]),
        torch.ones(1, 5, 7),
    ],
)
def test_without_a_second_object_nothing_is_hidden(
    instances: torch.Tensor, overlap: Any, total: Any
) -> None:
    assert occlusion_ratio(instances, overlap=overlap, total=total) == 0


def test_many_objects_are_counted_exactly() -> None:
    """More than a byte can count at one place."""
    rng = np.random.default_rng(0)
    corners = rng.integers(0, 40, (500, 2))
    boxes = np.hstack([corners, corners + rng.integers(1, 100, corners.shape)])
    masks = np.zeros((500, 140, 140), np.uint8)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        mask[y1:y2, x1:x2] = 1
    count = masks.sum(0, dtype=np.int64)
    assert count.max() > 255
    twice = (count * (count - 1)).sum()
    hidden = {"pairs": twice / 2, "pairs-twice": twice, "covered": (count > 1).sum()}
    whole = {"sum": count.sum(), "union": (count > 0).sum()}
    target = {"boxes": tensor(boxes), "masks": torch.from_numpy(masks)}
    assert occlusion_ratios(target) == {
        f"{kind}, {overlap} / {total}": hidden[overlap] / whole[total]
        for kind in target
        for overlap, total in READINGS
    }


def test_gradients_and_autocast_change_nothing() -> None:
    corners = torch.arange(300.0)[:, None].expand(-1, 2)
    boxes = torch.cat([corners, corners + 400], 1)
    expected = occlusion_ratio(boxes)
    assert occlusion_ratio(boxes.requires_grad_()) == expected
    with torch.autocast("cpu", torch.bfloat16):
        assert occlusion_ratio(boxes) == expected


@pytest.mark.parametrize(
    ("instances", "error", "message"),
    [
        (
            [torch.ones(3, 4), torch.ones(5, 6)],
            TypeError,
            r"`instances` \(a list\) must be one tensor: .* masks \(n, H, W\), all of one size$",
        ),
        (np.zeros((1, 4)), TypeError, r"`instances` \(a ndarray\) must be one tensor"),
        (None, TypeError, r"`instances` \(a NoneType\) must be one tensor"),
        (
            torch.zeros(2, 5),
            ValueError,
            r"`instances` \(shape \(2, 5\)\) must be boxes \(n, 4\) or masks \(n, H, W\)",
        ),
        (torch.zeros(4), ValueError, r"`instances` \(shape \(4,\)\) must be boxes"),
        (torch.tensor(4.0), ValueError, r"`instances` \(shape \(\)\) must be boxes"),
        (torch.ones(2, 1, 5, 5), ValueError, r"`instances` \(shape \(2, 1, 5, 5\)\) must be boxes"),
        (
            torch.tensor([[0.0, 0, 1, 1], [0, 2, 3, 2], [0, 0, 0, 0]]),
            ValueError,
            r"`instances\[1\]` \(=\[0.0, 2.0, 3.0, 2.0\]\) has no area: .* x1 < x2 and y1 < y2",
        ),
        (
            torch.tensor([[3, 3, 1, 1]]),  # whose sides have a positive product
            ValueError,
            r"`instances\[0\]` \(=\[3.0, 3.0, 1.0, 1.0\]\) has no area",
        ),
        (
            torch.tensor([[0.0, 0, 1, 1], [0, 0, 1, torch.nan]]),
            ValueError,
            r"`instances\[1\]` \(=\[0.0, 0.0, 1.0, nan\]\) must be finite: x1, y1, x2, y2",
        ),
        (torch.tensor([[0, 0, 1, torch.inf]]), ValueError, r".* inf\]\) must be finite: x1, y1"),
        (
            torch.stack([torch.ones(3, 5), torch.zeros(3, 5)]),
            ValueError,
            r"`instances\[1\]` \(shape \(3, 5\)\) has no pixel",
        ),
        (torch.ones(1, 0, 0), ValueError, r"`instances\[0\]` \(shape \(0, 0\)\) has no pixel"),
    ],
)
def test_what_has_no_ratio_is_refused(instances: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"^{message}") as refused:
        occlusion_ratio(instances)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("value", ["all", None, ["pairs"]])
def test_another_reading_is_refused(value: Any) -> None:
    with pytest.raises(
        ValueError, match=r'^`overlap` \(=.*\) must be "pairs", "pairs-twice" or "c'
    ):
        occlusion_ratio(torch.zeros(0, 4), overlap=value)
    with pytest.raises(ValueError, match=r'^`total` \(=.*\) must be "sum" or "union"$'):
        occlusion_ratio(torch.zeros(0, 4), total=value)


@given(whole_boxes, st.data())
def test_all_readings_of_an_image_leave_crowds_out(boxes: list[Box], data: st.DataObject) -> None:
    count = len(boxes)
    crowd = torch.tensor(data.draw(st.lists(st.integers(0, 1), min_size=count, max_size=count)))
    masks = torch.from_numpy(data.draw(arrays(np.uint8, (count, 4, 5)))).clone()
    masks[:, 0, 0] = 1
    target = {"boxes": tensor(boxes), "masks": masks, "iscrowd": crowd}
    single = crowd == 0
    expected = {
        f"{kind}, {overlap} / {total}": occlusion_ratio(
            target[kind][single], overlap=overlap, total=total
        )
        for kind in ("boxes", "masks")
        for overlap, total in READINGS
    }
    ratios = occlusion_ratios(target)
    assert ratios == expected
    assert list(ratios) == list(expected)
    everyone = occlusion_ratios({"boxes": tensor(boxes), "labels": crowd})
    assert len(everyone) == 6
    for overlap, total in READINGS:
        ratio = occlusion_ratio(tensor(boxes), overlap=overlap, total=total)
        assert everyone[f"boxes, {overlap} / {total}"] == ratio


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"boxes": None}, TypeError, r"`target\['boxes'\]` \(a NoneType\) must be one tensor"),
        (
            {"boxes": torch.ones(3, 5, 5)},
            ValueError,
            r"`target\['boxes'\]` \(shape \(3, 5, 5\)\) must be boxes \(n, 4\)$",
        ),
        (
            {"masks": [torch.ones(2, 2)] * 3},
            TypeError,
            r"`target\['masks'\]` \(a list\) must be one tensor: masks \(n, H, W\), all",
        ),
        (
            {"masks": torch.ones(3, 4)},
            ValueError,
            r"`target\['masks'\]` \(shape \(3, 4\)\) must be masks \(n, H, W\)$",
        ),
        (
            {"masks": torch.ones(2, 5, 5)},
            ValueError,
            r"`target\['masks'\]` has 2 rows, but `target\['boxes'\]` has 3",
        ),
        (
            {"iscrowd": torch.zeros(2)},
            ValueError,
            r"`target\['iscrowd'\]` \(shape \(2,\)\) must be \(3,\)",
        ),
        ({"iscrowd": torch.tensor(0)}, ValueError, r"`target\['iscrowd'\]` \(shape \(\)\) must be"),
        (
            {"masks": torch.zeros(3, 5, 5)},
            ValueError,
            r"`target\['masks'\]\[0\]` \(shape \(5, 5\)\) has no pixel",
        ),
    ],
)
def test_an_image_without_ratios_is_refused(
    changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    boxes = torch.tensor([[0.0, 0, 2, 2]]).repeat(3, 1)
    with pytest.raises(error, match=f"^{message}") as refused:
        occlusion_ratios({"boxes": boxes, **changes})
    assert "\n" not in str(refused.value)


def test_a_target_is_the_dict_of_one_image_with_boxes() -> None:
    with pytest.raises(TypeError, match=r"^`target` \(a list\) must be the dict of one image$"):
        occlusion_ratios([{}])  # type: ignore[arg-type]
    with pytest.raises(
        ValueError, match=r"^`target` \(with the keys \['masks'\]\) must have boxes"
    ):
        occlusion_ratios({"masks": torch.ones(1, 2, 2)})


def test_rows_are_numbered_as_in_the_target_and_crowds_may_be_empty() -> None:
    target = {
        "boxes": torch.tensor([[0.0, 0, 0, 0], [0, 0, 2, 2], [1, 1, 1, 3]]),
        "iscrowd": torch.tensor([1, 0, 0]),
    }
    with pytest.raises(ValueError, match=r"^`target\['boxes'\]\[2\]` \(=\[1.0, 1.0, 1.0, 3.0\]\)"):
        occlusion_ratios(target)
    target["iscrowd"] = torch.tensor([1, 0, 1])
    assert set(occlusion_ratios(target).values()) == {0.0}
