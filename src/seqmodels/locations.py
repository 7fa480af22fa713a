"""Where the package keeps its files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from .errors import UserError


def config_dir() -> Path:
    """The folder of the configuration: inside the installed package, else in the checkout.

    Raises:
        UserError: neither exists.
    """
    package = Path(__file__).resolve().parent
    for folder in (package / "configs", package.parents[1] / "configs"):
        if folder.is_dir():
            return folder
    raise UserError(
        f"the configuration folder is in neither {package} nor {package.parents[1]}: "
        "install seqmodels again"
    )


def config_groups(folders: Iterable[Path]) -> dict[str, list[str]]:
    """The options of every group in these folders: {'clip': ['none', 'norm'], …}, sorted."""
    groups: dict[str, set[str]] = {}
    for folder in folders:
        for file in folder.rglob("*.yaml"):
            group = file.relative_to(folder).parent.as_posix()
            if group != "." and group.split("/")[0] != "hydra":
                groups.setdefault(group, set()).add(file.stem)
    return {group: sorted(groups[group]) for group in sorted(groups)}
