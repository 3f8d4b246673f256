"""Detect and segment objects with tied backbones (Fig. 6, Tables 2 and 4): `tbc detect`.

`fpn` puts a feature pyramid on a network, `detectors` builds the detectors, `cascade` the one that
torchvision lacks, and `masks` pastes masks exactly; `cost` counts them. `recipes` has the learning
rates, `loading` makes batches, `learner` takes a step, `settings` describes a run, `run` trains,
and `testing` tests and detects; `shipped` has trained detectors. `evaluation`, `voc_ap` and
`cityscapes_ap` define average precision, and `errors` what is wrong. `occlusion` measures both
where objects hide one another, with the intervals that `matching` makes fast, and
`occlusion_plots` shows them.
"""

from tbc_models.data.occlusion import occlusion_ratio, occlusion_ratios
from tbc_models.detection.detectors import (
    cascade_mask_rcnn,
    cascade_rcnn,
    faster_rcnn,
    mask_rcnn,
    retinanet,
)
from tbc_models.detection.evaluation import average_precision
from tbc_models.detection.fpn import backbone_with_fpn

__all__ = [
    "average_precision",
    "backbone_with_fpn",
    "cascade_mask_rcnn",
    "cascade_rcnn",
    "faster_rcnn",
    "mask_rcnn",
    "occlusion_ratio",
    "occlusion_ratios",
    "retinanet",
]
