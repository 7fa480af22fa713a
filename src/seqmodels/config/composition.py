"""Hydra's compose, made quiet, repeatable and clear about every mistake."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from ..errors import UserError, closest, did_you_mean
from ..locations import config_dir, config_groups
from . import schema, tool_schema, translation
from .checking import check_problems

COMPOSE_ERRORS = (HydraException, OmegaConfBaseException, yaml.YAMLError, ValueError, TypeError)


def compose(
    name: str, overrides: Sequence[str] = (), config_dirs: Sequence[Path] = ()
) -> DictConfig:
    """The configuration of a command with its overrides; nothing is written or reconfigured.

    Args:
        name: of the file at the top of the configuration folder, such as "train".
        overrides: `group=option`, `key=value`, `+key=value`, `~key` in Hydra's grammar.
        config_dirs: folders with the user's own files, such as experiment/mine.yaml.

    Raises:
        UserError: names every override and file that is wrong, with what was probably meant.
    """
    composer = _Composer(name, config_dirs)
    with composer.hydra():
        try:
            cfg = composer.compose(overrides)
        except COMPOSE_ERRORS as error:
            raise UserError.of(composer.problems(overrides, error)) from error
        except RecursionError:
            raise UserError(
                "a configuration file holds itself: an anchor (&NAME) around its own alias (*NAME)"
            ) from None
        problems = composer.misunderstandings(overrides)
        if problems:
            raise UserError.of(problems)
        return cfg


class _Composer:
    def __init__(self, name: str, config_dirs: Sequence[Path]) -> None:
        self.name = name
        self.main = config_dir()
        self.folders = [_user_folder(folder, self.main) for folder in config_dirs]
        self.groups = config_groups([self.main, *self.folders])
        quoted = ",".join("'" + str(f).replace("'", "\\'") + "'" for f in self.folders)
        self.search = [f"hydra.searchpath=[{quoted}]"] if self.folders else []

    @contextmanager
    def hydra(self) -> Iterator[None]:
        """Hydra's global state for the time of a composition; an outer one is put back."""
        schema.register()
        tool_schema.register()
        outer = GlobalHydra.instance().hydra
        GlobalHydra.instance().clear()
        try:
            with initialize_config_dir(str(self.main), version_base="1.3"):
                yield
        finally:
            GlobalHydra.instance().hydra = outer

    def compose(self, overrides: Sequence[str]) -> DictConfig:
        return hydra_compose(self.name, [*self.search, *overrides])

    def problems(self, overrides: Sequence[str], error: BaseException) -> list[str]:
        """Find every bad override by adding one after the other to those that work."""
        parsed, found = self._parse(overrides)
        try:
            cfg = self.compose([])
        except COMPOSE_ERRORS as base:
            return [*found, self._describe(base, None)]
        parsed.sort(key=lambda o: o.key_or_group not in self.groups)  # stable: groups first
        good: list[str] = []
        failed: list[str] = []
        for override in parsed:
            key = override.key_or_group
            if any(key.startswith(f"{group.replace('/', '.')}.") for group in failed):
                continue  # which keys there are depends on the option that was not found
            text = str(override.input_line)
            try:
                if len(overrides) == 1:
                    raise error
                cfg = self.compose([*good, text])
                good.append(text)
            except COMPOSE_ERRORS as one:
                if "experiment" in failed and key not in self.groups:
                    continue
                found.append(self._explain(override, one, cfg))
                if key in self.groups:
                    failed.append(key)
        if found and not failed:  # what is wrong in the rest is said at once too
            found += check_problems(cfg)
        return found or self.misunderstandings(overrides) or [self._describe(error, cfg)]

    def misunderstandings(self, overrides: Sequence[str]) -> list[str]:
        """What Hydra accepts and does not do what it seems to."""
        parsed, found = self._parse(overrides)
        for override in parsed:
            key, value = override.key_or_group, override.value()
            group = key.replace(".", "/")
            if key.split(".")[0].split("/")[0] == "hydra":
                found.append(
                    f"{override.input_line}: Hydra's own settings have no effect here; "
                    "the folder of a run is chosen with run_dir=DIR"
                )
            elif "." in key and group in self.groups and not isinstance(value, dict | list):
                options = self.groups[group]
                if isinstance(value, str) and value in options:
                    found.append(f"{override.input_line}: write {group}={value}")
                else:
                    text = str(override.input_line)
                    found.append(translation.option_problem(text, group, value, options))
        return found

    def _parse(self, overrides: Sequence[str]) -> tuple[list[Override], list[str]]:
        parsed: list[Override] = []
        problems = []
        parser = OverridesParser.create()
        for text in overrides:
            try:
                override = parser.parse_overrides([text])[0]
            except HydraException as error:
                problems.append(translation.syntax_problem(text, error))
                continue
            if not override.key_or_group:
                problems.append(f"{text!r} cannot be read: an override has the form key=value")
                continue
            if override.is_sweep_override():
                key, _, values = text.partition("=")
                problems.append(
                    f"{text}: several values make a sweep, and this is one run: for a sweep "
                    f"write seqmodels train -m …; for a list write {key}=[{values}], "
                    f"for text \"{key}='{values}'\""
                )
                continue
            parsed.append(override)
        return parsed, problems

    def _explain(self, override: Override, error: BaseException, cfg: DictConfig) -> str:
        key, value = override.key_or_group, override.value()
        if key in self.groups:
            options = self.groups[key]
            if not isinstance(value, str | list) or (
                isinstance(value, str) and value not in options
            ):
                return translation.option_problem(str(override.input_line), key, value, options)
            problem = self._describe(error, cfg)
            return problem if ".yaml" in problem else f"{override.input_line}: {problem}"
        if "/" in key:
            near = did_you_mean(_like(key, self.groups))
            return f"{override.input_line}: there is no group {key!r}{near}"
        if isinstance(value, str) and "." not in key and not override.is_delete():
            namesakes = [group for group in self.groups if group.rpartition("/")[2] == key]
            if namesakes:
                written = " or ".join(f"{group}={value}" for group in namesakes)
                return f"{override.input_line}: write {written}"
        cause = error.__cause__ or error
        similar = translation.similar_keys(key, cfg)
        if not similar and "." not in key and not override.is_delete():
            return f"{key!r} is not a setting{did_you_mean(_like(key, self.groups))}"
        if isinstance(cause, OmegaConfBaseException) and not override.is_delete():
            return translation.override_problem(cause, key, value, cfg)
        if override.is_delete() and key in translation.dotted_keys(cfg):
            return f"~{key}: this setting is part of the schema and cannot be deleted"
        if override.is_delete():
            return f"~{key}: there is no {key!r} to delete{did_you_mean(similar)}"
        return self._describe(error, cfg)

    def _describe(self, error: BaseException, cfg: DictConfig | None) -> str:
        problem = translation.file_problem(error, cfg)
        if problem is not None:
            return problem
        if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
            mark = error.problem_mark
            return f"{mark.name}, line {mark.line + 1}: not YAML: {error.problem}"
        if isinstance(error, MissingConfigException) and "/" in (error.missing_cfg_file or ""):
            group, _, name = str(error.missing_cfg_file).rpartition("/")
            asked = f"a defaults list asks for {group}={name}"
            return translation.option_problem(asked, group, name, self.groups.get(group, []))
        text = str(error).split("\nConfig search path:")[0]
        return " ".join(text.split()) or type(error).__name__


def _like(key: str, groups: Iterable[str]) -> list[str]:
    """Groups whose path, or last name, is like `key`."""
    last = {group.rpartition("/")[2]: group for group in groups}
    near = closest(key, groups) or [last[n] for n in closest(key.rpartition("/")[2], last)]
    return near


def _user_folder(folder: Path, main: Path) -> Path:
    folder = Path(os.path.abspath(folder))  # noqa: PTH100 - `resolve` would follow links
    if not folder.is_dir():
        raise UserError(f"--config-dir: there is no folder {folder}")
    for file in sorted(folder.rglob("*.yaml")):
        if (main / file.relative_to(folder)).exists():
            name = file.relative_to(folder)
            raise UserError(
                f"--config-dir: {file} has the name of a file that seqmodels brings, which would "
                f"hide it: rename it, for instance to {name.with_stem(name.stem + '_mine')}"
            )
    return folder
