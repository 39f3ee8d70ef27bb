"""The house rules that a machine can hold: imports, length of files, docstrings."""

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted([*ROOT.glob("rlop/**/*.py"), *ROOT.glob("agents/*.py")])

# Every module belongs to the longest name here that it starts with, and may import that one and
# those before it.
ORDER = [
    "_imports",
    "types",
    "logs.messages",
    "logs.transfer",
    "config.writing",
    "config.ranges",
    "config.checks",
    "config.annotations",
    "config.reading",
    "config.schema",
    "config",
    "runs",
    "losses",
    "projections",
    "nets",
    "optim",
    "regularizers",
    "probes",
    "envs",
    "data.options",
    "data.joined",
    "data.mapped",
    "data.moments",
    "data.columns",
    "data.returns",
    "data.native",
    "data.recorded",
    "data.dataset",
    "data.changes",
    "data.images",
    "data.mix",
    "data.fingerprint",
    "data.sampler",
    "data.prefetch",
    "data.scores",
    "data.atari_scores",
    "data.units",
    "data.transforms",
    "data.adapter",
    "data.dqn_replay",
    "data.tables",
    "data.formats",
    "data.dqn_replay.window",
    "data.info",
    "data.stored_spec",
    "data.cache.sources",
    "data.cache.entry",
    "data.cache",
    "data.load",
    "data.sources",
    "data",
    "logs.progress",
    "agent_checks",
    "agent_runs",
    "deploy.acting",
    "deploy.observations",
    "deploy.card",
    "deploy.graph",
    "deploy.files",
    "deploy.policy",
    "deploy.spaces",
    "agent",
    "collect.acting",
    "collect.signals",
    "collect.vecnormalize",
    "collect.rollout",
    "collect.sb3_policy",
    "collect.sb3_training",
    "collect.d4rl_policy",
    "collect.policies",
    "collect.writer",
    "collect.collector",
    "collect.dqn_replay",
    "collect.minari",
    "collect.atari",
    "collect.convert",
    "collect",
    "logs.history",
    "logs.appended",
    "logs.dashboards",
    "logs.pictures",
    "logs.tensorboard",
    "logs.logger",
    "logs",
    "interop",
    "training.options",
    "training.interrupt",
    "training.names",
    "training.lock",
    "training.callbacks",
    "training.wandb_callback",
    "training.started",
    "training.checkpoint",
    "training.folder",
    "training.about",
    "training.recycling",
    "training.resets",
    "training.exact",
    "training.tally",
    "training.evaluate",
    "training.sums",
    "training.direct",
    "training.compile",
    "training.choice",
    "training.feed",
    "training.probing",
    "training.validation",
    "training.learning_times",
    "training.video",
    "training.resume",
    "training.loop",
    "training.saving",
    "training.session",
    "training.run",
    "training.parent",
    "training.devices",
    "training",
    "report.statistics",
    "report.aggregates",
    "report.intervals",
    "report.comparisons",
    "report.associations",
    "report.titles",
    "report.groups",
    "report.labels",
    "report.figures",
    "report.html",
    "report.foreign",
    "report.entries",
    "report.copies",
    "report.study",
    "report.summaries",
    "report.tables",
    "report.tuning",
    "report.budgets",
    "report.listing",
    "report.pairs",
    "report.formats",
    "report.findings",
    "report.pictures",
    "report.made_with",
    "report.sections",
    "report.across",
    "report.whole",
    "report.command",
    "report",
    "doctor.measures",
    "doctor.agents",
    "doctor.modules",
    "doctor.datasets",
    "doctor.ranges",
    "doctor.rules",
    "doctor.findings",
    "doctor.diagnosis",
    "doctor.words",
    "doctor.text",
    "doctor.page",
    "doctor.source",
    "doctor",
    "deploy",
    "command",
    "sweep",
    "agents",
    "ope.grid",
    "ope.formulas",
    "ope.policies",
    "ope.behavior",
    "ope.fqe",
    "ope.estimates",
    "ope.rankings",
    "ope.candidates",
    "ope.selection",
    "ope.command",
    "ope",
    "experiments",
    "cli",
]


def module_of(path):
    """rlop/data/sampler.py -> data.sampler, agents/dqn.py -> agents.dqn, a package: its folder."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts[1:] if parts[0] == "rlop" else parts
    return ".".join(part for part in parts if part != "__init__")


@cache
def rank(name):
    """Position in `ORDER` of the longest entry that the dotted name starts with."""
    fitting = [entry for entry in ORDER if f"{name}.".startswith(f"{entry}.")]
    assert fitting, f"rlop.{name}: add its room to ORDER"
    return ORDER.index(max(fitting, key=len))


@cache
def imports(path):
    """Dotted names, without `rlop.`, of every module that a file imports."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names = [node.module]
            if not (ROOT / node.module.replace(".", "/")).with_suffix(".py").exists():
                names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        found += [name.removeprefix("rlop.") for name in names if name.startswith("rlop.")]
    return found


def test_imports_point_one_way():
    for path in FILES:
        if path == ROOT / "rlop" / "__init__.py":
            continue
        for imported in imports(path):
            where = f"{path.relative_to(ROOT)} imports rlop.{imported}"
            assert rank(imported) <= rank(module_of(path)), where


def test_no_imports_go_in_a_circle():
    """Also within a room, and through imports inside functions."""
    modules = {module_of(path): path for path in FILES}
    graph = {name: set(imports(path)) & set(modules) for name, path in modules.items()}
    graph[""] = set()  # the package itself loads its rooms on first use

    done, open_ = set(), []

    def visit(name):
        assert name not in open_, f"circle: {' -> '.join([*open_, name])}"
        if name in done:
            return
        open_.append(name)
        for imported in sorted(graph[name]):
            visit(imported)
        open_.pop()
        done.add(name)

    for name in sorted(graph):
        visit(name)


def test_files_hold_one_idea():
    for path in FILES:
        assert len(path.read_text().splitlines()) <= 400, path


@pytest.mark.parametrize("package", ["regularizers", "probes", "projections"])
def test_public_maths_names_its_arguments_and_its_source(package):
    found = sorted(ROOT.glob(f"rlop/{package}/*.py")) or [ROOT / "rlop" / f"{package}.py"]
    for path in found:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                text = ast.get_docstring(node) or ""
                assert "Args:" in text or not node.args.args, f"{path.name}: {node.name}"


def test_nothing_a_stranger_wrote_is_unpickled():
    for path in FILES:
        text = path.read_text()
        for trap in ("allow_pickle=True", "weights_only=False", "yaml.load(", "pickle.load"):
            assert trap not in text, f"{path.name}: {trap}"
