"""The trained detectors that ship with the package, by name."""

from pathlib import Path

from tbc_models.training.settings import RunError

WEIGHTS_OF_DETECTORS = Path(__file__).parent / "weights"


def shipped_detectors() -> dict[str, Path]:
    """List the trained detectors that ship with the package.

    Returns:
        A dict from their names, DETECTOR-BACKBONE-DATA, to the files of their weights.

    Example:
        >>> sorted(shipped_detectors())
        ['mask-rcnn-plain_resnet14-scenes', 'mask-rcnn-tied_resnet14_s-scenes']
    """
    return {file.stem: file for file in sorted(WEIGHTS_OF_DETECTORS.glob("*.safetensors"))}


def find_detector(where: str | Path) -> Path:
    """Find the weights of a trained detector.

    Args:
        where: a file, or the name of a detector that ships with the package.

    Returns:
        The file.

    Raises:
        RunError: if neither a file nor a detector that ships has this name.

    Example:
        >>> find_detector("mask-rcnn-tied_resnet14_s-scenes").name
        'mask-rcnn-tied_resnet14_s-scenes.safetensors'
    """
    if Path(where).is_file():
        return Path(where)
    names = shipped_detectors()
    if str(where) in names:
        return names[str(where)]
    what = "is a folder: name a file in it" if Path(where).is_dir() else "does not exist"
    raise RunError(f"{where} {what}; the detectors that ship are {' and '.join(names)}")
