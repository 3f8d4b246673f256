"""The command `tbc compare`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table

from tbc_models.cli.terminal import (
    errors_in_one_line,
    plain_table,
    progress_bar,
    require_picture,
    require_writable,
    write_picture,
    write_report,
)
from tbc_models.data.specification import parse_specification

if TYPE_CHECKING:
    from tbc_models.comparing.runs import Plan, RunScore

app = typer.Typer()
console = Console()
_ENOUGH = 5  # seeds
BudgetOption = Literal["parameters", "macs", "both", "time", "all"]
_COUNTED, _TIMED = ("parameters", "macs"), ("inference", "training")
_PANELS: dict[BudgetOption, Any] = {
    "parameters": ("parameters",),
    "macs": ("macs",),
    "both": _COUNTED,
    "time": _TIMED,
    "all": _COUNTED + _TIMED,
}


@app.command(
    "compare",
    epilog="Examples:\n\n- `tbc compare --json mnist.json --plot mnist.png`\n\n"
    "- `tbc compare --data digits --epochs 10 --jobs 4`\n\n"
    "- `tbc compare --data cifar10 --scale large --budget all --json large.json --resume`\n\n"
    "- `tbc compare --ablation splits --epochs 3`",
)
def compare_networks(
    data: Annotated[
        str, typer.Option(metavar="NAME[:PATH]", help="Data set, as for `tbc train`.")
    ] = "mnist",
    budget: Annotated[
        BudgetOption | None,
        typer.Option(
            help="Quantity that is equal in all networks. Both: parameters, then MACs. Time: "
            "measured time of inference, then of a training step. All: these four.  "
            "[default: both]"
        ),
    ] = None,
    scale: Annotated[
        Literal["small", "large"],
        typer.Option(help="Size of SC: about 15,000 or 240,000 parameters."),
    ] = "small",
    ablation: Annotated[
        Literal["splits", "mixer"] | None,
        typer.Option(help="Compare TiedResNets instead, as in Table 5 or Table 6."),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Number of times each network is trained.")] = 5,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs of each training.")] = 8,
    jobs: Annotated[
        int, typer.Option(min=1, help="Number of trainings at a time, each on one thread.")
    ] = 1,
    no_mirror: Annotated[
        bool, typer.Option("--no-mirror", help="Do not mirror training images at random.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Keep the runs in the --json file and add the others.")
    ] = False,
    networks_from: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Compare the networks of this --json file, instead of finding those of equal time "
            "anew.",
        ),
    ] = None,
    device: Annotated[
        Literal["cpu", "cuda"], typer.Option(help="Where to train and to measure times.")
    ] = "cpu",
    json_file: Annotated[
        Path | None,
        typer.Option(
            "--json", metavar="FILE", help="Write the results to this file after every run."
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Plot the result to this PNG, SVG or PDF file."),
    ] = None,
) -> None:
    """Compare SC, GC, TBC and TGC at the same budget, over several seeds.

    Every network is trained from scratch with the same seeds. Prints means, 95 % intervals and a
    paired test against SC.
    """
    if ablation and (budget or scale == "large"):
        option = "--budget" if budget else "--scale"
        raise typer.BadParameter(
            f"the networks of an ablation are fixed; omit {option}.", param_hint=option
        )
    if resume and json_file is None:
        raise typer.BadParameter("needs --json with the file to resume.", param_hint="--resume")
    require_writable(json_file, "--json")
    require_picture(plot, "--plot")
    with errors_in_one_line():
        panels = (ablation,) if ablation else _PANELS[budget or "both"]
        plan = _plan(data, panels, seeds, epochs, scale, device, mirror=not no_mirror)
        plan, made = _begin(plan, json_file, networks_from, resume=resume)
        console.print(_networks(plan))
        console.print(_times(plan))
        if seeds == 1:
            console.print("1 seed gives neither an interval nor a test. Five are usual.")
        elif seeds < _ENOUGH:
            console.print(f"{seeds} seeds are few: expect wide intervals. Five are usual.")
        report = _run(plan, made, jobs, json_file)
        console.print(_results(report))
        from tbc_models.comparing.plots import compared, conclusions

        for sentence in conclusions(report):
            console.print(sentence, highlight=False)
        console.print("±: 95 % interval over seeds. p: paired t-test, Holm's correction.")
        if plot:
            write_picture(plot, compared(report), "--plot")
            console.print(f"Wrote {plot}", highlight=False, soft_wrap=True)


def _plan(
    data: str,
    panels: Any,
    seeds: int,
    epochs: int,
    scale: Literal["small", "large"],
    device: str,
    *,
    mirror: bool,
) -> "Plan":
    """Open the data, and decide what is compared."""
    specification = parse_specification(data)  # before PyTorch is imported
    from dataclasses import replace

    import torch

    from tbc_models.comparing.runs import Plan
    from tbc_models.data import open_data
    from tbc_models.training.recipes import RECIPES

    if device == "cuda" and not torch.cuda.is_available():
        raise typer.BadParameter("PyTorch finds no CUDA device here.", param_hint="--device")
    recipe = replace(RECIPES["small"], epochs=epochs)
    opened = open_data(specification)
    opened = replace(opened, mirror=mirror and opened.mirror)
    return Plan(opened, panels, seeds, recipe, scale, device)


def _begin(
    plan: "Plan", json_file: Path | None, networks_from: Path | None, *, resume: bool
) -> "tuple[Plan, list[RunScore]]":
    """Read the networks and runs of a file that is resumed; otherwise measure the networks."""
    from tbc_models.comparing.reports import networks_of, resumed
    from tbc_models.comparing.runs import calibrated

    if networks_from:
        plan = networks_of(networks_from, plan)
    if resume and json_file and json_file.exists():
        return resumed(json_file, plan)
    console.print("Measuring the times of the networks …")
    plan = calibrated(plan)
    _write(plan, [], json_file)
    return plan, []


def _run(plan: "Plan", made: "list[RunScore]", jobs: int, json_file: Path | None) -> dict[str, Any]:
    """Make the runs that are missing, and write the report after each."""
    from tbc_models.comparing.reports import report
    from tbc_models.comparing.runs import runs

    made = list(made)
    with progress_bar() as bar:
        total = len(plan.candidates) * plan.seeds
        task = bar.add_task("Training", total=total, completed=len(made))
        for run in runs(plan, made, jobs):
            made.append(run)
            _write(plan, made, json_file)
            bar.advance(task)
    return report(plan, made)


def _write(plan: "Plan", made: "list[RunScore]", json_file: Path | None) -> None:
    from tbc_models.comparing.reports import machine_of, report

    if json_file:
        write_report(json_file, "--json", report(plan, made), machine_of(plan))


def _networks(plan: "Plan") -> Table:
    """Show what the networks cost, before they are trained."""
    first = plan.candidates[0]
    of_trunk = ["widths"] if "widths" in first.options else []
    numbers = ("parameters", "ratio", "MACs", "ratio")
    shown = plain_table("network", *of_trunk, *numbers, left=1 + len(of_trunk))
    for network in plan.candidates:
        shown.add_row(
            network.label,
            *(" ".join(map(str, network.options[name])) for name in of_trunk),
            f"{network.parameters:,}",
            f"{network.parameters / first.parameters:.3f}",
            f"{network.macs:,}",
            f"{network.macs / first.macs:.3f}",
        )
    return shown


def _times(plan: "Plan") -> Table:
    """Show how long the networks take, in the order of `_networks`."""
    from tbc_models.comparing.plots import time_ratio

    of = plan.candidates[0].label
    shown = plain_table(
        "network", "equal", f"inference ÷ {of}'s", f"training step ÷ {of}'s", left=2
    )
    shown.caption = "Times: median of several measurements, and quartiles in brackets."
    for network in plan.candidates:
        equal = ", ".join(network.panels) if len(network.panels) < len(plan.panels) else "all"
        times = (time_ratio(ratio) for ratio in network.times.values())
        shown.add_row(network.label, equal, *times)
    return shown


def _results(report: dict[str, Any]) -> Table:
    """Show means, and differences from the yardstick, in percentage points."""
    from tbc_models.comparing.plots import TITLES, off_budget, p_value, plus_minus

    labels = {network["name"]: network["label"] for network in report["networks"]}
    yardstick = report["networks"][0]["label"]
    shown = plain_table("compared at", "network", "top-1 %", f"− {yardstick}", "p", left=2)
    for row in report["statistics"]:
        first = "difference" not in row
        difference = "" if first else plus_minus(row["difference"], "+")
        p = "" if first else p_value(row["p_holm"])
        off = row["network"] in off_budget(report, row["panel"])
        shown.add_row(
            TITLES[row["panel"]] if first else "",
            labels[row["network"]] + ", not equal" * off,
            plus_minus(row),
            difference,
            p,
        )
    return shown
