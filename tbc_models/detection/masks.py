"""Masks are pasted exactly where they were cut.

A mask head learns masks of 28 × 28 that `roi_align` cuts out of the true ones, as if the centre of
pixel k were at k. torchvision pastes them into boxes that it has rounded and enlarged, up to a
pixel off. That is little for a person in a photograph, and half the stroke of a small digit.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.transform import GeneralizedRCNNTransform, resize_boxes


class ExactMasks(GeneralizedRCNNTransform):  # type: ignore[misc] # torchvision has no types
    """torchvision's preparation of images, with an exact way back for masks.

    Example:
        >>> from tbc_models.detection import mask_rcnn
        >>> isinstance(mask_rcnn("tied_resnet14_s", 11, small=True).transform, ExactMasks)
        True
    """

    def postprocess(
        self,
        result: list[dict[str, Tensor]],
        image_shapes: list[tuple[int, int]],
        original_image_sizes: list[tuple[int, int]],
    ) -> list[dict[str, Tensor]]:
        """Scale boxes back to the images as they were given, and paste masks into them."""
        if self.training:
            return result
        for found, shape, original in zip(result, image_shapes, original_image_sizes, strict=True):
            found["boxes"] = resize_boxes(found["boxes"], shape, original)
            if "masks" in found:
                scales = shape[0] / original[0], shape[1] / original[1]
                found["masks"] = paste_masks(found["masks"], found["boxes"], original, scales)
        return result


def with_exact_masks(detector: MaskRCNN) -> MaskRCNN:
    """Let a Mask R-CNN paste its masks exactly; nothing else changes."""
    old: Any = detector.transform
    names = ("min_size", "max_size", "image_mean", "image_std", "size_divisible", "fixed_size")
    detector.transform = ExactMasks(**{name: getattr(old, name) for name in names})
    return detector


def paste_masks(
    masks: Tensor,
    boxes: Tensor,
    size: tuple[int, int],
    scales: tuple[float, float] = (1.0, 1.0),
) -> Tensor:
    """Paste the masks of a mask head into an image.

    Args:
        masks: probabilities (n, 1, M, M).
        boxes: (n, 4) as x1, y1, x2, y2 in pixels of the image.
        size: height and width of the image.
        scales: how many pixels high and wide a pixel of the image was when the masks were cut.

    Returns:
        Probabilities (n, 1, height, width), 0 outside the boxes.

    Example:
        >>> paste_masks(torch.ones(1, 1, 28, 28), torch.tensor([[1.0, 0, 3, 2]]), (2, 4))[0, 0]
        tensor([[0., 1., 1., 0.],
                [0., 1., 1., 0.]])
    """
    pasted = masks.new_zeros(len(masks), 1, *size)
    for mask, box, whole in zip(masks, boxes.tolist(), pasted, strict=True):
        spans, places = [], []
        for low, high, length, scale in zip(
            box[:2], box[2:], size[::-1], scales[::-1], strict=True
        ):
            # A pixel belongs to the box if its centre does.
            first, last = (min(max(math.ceil(edge - 0.5), 0), length) for edge in (low, high))
            spans.append(slice(first, last))
            # Where the pixel was when the mask was cut, from -1 to 1 across the box.
            pixel = torch.arange(first, last, device=masks.device) + 0.5 - 0.5 / scale
            places.append(2 * (pixel - low) / (high - low) - 1)
        columns, rows = spans
        x, y = places
        if len(x) and len(y):
            grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).to(mask)
            whole[:, rows, columns] = F.grid_sample(
                mask[None], grid[None], padding_mode="border", align_corners=False
            )[0]
    return pasted
