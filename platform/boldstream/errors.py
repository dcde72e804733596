"""Every error that boldstream raises on purpose.

::

    BoldstreamError
    ├── ConfigError            a YAML file or a command line that cannot be used
    ├── StorageError           a path, a filesystem or a catalog that cannot be used
    ├── ArtifactError          something that claims to be an artifact and is not whole
    │   ├── CohortError        … a cohort
    │   ├── EmbeddingsError    … an embedding table
    │   ├── AdjustmentError    … a fitted adjustment, or rows that none can be fitted on or applied to
    │   ├── ResultsError       … probe results
    │   └── OutputExistsError  … an output that is there already and belongs to another run
    ├── SourceError            source files or tables that no cohort can be made of
    ├── ScanError              one scan that cannot be used; carries the quarantine reason
    ├── AtlasError             regions missing, in another order, or of another atlas
    ├── GradientError          a gradient that does not fit its atlas, or cannot be computed
    ├── ModelError             a model version that cannot be found or built
    │   └── CheckpointError    … whose weights have a missing, extra or wrongly shaped key
    ├── TrainingError          a pretraining that cannot start or go on
    ├── LeaseError             something that only one process may do at a time, and another one does
    ├── ClusterError           a cluster's job server that does not do what it is asked
    │   └── AlreadySubmittedError  … because the same job was submitted to it before
    ├── LabError               the lab server cannot be started, or a part or a job of it has failed
    └── IncompleteError        an output that was made and published, without scans that failed; carries its reference
        └── HeldError          … and not promoted, because it did not pass the quality gate

Messages say what happened, with the values, and what to do next. The command line prints them as one clean
line and exits with status 2; with 3 after an `IncompleteError`, whose reference it prints too, and with 4 after a
`HeldError`.
"""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


class BoldstreamError(Exception):
    """Root of the errors that a user can mend."""


class ConfigError(BoldstreamError):
    """A configuration file or a command line cannot be used."""


class StorageError(BoldstreamError):
    """A path, filesystem or catalog cannot be used."""


class ArtifactError(BoldstreamError):
    """An artifact is not there, not whole, or not what it claims to be."""


class CohortError(ArtifactError):
    """A cohort is not there or not whole."""


class EmbeddingsError(ArtifactError):
    """An embedding table is not there or not whole."""


class AdjustmentError(ArtifactError):
    """An adjustment is not there or not whole, or cannot be fitted on these rows or applied to them."""


class ResultsError(ArtifactError):
    """Probe results are not there or not whole."""


class OutputExistsError(ArtifactError):
    """The output is there already and was made by another run."""


class SourceError(BoldstreamError):
    """No cohort can be made of the named source."""


class ScanError(BoldstreamError):
    """One scan cannot be used.

    Parameters
    ----------
    reason : str
        Short machine-readable reason, as written to quarantine tables (for example ``wrong_roi_count``).
    message : str
        What happened to this scan, with the values.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(reason, message)
        self.reason = reason
        self.message = message

    def __str__(self) -> str:
        return f"{self.reason}: {self.message}"


def few_of(names: Sequence[str], most: int) -> str:
    """Return the first names for a message, and how many more there are."""
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest


def did_you_mean(name: str, known: Iterable[str] | Mapping[str, str], most: int = 1) -> str:
    """Return a question that offers the names nearest to an unknown one, or nothing where none is near.

    Parameters
    ----------
    known : iterable of str, or mapping of str to str
        Names; a mapping tells what to offer for each.
    most : int
        Names that are offered.
    """
    offers = known if isinstance(known, Mapping) else {one: one for one in known}
    near = [repr(offers[one]) for one in difflib.get_close_matches(name, offers, n=most)]
    return f"did you mean {' or '.join(near)}?" if near else ""


def first_line(error: Exception) -> str:
    """Return what another library's error says first, for a message of one line; its class if it says nothing."""
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__


class AtlasError(BoldstreamError):
    """Regions are missing, in another order, or belong to another atlas."""


class GradientError(BoldstreamError):
    """A gradient does not fit its atlas, or cannot be computed."""


class ModelError(BoldstreamError):
    """A model version cannot be found or built."""


class CheckpointError(ModelError):
    """Weights have missing, extra or wrongly shaped keys, or cannot be read."""


class TrainingError(BoldstreamError):
    """A pretraining cannot start or go on."""


class LeaseError(BoldstreamError):
    """Only one process may do this at a time, and another one does."""


class ClusterError(BoldstreamError):
    """A cluster cannot be reached, refuses, or has no such job."""


class AlreadySubmittedError(ClusterError):
    """A job of the same name was submitted before."""


class LabError(BoldstreamError):
    """The lab server cannot be started, or one of its parts or jobs has failed."""


class IncompleteError(BoldstreamError):
    """An output was made and published, but scans are missing from it because they failed.

    Parameters
    ----------
    ref : Ref
        The artifact version that was published.
    message : str
        How many failed, why, and whether the same command tries them again.
    """

    def __init__(self, ref: Any, message: str) -> None:
        super().__init__(ref, message)
        self.ref = ref
        self.message = message

    def __str__(self) -> str:
        return self.message


class HeldError(IncompleteError):
    """A table version was made and is not promoted, because it did not pass the quality gate."""
