"""The two cohorts of a transfer: whom it learns from, and whom it is applied to."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from boldstream.analysis.steps import Step
from boldstream.analysis.transfer import check_apart
from boldstream.artifacts.cohort import Cohort
from boldstream.artifacts.embeddings import EmbeddingTable
from boldstream.errors import ConfigError, ResultsError
from boldstream.parcellation.atlas import Atlas, check_same
from boldstream.probe.config import ProbeConfig
from boldstream.probe.material import Material, open_tables, read_material
from boldstream.probe.plan import target_material
from boldstream.probe.targets import Target, read_target
from boldstream.probe.transfer.config import Condition
from boldstream.probe.transfer.sources import check_files, check_people, pool, read_sources
from boldstream.probe.trial import TargetMaterial


@dataclass(frozen=True)
class Half:
    """One target in one of the cohorts.

    Attributes
    ----------
    target : Target
    material : TargetMaterial
    people : DataFrame
        The target's, subjects told apart from the other cohort's where they are other people.
    """

    target: Target
    material: TargetMaterial
    people: pd.DataFrame


def target_config(config: ProbeConfig) -> ProbeConfig:
    """Return the configuration as the unseen cohort's tables are read by it."""
    return config.model_copy(update={"tables": config.transfer.tables}) if config.transfer.tables else config


def read_sides(config: ProbeConfig, source: Material) -> tuple[Material, Material]:
    """Return the scans that are learnt from and those of the unseen cohort, none in both.

    Raises
    ------
    ResultsError
        If one of them has no scan.
    ConfigError, AtlasError
        If the unseen cohort's tables are of other models, or its regions are others.
    """
    spec = config.transfer
    if not spec.tables:
        asked = _fulfil(source.scans, spec.target)
        known = _fulfil(source.scans, spec.source) & ~asked
        return _part(source, known, "source", spec.source), _part(source, asked, "target", spec.target)
    theirs = target_config(config)
    tables, cohort = open_tables(theirs)
    sources = read_sources(config, source)
    if same := [one for one in sources if spec.other_people and one.cohort.ref.uri == cohort.ref.uri]:
        raise ConfigError(
            f"transfer.other_people: {same[0].cohort.label} is learnt from and applied to, and in one cohort a name is "
            "one person"
        )
    check_fits(source, tables, cohort)
    unseen = read_material(theirs, tables, cohort)
    asked = _fulfil(unseen.scans, spec.target)
    learnt = [_part(one, _fulfil(one.scans, spec.source), "source", spec.source) for one in sources]
    applied = _part(unseen, asked, "target", spec.target)
    check_files([*learnt, applied])
    if not spec.other_people:
        check_people(learnt, config.folds.family)
    return pool(learnt, config.folds.family, other_people=spec.other_people), applied


def read_halves(
    config: ProbeConfig, sides: tuple[Material, Material], steps: Sequence[Step]
) -> list[tuple[Half, Half]]:
    """Return every target in both cohorts, typed as in the source.

    Raises
    ------
    ResultsError
        If the target cannot be learnt, or asked, or somebody is on both sides.
    """
    found = []
    for spec in config.targets:
        first = read_target(spec, sides[0].scans, config.folds)
        same = spec.model_copy(update={"kind": first.kind, "classes": first.classes})
        both = []
        for target, side, mark in (
            (first, sides[0], "source"),
            (read_target(same, sides[1].scans, config.folds), sides[1], "target"),
        ):
            people = target.people
            if config.transfer.other_people:
                names = [name for name in ("subject", "family") if name in people]
                people = people.assign(**{name: _marked(people[name], mark) for name in names})
            both.append(Half(target, target_material(config, side, target, steps), people))
        try:
            check_apart(both[0].people, both[1].people)
        except ValueError as error:
            raise ResultsError(f"target {spec.name!r}: {error} (transfer.other_people: true)") from None
        found.append((both[0], both[1]))
    return found


def _marked(names: Any, mark: str) -> Any:
    return names.map(lambda name: f"{mark} {name}", na_action="ignore")


def _fulfil(scans: pd.DataFrame, conditions: Sequence[Condition]) -> "pd.Series[bool]":
    """Say which scans fulfil all conditions; a missing value fulfils none."""
    found = pd.Series(True, index=scans.index)
    for one in conditions:
        values = scans[one.column]
        if one.values:
            found &= values.astype(str).isin(one.values) & values.notna()
            continue
        numbers = pd.to_numeric(values, errors="coerce")
        if numbers.isna().all():
            raise ConfigError(f"transfer: column {one.column!r} holds no numbers; name values instead of low and high")
        low, high = (float("-inf") if one.low is None else one.low), (float("inf") if one.high is None else one.high)
        found &= numbers.between(low, high)
    return found


def _part(material: Material, rows: "pd.Series[bool]", what: str, conditions: Sequence[Condition]) -> Material:
    """Return some of the scans."""
    if not rows.any():
        told = "; ".join(one.describe() for one in conditions) or "all others"
        names = " and ".join(table.label for table in material.tables.values())
        raise ResultsError(
            f"transfer.{what}: no scan of {names} is left ({told}); look at the values with `boldstream tables`"
        )
    mask = rows.to_numpy()
    vectors = {name: values[mask] for name, values in material.vectors.items()}
    return dataclasses.replace(material, scans=material.scans[mask], vectors=vectors)


def check_fits(source: Material, tables: Mapping[str, EmbeddingTable], cohort: Cohort) -> None:
    """Refuse an unseen cohort whose vectors or regions are others: what is learnt would be applied to something else.

    Raises
    ------
    ConfigError
        If a table is of another model than its namesake.
    AtlasError
        If the cohorts' regions differ, by name or order.
    """
    for name, table in tables.items():
        ours, theirs = (one.manifest.content for one in (source.tables[name], table))
        if ours.get("model_digest") != theirs.get("model_digest"):
            raise ConfigError(
                f"transfer.tables.{name}: {table.label} has vectors of model {theirs.get('model')}, tables.{name} of "
                f"{ours.get('model')}; their axes have nothing to do with each other: embed both with one model version"
            )
    check_same(
        Atlas(cohort.atlas, cohort.roi_names),
        Atlas(source.cohort.atlas, source.cohort.roi_names),
        where=f"unseen cohort {cohort.label!r}",
        other=f"cohort {source.cohort.label!r}",
    )
