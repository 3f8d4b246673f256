"""Every number of the paper's Tables 1 to 6, as the authors reported them.

Nothing here was measured by us: `tbc_models.paper.tables` sets our counts beside these numbers.
Each is stored as it is printed, since 13.0 says more than 13. The paper marks longer training with
more augmentation by †, and results that its authors reproduced by ‡.
"""

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Reported:
    """One number of the paper.

    Attributes:
        table: number of the table.
        row: row as the table names it.
        column: column as the table names it, with its unit.
        printed: the number as it is printed.
    """

    table: int
    row: str
    column: str
    printed: str

    @property
    def value(self) -> float:
        """The number."""
        return float(self.printed)

    @property
    def rounding(self) -> float:
        """The largest error that rounding can cause, half a unit of the last printed digit."""
        _, _, decimals = self.printed.partition(".")
        return 0.5 * 10.0 ** -len(decimals)


@dataclass(frozen=True)
class Table:
    """One table of the paper.

    Attributes:
        number: number of the table.
        caption: what it shows, in our words.
        columns: columns with their units.
        rows: numbers of each row in the order of the columns, None where none is printed.
    """

    number: int
    caption: str
    columns: tuple[str, ...]
    rows: dict[str, tuple[str | None, ...]]

    def __iter__(self) -> Iterator[Reported]:
        for row, numbers in self.rows.items():
            for column, printed in zip(self.columns, numbers, strict=True):
                if printed is not None:
                    yield Reported(self.number, row, column, printed)


def _rows(text: str) -> dict[str, tuple[str | None, ...]]:
    """Parse rows of `name | number number …`, where a dot means no number."""
    rows = {}
    for line in text.strip().splitlines():
        name, _, numbers = line.partition("|")
        rows[name.strip()] = tuple(None if n == "." else n for n in numbers.split())
    return rows


TABLES: dict[int, Table] = {
    1: Table(
        1,
        "Accuracy and size of networks on ImageNet-1k",
        ("params (M)", "params (%)", "GFlops", "GFlops (%)", "top-1 (%)", "top-5 (%)"),
        _rows("""
            ResNet50              | 25.6   .   4.2    .  76.2 92.9
            TiedResNet50-S        | 13.9  54   2.5   60  76.2 92.9
            TiedResNet50          | 22.0  86   4.4  105  77.6 93.6
            ResNet101             | 44.6   .   7.9    .  77.4 93.6
            TiedResNet101-S       | 24.0  54   4.8   61  77.7 93.8
            TiedResNet101         | 39.4  88   8.6  109  78.8 94.2
            ResNeXt101-32×4d      | 88.8   .  16.5    .  79.3 94.5
            TiedResNeXt101-S      | 64.0  65  14.6   78  79.3 94.5
            SENet101              | 49.1   .   7.9    .  77.6 93.9
            SENet101 ‡            | 49.1   .   7.9    .  78.3 94.2
            TiedSENet101-S        | 26.4  54   5.2   66  79.0 94.5
            TiedSENet101-S †      | 26.4  54   5.2   66  80.9 95.3
            TiedSENet101          | 41.8  85   9.1  115  79.8 94.8
            ResNeSt-50-fast ‡     | 27.5   .   4.4    .  78.6 93.9
            TiedResNeSt50-S       | 16.5  60   3.6   82  78.8 94.6
            Taylor-FO-BN          | 14.2   .   2.3    .  74.5    .
            ShuffleNet-50 †       |    .   .   2.3    .  74.8    .
            GhostNet-50 (s=2)     | 13.0   .   2.2    .  75.0 92.3
            TiedResNet50-S (2nd)  | 13.9   .   2.5    .  76.2 92.9
        """),
    ),
    2: Table(
        2,
        "Instance segmentation on Cityscapes with Mask R-CNN",
        ("params (M)", "AP mask"),
        _rows("""
            ResNet50              | 25.6  31.5
            TiedResNet50-S        | 13.9  32.5
            TiedResNet50          | 22.0  33.6
        """),
    ),
    3: Table(
        3,
        "TiedSE on ImageNet-1k; parameters are those of the attention",
        ("model params (M)", "params (M)", "params (%)", "top-1 (%)", "top-5 (%)"),
        _rows("""
            SEResNet-50, SE             | 28.1  2.53  100  76.71  93.38
            SEResNet-50, SE ‡           |    .  2.53  100  77.08  93.51
            SEResNet-50, TiedSE B=2     |    .  0.64   25  77.07  93.53
            SEResNet-50, TiedSE B=4     |    .  0.16  6.4  77.11  93.52
            SEResNet-50, TiedSE B=8     |    .  0.04  1.6  77.09  93.52
            EfficientNet-B0, SE         |  5.3  0.65  100   77.1   93.3
            EfficientNet-B0, TiedSE B=2 |    .  0.16   25   77.3   93.4
            EfficientNet-B0, TiedSE B=4 |    .  0.04  6.4   77.1   93.3
        """),
    ),
    4: Table(
        4,
        "TiedGCB on MS-COCO; parameters are those of the attention",
        ("AP bbox", "AP50 bbox", "AP mask", "AP50 mask", "params (M)", "params (%)"),
        _rows("""
            Mask R-CNN            | 37.3  59.0  34.2  55.9    .    .
            +GCB                  | 38.9  61.0  35.5  57.6   10  100
            +TiedGCB B=2          | 39.1  61.0  35.6  57.6  2.5   25
            +TiedGCB B=4          | 38.6  60.8  35.2  57.2  1.3   13
        """),
    ),
    5: Table(
        5,
        "Splits and base width of TiedResNet50",
        ("params (M)", "GFlops", "top-1 (%)", "top-5 (%)"),
        _rows("""
            2s×48w                | 23.8  4.4  77.27  93.53
            4s×32w                | 22.0  4.4  77.61  93.62
            6s×24w                | 23.0  4.6  77.37  93.66
            8s×18w                | 23.8  4.4  77.21  93.54
        """),
    ),
    6: Table(
        6,
        "The mixer of TiedResNet50",
        ("top-1 (%)", "top-5 (%)", "params (M)"),
        _rows("""
            element-sum           | 77.61  93.62  22.0
            concatenate           | 77.65  93.64  26.7
        """),
    ),
}
"""The tables by number. Iterating over a table yields its numbers, each as `Reported`."""
