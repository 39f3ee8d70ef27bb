"""What the site takes from elsewhere: the API, the catalogue, tables, pages of the top level."""

from __future__ import annotations

import inspect
import re
from collections import defaultdict
from dataclasses import MISSING, fields
from importlib import import_module
from pathlib import Path

from rlop.config.schema import describe
from rlop.experiments.catalogue import workshop

ROOT = Path(__file__).resolve().parents[1]
PUBLIC_NAMES = ROOT / "tests" / "public_names.txt"
BASELINES = ROOT / "docs" / "BASELINES.md"
PROJECT = (
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "REPRODUCTION.md",
    "SECURITY.md",
    "THIRD_PARTY.md",
)
ROOMS = {
    "rlop": "Training, probing and loading",
    "rlop.agents": "Agents",
    "rlop.data": "Data",
    "rlop.doctor": "Doctor",
    "rlop.envs": "Environments",
    "rlop.interop": "Other people's trainings",
    "rlop.nets": "Networks",
    "rlop.ope": "Values without an environment",
    "rlop.optim": "Optimizers",
    "rlop.probes": "Probes",
    "rlop.regularizers": "Regularizers",
}


def write_pages(folder: Path) -> None:
    """Write the pages of the API and the catalogue; a page that did not change is left alone."""
    (folder / "api").mkdir(parents=True, exist_ok=True)
    names = defaultdict(list)
    for dotted in PUBLIC_NAMES.read_text().split():
        names[dotted.rpartition(".")[0]].append(dotted)
    for room in set(ROOMS) - set(names):
        names[room] = [f"{room}.{name}" for name in import_module(room).__all__]
    for room, members in names.items():
        _write(folder / "api" / f"{room}.rst", api_page(room, members))
    _write(folder / "catalogue.md", catalogue_table())

    (folder / "project").mkdir(exist_ok=True)
    for name in PROJECT:
        _write(folder / "project" / name, project_page((ROOT / name).read_text()))


def _write(path: Path, text: str) -> None:
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


# --- pages of the top level ---


def project_page(text: str) -> str:
    """Return a page of the top level with links and anchors as the site needs them."""
    text = re.sub(r'<a id="(row-\d+)"></a>', r"(\1)=", text)
    return to_project(text.replace("](docs/", "](/"))


def to_project(text: str) -> str:
    """Point links at pages of the top level, from wherever they stand, to their copies."""
    names = "|".join(map(re.escape, PROJECT))
    return re.sub(rf"\]\((?:\.\./)*({names})", r"](/_generated/project/\1", text)


# --- the API ---


def api_page(room: str, members: list[str]) -> str:
    """Return the page of one room in reStructuredText: an entry for each public name.

    A name that the top level repeats is documented in its room, and listed at the top.
    """
    title = f"{ROOMS.get(room, room)} (``{room}``)"
    lines = [title, "=" * len(title), "", f".. currentmodule:: {room}", ""]
    for dotted in members:
        lines += entry(dotted)
    return "\n".join(lines) + "\n"


def entry(dotted: str) -> list[str]:
    """Return the lines that document one public name."""
    module, _, name = dotted.rpartition(".")
    value = getattr(import_module(module), name)
    if inspect.isclass(value):
        return [f".. autoclass:: {dotted}", "   :members:", "   :no-index:", ""]
    if inspect.isroutine(value):
        return [f".. autofunction:: {dotted}", "   :no-index:", ""]
    keys = ", ".join(f"``{key}``" for key in value)
    return [f".. py:data:: {dotted}", "   :no-index:", "", f"   Names: {keys}.", ""]


# --- the catalogue ---


def catalogue_table() -> str:
    """Return the abstracts of the workshop as a table: number, title, kind, use and home."""
    rows = ["| | abstract | kind | what it is used for here | where |", "|---|---|---|---|---|"]
    for abstract in workshop().abstracts:
        homes = ", ".join(f"`{home}`" for home in abstract.homes)
        title = f"{abstract.title} ({abstract.authors})"
        if abstract.arxiv:
            title = f"[{title}](https://arxiv.org/abs/{abstract.arxiv})"
        cells = [str(abstract.number), title, abstract.kind, abstract.use, homes]
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows) + "\n"


# --- tables within pages ---


def options_table(path: str) -> str:
    """Return the options of a class: name, default, meaning.

    Args:
        path: `module:Class`, optionally with names of the fields that are wanted.
    """
    target, *wanted = path.split()
    module, _, name = target.partition(":")
    rows = ["| option | default | meaning |", "|---|---|---|"]
    for item in fields(getattr(import_module(module), name)):
        if wanted and item.name not in wanted:
            continue
        meaning = describe(item).replace("|", "\\|")
        rows.append(f"| `{item.name}` | {shown_default(item)} | {meaning} |")
    return "\n".join(rows)


def shown_default(item) -> str:
    """Return the default of a field as a configuration writes it."""
    value = item.default if item.default is not MISSING else item.default_factory
    if value is MISSING:
        return "must be given"
    value = value() if callable(value) else value
    if isinstance(value, (bool, type(None))):
        return f"`{ {None: 'null', True: 'true', False: 'false'}[value] }`"
    return f"`{value}`"


PLAIN = "plain, lr"  # the agent without a module, at three learning rates
SETTINGS = (
    "DQN on gridworld",
    "DiscreteCQL on gridworld",
    "DQN on CartPole",
    "DiscreteCQL on CartPole",
)


def baselines() -> dict[str, list[str]]:
    """Return the first table of docs/BASELINES.md: module -> numbers, in order of `SETTINGS`."""
    section = BASELINES.read_text().partition("## Area under the curve")[2].partition("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if " ± " in line]
    return {name.strip(): [cell.strip() for cell in cells] for name, _, *cells in rows}


def measured_table(names: list[str]) -> str:
    """Return the rows of some modules beside the plain agent, with a word on each interval.

    The word is *above* or *below* where the two intervals do not meet, else nothing.
    """
    table = baselines()
    rows = ["| area under the curve | " + " | ".join(SETTINGS) + " |", "|---" * 5 + "|"]
    rows.append("| plain agent | " + " | ".join(table[PLAIN]) + " |")
    for name in names:
        cells = [judged(cell, plain) for cell, plain in zip(table[name], table[PLAIN], strict=True)]
        rows.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def judged(cell: str, plain: str) -> str:
    """Add *above* or *below* to a cell whose interval does not meet the plain agent's."""
    if not cell:
        return ""
    mean, half = _interval(cell)
    plain_mean, plain_half = _interval(plain)
    if abs(mean - plain_mean) <= half + plain_half:
        return cell
    return f"{cell} **{'above' if mean > plain_mean else 'below'}**"


def _interval(cell: str) -> tuple[float, float]:
    mean, _, rest = cell.partition(" ± ")
    return float(mean), float(rest.split()[0])
