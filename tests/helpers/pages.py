"""Running the fences of a page in order, as a reader would, in a folder of its own."""

import ast
import re
import shlex
from pathlib import Path
from typing import NamedTuple

from rlop.cli import main

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    path
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
    if not {"_build", "_generated"} & set(path.parts)
)
FENCE = re.compile(
    r"(?:<!-- not run: (?P<why>[^\n]+?) -->\n)?^```(?P<language>[^\n]*)\n(?P<code>.*?)^```$"
    r"|^<!-- first\n(?P<first>.*?)^-->$",
    re.DOTALL | re.MULTILINE,
)
# The reader waits for these; a test shows that they run, with as little as the options allow.
SHORT = {
    "train": {
        "steps": "20",
        "seeds": "2",
        "log_every": "10",
        "probe_every": "20",
        "eval_every": "20",
    },
    "sweep": {"steps": "4", "seeds": "1", "probe_every": "0", "eval_every": "0"},
    "collect": {"steps": "400"},
}


class Fence(NamedTuple):
    """A block of a page: its language, its text, and why it is not run, if it is not."""

    language: str
    code: str
    why: str


def fences(page: Path) -> list[Fence]:
    """Return the fences of a page in order.

    A comment that begins with the word `first` holds commands which the reader has done elsewhere.
    """
    found = []
    for match in FENCE.finditer(page.read_text()):
        if match["first"]:
            found.append(Fence("bash", match["first"], ""))
        else:
            found.append(Fence(match["language"].strip(), match["code"], match["why"] or ""))
    return found


def run_page(page: Path, folder: Path) -> dict[str, object]:
    """Run the Python and shell fences of a page in order; return the variables of Python.

    A Python or YAML fence whose first line is a comment with a file's name is written to that file.
    """
    for name in ("configs", "scripts"):
        if not (folder / name).exists():
            (folder / name).symlink_to(ROOT / name)

    scope: dict[str, object] = {"__name__": "page"}
    for fence in fences(page):
        file = re.match(r"# (\w+\.(?:py|yaml))\n", fence.code)
        if fence.why:
            continue
        if file:
            (folder / file[1]).write_text(fence.code)
        elif fence.language == "python":
            exec(compile(fence.code, page.name, "exec"), scope)
        elif fence.language in ("bash", "sh"):
            for line in fence.code.replace("\\\n", " ").splitlines():
                run_line(shlex.split(line, comments=True))
    return scope


def run_line(words: list[str]) -> None:
    """Run a line of `rlop`; check that what any other line names exists."""
    while words and re.fullmatch(r"\w+=\S*", words[0]):
        words = words[1:]  # a variable for one command; the folder is on the path already
    if not words:
        return
    program, *arguments = words
    if program == "rlop":
        run_rlop(arguments)
    elif program == "make":
        check_make(arguments)
    elif program in ("python", ".venv/bin/python"):
        check_python(arguments)
    elif program == "pip":
        check_extras(arguments)
    elif program == "tensorboard":
        assert Path(arguments[arguments.index("--logdir") + 1]).is_dir()
    else:
        raise AssertionError(f"{program}: neither run nor checked; see tests/helpers/pages.py")


def run_rlop(arguments: list[str]) -> None:
    """Run a command of rlop in this process, for a few steps where it trains or plays."""
    for key, value in SHORT.get(arguments[0], {}).items():
        option = f"--{key}"
        if option in arguments:
            arguments[arguments.index(option) + 1] = value
        elif arguments[0] != "collect" or "--from" not in arguments:
            arguments = [*arguments, option, value]
    assert main(arguments) == 0, arguments


def check_make(arguments: list[str]) -> None:
    """Check that the Makefile has the targets and variables."""
    text = (ROOT / "Makefile").read_text()
    for word in arguments:
        name, is_variable, _ = word.partition("=")
        pattern = rf"^{name} [?:]?=" if is_variable else rf"^{name}:"
        assert re.search(pattern, text, re.MULTILINE), word


def check_python(arguments: list[str]) -> None:
    """Check that a script and its options, or the tests that pytest is given, exist."""
    if arguments[:2] == ["-m", "pytest"]:
        for word in arguments[2:]:
            file, _, name = word.partition("::")
            if file.endswith(".py"):
                assert not name or f"def {name}(" in (ROOT / file).read_text(), word
        return

    script = ROOT / arguments[0]
    options = {word for word in arguments[1:] if word.startswith("--")}
    assert script.is_file(), arguments
    sources = "".join(path.read_text() for path in [script, *script.parent.glob("bench/*.py")])
    strings = {
        node.value
        for node in ast.walk(ast.parse(script.read_text()))
        if isinstance(node, ast.Constant)
    }
    for option in options:
        assert option in strings or option in sources, f"{arguments[0]}: {option}"


def check_extras(arguments: list[str]) -> None:
    """Check that the extras of an install exist."""
    text = (ROOT / "pyproject.toml").read_text()
    for word in arguments:
        for name in re.findall(r"\[([\w,]+)\]", word):
            for extra in name.split(","):
                assert re.search(rf"^{extra} = \[", text, re.MULTILINE), extra
