"""What `tbc check` and `tbc bench` have found, as checks of claims.

Each function reads a committed report anew, so a report that is made again changes the ledger.
Where nothing is committed yet, a claim is not tried.
"""

from collections.abc import Callable

from tbc_models import results
from tbc_models.paper.claims import UNREAD, Finding, Status, in_small


def checked(*operators: str) -> Callable[[], Finding]:
    """Return a check by random cases and by public test suites.

    Args:
        operators: names of operators, such as "TBC".

    Returns:
        The function that a `Claim` takes as `find`: the number of cases, and of those that failed.

    Example:
        >>> checked("TBC")().status
        <Status.exact: 'exact'>
    """

    def find() -> Finding:
        cases, suites = results.committed("check"), results.committed("conformance")
        if cases is None or suites is None:
            return UNREAD
        own = [row for row in cases["rows"] if row["operator"] in operators]
        if not own:
            return UNREAD
        compared = [
            number
            for suite in suites["suites"]
            for name, number in suite["comparisons"].items()
            if _operator(name) in operators
        ]
        failed = sum(len(row["failures"]) for row in own)
        failed_there = sum(
            ", B = " not in failure or _operator(failure.partition(", B = ")[0]) in operators
            for suite in suites["suites"]
            for failure in suite["failures"]
        )
        dtypes = len({row["dtype"] for row in own})
        ours = f"{sum(row['cases'] for row in own):,} random cases of {', '.join(operators)} in "
        ours += f"{dtypes} dtypes, forward and backward: {failed} failed; {sum(compared):,} "
        ours += f"comparisons with the suites of ONNX and PyTorch: {failed_there} failed"
        status = Status.otherwise if failed or failed_there else Status.exact
        return Finding(status, ours, cases["command"])

    return find


def _operator(name: str) -> str:
    """Return the operator in the name of a comparison, such as "tbc_ref, TBC"."""
    return name.partition(", ")[2]


def modules(name: str, status: Status) -> Callable[[], Finding]:
    """Return a check of whole modules against compositions of reference functions.

    Args:
        name: beginning of the modules' names in the report of `tbc check --modules`.
        status: what the claim is if no case failed.

    Returns:
        The function that a `Claim` takes as `find`.

    Example:
        >>> modules("TiedSE", Status.exact)().status
        <Status.exact: 'exact'>
    """

    def find() -> Finding:
        report = results.committed("check")
        if report is None:
            return UNREAD
        own = [row for row in report["modules"] if row["module"].startswith(name)]
        if not own:
            return UNREAD
        failed = sum(len(row["failures"]) for row in own)
        worst = max(error for row in own for error in row["errors"].values())
        cases = sum(row["cases"] for row in own)
        names = ", ".join(row["module"] for row in own) if len(own) < 4 else f"a tied {name}"
        ours = f"{cases:,} cases of {names} against the reference: {failed} failed, largest "
        ours += "difference "
        found = Status.otherwise if failed else status
        return Finding(found, f"{ours}{worst:.0e}", report["command"])

    return find


def time_against_blocks() -> Finding:
    """Compare the time at the largest B with that at B = 1, for TBC and GC (Fig. 3)."""
    report = results.committed("blocks-cuda") or results.committed("blocks-cpu")
    if report is None:
        return UNREAD
    ratios: dict[str, list[float]] = {}
    for row in report["rows"]:
        times = [time[0] for time in row["times"].values()]
        ratios.setdefault(row["operator"], []).append(times[-1] / times[0])
    most = max(int(n) for n in report["rows"][0]["times"])
    gpu = report["machine"].get("gpu")
    told = " and ".join(
        f"{operator} takes {' to '.join(f'{r:.2f}' for r in sorted({min(own), max(own)}))} times"
        for operator, own in ratios.items()
    )
    ours = f"on {gpu or 'a CPU'} at B = {most}, {told} as long as at B = 1"
    if not gpu:
        return Finding(Status.untried, f"{ours}; not measured on a GPU yet", report["command"])
    # Half of what is proportional to B would be linear enough, and a quarter more flat enough.
    shown = min(ratios["GC"]) >= most / 2 and max(ratios["TBC"]) <= 1.25
    return in_small(shown, ours, report["command"])


def layer_times() -> Finding:
    """Compare the time of tied 3x3 layers of ResNet-50 with standard ones, on a GPU if measured."""
    report = results.committed("layers-cuda") or results.committed("layers-cpu")
    if report is None:
        return UNREAD
    found: dict[int, list[float]] = {}
    for row in report["rows"]:
        case = row["case"]
        if case["kernel_size"] == 3 and case["layout"] == "channels_last" and case["training"]:
            ratio = row["ms"]["tied_block_conv2d"][0] / row["ms"]["SC"][0]
            found.setdefault(case["blocks"], []).append(ratio)
    gpu = report["machine"].get("gpu")
    told = ", ".join(f"{sum(r) / len(r):.2f} at B = {n}" for n, r in sorted(found.items()))
    ours = f"on {gpu or 'a CPU'}, a training step of ResNet-50's 3×3 layers takes this part of "
    ours += f"SC's time: {told}"
    if gpu:
        less = all(max(r) < 1 for r in found.values())
        return in_small(less, ours, report["command"])
    return Finding(Status.untried, f"{ours}; not measured on a GPU yet", report["command"])
