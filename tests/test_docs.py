"""What README and docs say can be done can be done."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest

from seqmodels.cli import main
from seqmodels.config import check, compose
from tiny import record, tiny, write_text

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def commands(page: Path) -> list[str]:
    text = re.sub(r" \\\n +", " ", page.read_text(encoding="utf-8"))  # a command of several lines
    lines = text.splitlines()
    found = [re.sub(r"\s#.*", "", line) for line in lines]
    return [line.strip() for line in found if re.match(r" +(\S*/)?seqmodels [a-z]", line)]


@each_page
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)#]+)\)", text)
    local = [target for target in targets if "://" not in target]
    missing = [target for target in local if not (page.parent / target).exists()]
    assert not missing


@pytest.mark.parametrize("line", [c for p in PAGES for c in commands(p) if " train " in c])
def test_training_commands_are_valid(line: str) -> None:
    arguments = shlex.split(line.replace("…", ""))[2:]
    if "mycell.SlowCell" in line or any(a.startswith("-") for a in arguments):
        pytest.skip("runs in a test of its own, or shows help")
    check(compose("train", arguments))


def test_there_are_commands_to_check() -> None:
    assert sum(len(commands(page)) for page in PAGES) >= 8


def test_the_python_of_the_cells_page_runs() -> None:
    block, _ = re.findall(r"```python\n(.*?)```", (ROOT / "docs/cells.md").read_text(), re.DOTALL)
    names: dict[str, object] = {}
    exec(block, names)
    assert names["y"].shape == (3, 4, 20)  # type: ignore[attr-defined]


def test_the_python_of_the_layers_page_runs() -> None:
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/layers.md").read_text(), re.DOTALL)
    names: dict[str, object] = {}
    exec(block, names)
    assert names["y"].shape == (3, 4, 20)  # type: ignore[attr-defined]


def test_the_weights_of_torch_on_the_page_on_export() -> None:
    *_, block = re.findall(r"```python\n(.*?)```", (ROOT / "docs/export.md").read_text(), re.DOTALL)
    exec(block, {})


def test_the_python_of_the_page_on_gradients_runs(capsys: pytest.CaptureFixture[str]) -> None:
    text = (ROOT / "docs/gradients.md").read_text(encoding="utf-8")
    names: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(block, names)
    assert "k = 20: 0.0° off, 1.00 of the length" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("page", "name", "more"),
    # A name each: Python and the checker read a module once.
    [("README.md", "mycell", []), ("docs/cells.md", "owncell", ["+model.cell.rate=0.2"])],
)
def test_the_cells_of_the_pages_train(
    page: str, name: str, more: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    *_, block = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    (tmp_path / f"{name}.py").write_text(block, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    arguments = tiny(write_text(tmp_path), tmp_path / "run", "model/cell=custom")
    arguments += [f"model.cell._target_={name}.SlowCell", *more]
    try:
        assert main(arguments) == 0
    finally:
        sys.modules.pop(name, None)
    assert record(tmp_path / "run")["engines"] == {"backbone.layers.0": "eager"}
