"""Labelled images to train and test with: `open_data` opens all of them by name.

`embedded` has the ones that Python packages carry, `published` those that torchvision reads, and
`folders` image files of your own and ImageNet. To add a data set, write a function that returns a
`Data`, and name it in `opening`.
"""

from tbc_models.data.base import Data, DataError, Images, one_line
from tbc_models.data.opening import open_data

__all__ = ["Data", "DataError", "Images", "one_line", "open_data"]
