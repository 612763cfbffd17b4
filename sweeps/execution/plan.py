"""The plan of a sweep: what it would do, shown before it does anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from analysis.record.uri import without_password
from analysis.statistics.intervals import student
from analysis.statistics.power import detectable
from linearizer_core.experiment import data as datasets
from linearizer_core.experiment.callbacks import keys_of
from linearizer_core.experiment.caveats import caveats
from linearizer_core.experiment.checks import MOVING
from linearizer_core.experiment.configuration import TrialConfig
from linearizer_core.experiment.evaluation import step_keys
from linearizer_core.experiment.families import family_of
from linearizer_core.experiment.families.affine import ranks_of
from linearizer_core.flows.conditioners import fitted_values
from linearizer_core.plugins.loading import loaded
from linearizer_core.words import counted
from sweeps.execution.cluster import Capacity
from sweeps.execution.grouping import Grouping
from sweeps.execution.price import Price, price_of
from sweeps.notebook import html
from sweeps.record.paths import SweepPaths
from sweeps.search.growth import Growth
from sweeps.search.halving import decision_epochs
from sweeps.spec.model import Resources, Sweep
from sweeps.spec.notes import notes
from sweeps.spec.validation import InputError, Problem
from sweeps.tracking.sync import tracking_uri

NOTHING_RECORDED = Growth()
"""The growth of a sweep without a record."""


@dataclass(frozen=True, repr=False)
class Plan:
    """A valid sweep on a machine that can run it."""

    sweep: Sweep
    capacity: Capacity
    concurrency: int
    lookahead: int
    grouping: Grouping
    growth: Growth = NOTHING_RECORDED
    price: Price | None = None

    @property
    def trials(self) -> int:
        """The number of trials: searched configurations and controls at each seed, and confirmations."""
        return self.sweep.trials

    def __repr__(self) -> str:
        return f"Plan({self.sweep.name}: {counted(self.trials, 'trial')}, {self.concurrency} at a time)"

    def _repr_html_(self) -> str:
        return html(render(self))


def make_plan(sweep: Sweep, capacity: Capacity, growth: Growth | None = None) -> Plan:
    """The plan of a sweep; raises ``InputError`` if no machine could run one of its trials.

    ``growth`` compares the spec with its record; with it the plan includes the price of the missing trials.
    """
    resources = sweep.model.resources
    concurrency = capacity.concurrency(resources)
    if concurrency == 0:
        message = f"a trial needs {_needs(resources)}; {capacity.where} has {_has(capacity)}"
        message += ", and can add no machine that is large enough" if capacity.potential else ""
        raise InputError(sweep.source, [Problem("resources", message)])
    grouping = Grouping(sweep, concurrency)
    # One and a half times what runs at once: a slow trial then seldom keeps a worker waiting.
    lookahead = max(2, -(-3 * concurrency * grouping.size // (2 * len(sweep.search.first_seeds))))
    at_once = min(concurrency, -(-sweep.configurations * len(sweep.search.first_seeds) // grouping.size))
    if growth is None:
        return Plan(sweep, capacity, at_once, lookahead, grouping)
    most = max(0, sweep.most_trials - len(growth.kept)) + len(growth.kept) - growth.ended
    price = price_of(sweep, growth.missing, at_once, most)
    return Plan(sweep, capacity, at_once, lookahead, grouping, growth, price)


def _needs(resources: Resources) -> str:
    cpus = counted(resources.cpus_per_worker, "CPU")
    gpus = f" and {counted(resources.gpus_per_worker, 'GPU')}" if resources.gpus_per_worker else ""
    if resources.workers == 1:
        return f"{cpus}{gpus}"
    return f"{resources.workers} workers of {cpus}{gpus}, each worker on one machine"


def _has(capacity: Capacity) -> str:
    total = _cpus_and_gpus(capacity.cpus, capacity.gpus)
    if len(capacity.nodes) > 1:
        largest = max(capacity.nodes, key=lambda node: (node.gpus, node.cpus))
        total += f" on {len(capacity.nodes)} machines, the largest with {_cpus_and_gpus(largest.cpus, largest.gpus)}"
    return total


def _cpus_and_gpus(cpus: float, gpus: float) -> str:
    return f"{counted(cpus, 'CPU')} and {counted(gpus, 'GPU')}"


def _placement(plan: Plan) -> str:
    """How many trials run at once, now and after an autoscaler has added all it can."""
    resources, capacity = plan.sweep.model.resources, plan.capacity
    now = min(capacity.now(resources), plan.concurrency)
    text = f"{_needs(resources)} per trial; {capacity.where} has {_has(capacity)}: {now} at a time"
    if plan.concurrency > now:
        text += f" now, up to {plan.concurrency} once it has added machines"
    return text


FEW = 3
"""The metrics of a family that a plan names, unless it is asked for all."""


def render(plan: Plan, whole: bool = False) -> RenderableType:
    """The plan as it is printed; ``whole`` names every metric that will be recorded."""
    sweep, search = plan.sweep, plan.sweep.search
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column(overflow="fold")
    for name, value in _facts(plan):
        facts.add_row(name, value)
    space = Table(title="space", title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0))
    space.add_column("key", overflow="fold")
    space.add_column("searched", overflow="fold")
    space.add_column("base", justify="right", overflow="fold")
    for leaf, dimension in search.space.items():
        space.add_row(leaf, dimension.describe(), str(sweep.base_leaves[leaf]))
    if sweep.function is not None:
        return Group(facts, Text(), space)
    config = sweep.trial_config({}, 0)
    keys = family_of(config).summary_keys(config) + keys_of(config)
    stepped = set(step_keys(config.evaluate)) <= set(keys)
    families: dict[str, list[str]] = {}
    for key in keys:
        families.setdefault(key.partition("/")[0], []).append(key.partition("/")[2])
    families["cost"] += ["train_seconds", "evaluate_seconds"]
    curves = [f"nfe/{name}" for name in config.evaluate.quality]
    recorded = Table(
        title="recorded per trial", title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0)
    )
    recorded.add_column("keys", overflow="fold")
    recorded.add_column(overflow="fold")
    recorded.add_row("train/…", "loss terms and gradient norm, per epoch")
    recorded.add_row("system/…", "use of the machine by the process, per epoch")
    if config.family in MOVING:
        ahead = f"psnr and test_psnr at {len(config.evaluate.steps)} numbers of steps ahead"
        recorded.add_row("nfe/…", ahead)
    if stepped:
        recorded.add_row("nfe/…", f"{', '.join(curves)} at {len(config.evaluate.steps)} step counts")
    if (config.family, config.model.operator.kind) in (("diffusion", "affine"), ("idempotent", "nested_projection")):
        ranks = ranks_of(config, datasets.load(config.data).event)
        named = ", ".join(f"rank/{name}" for name in config.evaluate.quality)
        recorded.add_row("rank/…", f"{named} and rank/test_… at the ranks {', '.join(map(str, ranks))}")
    for family, names in families.items():
        recorded.add_row(f"{family}/…", _named(names, whole))
    recorded.add_row("artifacts", "checkpoint (safetensors), sample grids (PNG), curves and spectra, if any (CSV)")
    folded = not whole and any(len(names) > FEW + 1 for names in families.values())
    hint = [Text("--all names every key", style="dim")] if folded else []
    return Group(facts, Text(), space, Text(), recorded, *hint)


def _named(names: Sequence[str], whole: bool) -> str:
    """Names in a row; of many only the first, and their number."""
    if whole or len(names) <= FEW + 1:
        return ", ".join(names)
    return f"{len(names)} keys: {', '.join(names[:FEW])}, …"


def what_seeds_tell(seeds: int) -> str:
    """How wide intervals over this many seeds are, and which differences can be detected, in standard deviations."""
    if seeds < 2:
        return "one seed: no intervals, and differences cannot be tested"
    return (
        f"{seeds} seeds: intervals of ± {float(student(seeds)):.2g} standard deviations over seeds; one comparison "
        f"detects differences of {detectable(seeds):.2g} standard deviations of the paired differences (power 80 %)"
    )


def _facts(plan: Plan) -> list[tuple[str, str]]:
    sweep, search = plan.sweep, plan.sweep.search
    objective = ", ".join(f"{mode} {key}" for key, mode in search.objective.items())
    facts = [
        ("sweep", f"{sweep.name} ({sweep.source})"),
        *(_data_facts(sweep) if sweep.function is None else [("function", sweep.function)]),
        *(("plugin", text) for text in plugins_in_words(sweep)),
        *(("note", text) for text in notes(sweep)),
        *(_model_facts(sweep) if sweep.function is None else []),
        ("objective", objective + "".join(f", subject to {k} {v}" for k, v in search.constraints.items())),
        ("search", f"{search.sampler}, {counted(sweep.configurations, 'configuration')} × "
         f"{counted(len(search.first_seeds), 'seed')} ({', '.join(map(str, search.first_seeds))})"
         + (f", up to {search.race.at_most} seeds for configurations still in the race" if search.race else "")),
    ]  # fmt: skip
    facts += [("", what_seeds_tell(len(seeds))) for seeds in dict.fromkeys((search.first_seeds, search.all_seeds))]
    if search.first:
        facts.append(("", f"the first {len(sweep.first_points())} are those of search.first"))
    if search.learn_from:
        count = len(plan.growth.drawn.learnt)
        facts.append(("learns from", f"{counted(count, 'finished configuration')} of {', '.join(search.learn_from)}"))
    if search.stop_early:
        leaves = sweep.base_leaves
        epochs = decision_epochs(search.stop_early, leaves["train.epochs"], sweep.every)
        rungs = ", ".join(map(str, epochs))
        facts.append(("early stopping", f"{search.stop_early.scheduler} at epochs {rungs}: one in "
                      f"{search.stop_early.reduction} goes on"))  # fmt: skip
    if sweep.model.controls:
        names = ", ".join(control.name for control in sweep.model.controls)
        facts.append(("controls", f"{names}; never stopped early, not seen by the search"))
    if search.confirm:
        facts.append(("confirm", f"the best {search.confirm.top} at seeds {', '.join(map(str, search.confirm.seeds))}"))
    facts += [
        ("trials", _trials(sweep)),
        *_difference(plan.growth),
        ("price", _price(plan)),
        ("resources", _placement(plan)),
        *(("together", text) for text in [plan.grouping.in_words] if text),
        ("budget", _budget(sweep)),
        ("record", str(sweep.folder)),
        ("MLflow", without_password(tracking_uri(sweep.model.tracking.uri, SweepPaths(sweep.folder)))),
    ]  # fmt: skip
    return facts


def _trials(sweep: Sweep) -> str:
    """The number of trials, a range in a race, and how long the longest one is."""
    count = f"{sweep.trials} to {sweep.most_trials}" if sweep.most_trials > sweep.trials else str(sweep.trials)
    return f"{count} of up to {counted(_longest(sweep), 'epoch' if sweep.function is None else 'step')}"


def _price(plan: Plan) -> str:
    if plan.price:
        return str(plan.price)
    if plan.growth.before is None or plan.growth.missing:
        return "not known before a trial has finished"
    return "nothing left to run, unless the race needs more seeds" if plan.sweep.search.race else "nothing left to run"


def _difference(growth: Growth) -> list[tuple[str, str]]:
    """Which trials of a recorded sweep stay, which are new, and which are no longer needed."""
    if growth.before is None:
        return []
    facts = [("grows by", change) for change in growth.changes]
    counts = [f"{len(growth.kept)} kept ({growth.ended} of them have ended)", f"{growth.new} new"]
    if growth.longer or growth.anew:
        ways = ((growth.longer, "trained further from their saved state"), (growth.anew, "trained from scratch"))
        counts += [f"{len(trials)} {how}" for trials, how in ways if trials]
    cancelled = len(growth.cancelled) + growth.not_begun
    if cancelled:
        counts.append(f"{cancelled} cancelled")
    if growth.set_aside:
        counts.append(f"{len(growth.set_aside)} no longer needed, which stay in the record (superseded/)")
    return [*facts, ("recorded", ", ".join(counts))]


def _data_facts(sweep: Sweep) -> list[tuple[str, str]]:
    data = datasets.load(sweep.trial_config({}, 0).data)
    channels, height, width = data.event
    images = f"{len(data.train)} / {len(data.validation)} / {len(data.test)} images of {channels}×{height}×{width}"
    return [("data", f"{data.name}: {images} to train / validate / test"), *(("", note) for note in data.notes)]


def _model_facts(sweep: Sweep) -> list[tuple[str, str]]:
    config = sweep.trial_config({}, 0)
    smallest, largest = parameters(sweep)
    said = caveats(config, datasets.load(config.data))
    return [*(("caveat", text) for text in said), ("model", f"{smallest:,} … {largest:,} parameters")]


def _longest(sweep: Sweep) -> int:
    """The most epochs of a trial, or steps of a function."""
    dimension = sweep.search.space.get("train.epochs")
    most = [] if dimension is None else [int(edge) for edge in dimension.edges()]
    return max(most, default=0) or int(sweep.base_leaves["train.epochs"])


def plugins_in_words(sweep: Sweep) -> list[str]:
    """Each plugin with its digest and the names that it registers."""
    return [
        f"{plugin.ref}: {', '.join(f'{each.kind} {each.name}' for each in plugin.registrations) or 'registers nothing'}"
        for plugin in loaded(sweep.model.plugins)
    ]


def parameters(sweep: Sweep) -> tuple[int, int]:
    """The parameter counts of the models at the lowest and the highest corner of the space, the smaller first."""
    data = datasets.load(sweep.trial_config({}, 0).data)
    configs = _corner_configs(sweep)
    sizes = [fitted_values(family_of(config).build(config, data.event, data.classes)) for config in configs]
    return min(sizes), max(sizes)


def _budget(sweep: Sweep) -> str:
    budget = sweep.model.budget
    caps = [f"{value:g} {name}" for name, value in (
        ("configurations", budget.trials), ("hours", budget.hours), ("GPU-hours", budget.gpu_hours)
    ) if value is not None]  # fmt: skip
    return ", ".join(caps) or "no cap"


def _corner_configs(sweep: Sweep) -> list[TrialConfig]:
    """The configurations with every dimension at its first value, and with every one at its last."""
    space = sweep.search.space
    points = [
        {name: dimension.edges()[i] for name, dimension in space.items() if dimension.active(sweep.base_leaves)}
        for i in (0, -1)
    ]
    return [sweep.trial_config(point, 0) for point in points]
