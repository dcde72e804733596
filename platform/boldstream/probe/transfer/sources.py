"""Several source cohorts: that they may be learnt from together, and their scans as if of one."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from boldstream.artifacts.cohort import Cohort
from boldstream.artifacts.embeddings import EmbeddingTable
from boldstream.artifacts.settings import differing_keys, without_retired
from boldstream.errors import ConfigError, ResultsError, few_of
from boldstream.parcellation.atlas import Atlas, check_same
from boldstream.probe.config import ProbeConfig
from boldstream.probe.material import Material, open_tables, read_material

FILE = "source_sha256"
N_NAMED = 3
PLACE = "transfer.sources"
UNSEEN = "unseen"

Opened = tuple[Mapping[str, EmbeddingTable], Cohort]


def further_configs(config: ProbeConfig) -> dict[str, ProbeConfig]:
    """Return the configurations by which the tables beside the first cohort's are read, by what these are."""
    spec = config.transfer
    tables = {f"source-{at}": one for at, one in enumerate(spec.sources or (), start=2)}
    tables |= {UNSEEN: spec.tables} if spec.tables else {}
    return {name: config.model_copy(update={"tables": one}) for name, one in tables.items()}


def open_further(config: ProbeConfig) -> dict[str, Opened]:
    """Open the tables of further sources and of the unseen cohort, and their cohorts.

    Raises
    ------
    EmbeddingsError, CohortError
        If one is not there or not whole.
    ConfigError
        If they lack a column.
    """
    found: dict[str, Opened] = {}
    for name, theirs in further_configs(config).items():
        try:
            found[name] = open_tables(theirs)
        except ConfigError as error:
            where = "transfer.tables" if name == UNSEEN else PLACE
            raise ConfigError(f"{where} ({few_of(list(theirs.tables.values()), N_NAMED)}): {error}") from None
    return found


def read_sources(config: ProbeConfig, first: Material) -> list[Material]:
    """Return the scans of all source cohorts, the first one's as they are.

    Raises
    ------
    ConfigError
        If two are of one cohort, or their vectors are not of one space.
    AtlasError
        If their regions differ.
    """
    found = [first]
    configs, opened = further_configs(config), open_further(config)
    for name, (tables, cohort) in opened.items():
        if name == UNSEEN:
            continue
        for other in found:
            if cohort.ref.uri == other.cohort.ref.uri:
                raise ConfigError(
                    f"{PLACE}: {_labels(tables)} and {_labels(other.tables)} are of one cohort ({cohort.ref.uri}); "
                    "name each cohort once"
                )
        check_one_space(first.tables, tables)
        check_same(
            Atlas(cohort.atlas, cohort.roi_names),
            Atlas(first.cohort.atlas, first.cohort.roi_names),
            where=f"{PLACE}: cohort {cohort.label!r}",
            other=f"cohort {first.cohort.label!r}",
        )
        found.append(read_material(configs[name], dict(tables), cohort))
        _check_widths(first, found[-1])
    return found


def check_one_space(first: Mapping[str, EmbeddingTable], second: Mapping[str, EmbeddingTable]) -> None:
    """Refuse tables whose vectors were made in different ways, naming the two.

    Raises
    ------
    ConfigError
    """
    for name, table in second.items():
        ours, theirs = first[name].manifest.content, table.manifest.content
        both = f"{PLACE}.{name}: {first[name].label} and {table.label}"
        if ours.get("model_digest") != theirs.get("model_digest"):
            raise ConfigError(
                f"{both} have vectors of different models, {ours.get('model')} and {theirs.get('model')}, whose axes "
                "have nothing to do with each other: embed both with one model version"
            )
        recipe, other = (without_retired({"strategy": one.get("strategy")}) for one in (ours, theirs))
        if differing := differing_keys(recipe, other):
            raise ConfigError(f"{both} are of different strategies ({'; '.join(differing)}): embed both by one")
        if ours.get("adjustment") != theirs.get("adjustment"):
            steps = [one.get("adjustment") or "none" for one in (ours, theirs)]
            raise ConfigError(
                f"{both} are of different adjustments, {steps[0]} and {steps[1]}: take the tables that they were made "
                "from, and adjust, which is fitted to the sources together"
            )


def check_people(materials: Sequence[Material], family: str | None) -> None:
    """Refuse a name of a subject, or of a family, that two source cohorts have.

    Parameters
    ----------
    materials : sequence of Material
    family : str, optional
        Column that tells families.

    Raises
    ------
    ResultsError
    """
    for one, other in itertools.combinations(materials, 2):
        for column in _people_columns(family):
            names = [set(side.scans[column].dropna().astype(str)) for side in (one, other) if column in side.scans]
            if len(names) == 2 and (both := sorted(names[0] & names[1])):
                raise ResultsError(
                    f"transfer: {len(both)} {column} name(s) are in cohorts {one.cohort.label} and "
                    f"{other.cohort.label} ({few_of(both, N_NAMED)}): one person would count for two; leave them out "
                    "of one, or say that they are other people (transfer.other_people: true)"
                )


def check_files(materials: Sequence[Material]) -> None:
    """Refuse a scan that two cohorts read from equal files: whatever it is called, it is one person's.

    Raises
    ------
    ResultsError
    """
    for one, other in itertools.combinations(materials, 2):
        if FILE not in one.scans or FILE not in other.scans:
            continue
        known = dict(zip(one.scans[FILE], one.keys, strict=True))
        files = zip(other.keys, other.scans[FILE], strict=True)
        if twice := [f"{known[sha]} is {key}" for key, sha in files if sha in known]:
            raise ResultsError(
                f"transfer: {len(twice)} scan(s) of cohorts {one.cohort.label} and {other.cohort.label} are of equal "
                f"files ({few_of(twice, N_NAMED)}): leave them out of one"
            )


def pool(materials: Sequence[Material], family: str | None, *, other_people: bool) -> Material:
    """Return the scans of several cohorts as if of one; of one cohort, as they are.

    Scans and sites are named after their cohort too, for a site is one of its cohort's; a cohort that names no site is
    one. So are subjects and families where equal names are other people.

    Parameters
    ----------
    materials : sequence of Material
    family : str, optional
        Column that tells families.
    other_people : bool
    """
    if len(materials) == 1:
        return materials[0]
    first = materials[0]
    return dataclasses.replace(
        first,
        scans=pd.concat([_named(one, _people_columns(family) if other_people else ()) for one in materials]),
        vectors={name: np.concatenate([one.vectors[name] for one in materials]) for name in first.vectors},
        members=tuple(materials),
    )


def _people_columns(family: str | None) -> tuple[str, ...]:
    return ("subject",) if family is None else ("subject", family)


def _named(material: Material, columns: Sequence[str]) -> pd.DataFrame:
    cohort, scans = material.cohort.manifest.name, material.scans

    def mark(names: Any) -> Any:
        return names.map(lambda name: f"{cohort}: {name}", na_action="ignore")

    marked = {name: mark(scans[name]) for name in columns if name in scans}
    has_sites = "site" in scans and scans["site"].notna().any()
    marked["site"] = mark(scans["site"]) if has_sites else cohort
    return scans.assign(**marked).rename(index=mark(scans.index.to_series()).to_dict())


def _check_widths(first: Material, other: Material) -> None:
    for name, vectors in other.vectors.items():
        widths = first.vectors[name].shape[1], vectors.shape[1]
        if widths[0] != widths[1]:
            raise ConfigError(
                f"{PLACE}.{name}: {first.tables[name].label} has vectors of {widths[0]} dimensions, "
                f"{other.tables[name].label} of {widths[1]}: embed both by one model version and strategy"
            )


def _labels(tables: Mapping[str, EmbeddingTable]) -> str:
    return " and ".join(table.label for table in tables.values())
