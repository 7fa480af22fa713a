"""Where the package keeps its files."""

from __future__ import annotations

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
