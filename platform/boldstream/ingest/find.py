"""Find the scans of a source by their files' names, before anything is read."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class FoundScan:
    """One scan of a source.

    Attributes
    ----------
    fields : dict of str
        BIDS entities by long name (subject, session, task, run, space, …) and what else its name tells (file_id).
        Labels are bare: ``01``, not ``sub-01``.
    files : dict of str
        URI of each of its files by role. The series is in ``series`` (a table, .ptseries.nii), ``bold`` (a volume or
        .dtseries.nii) or ``subcortex`` and ``cortex`` (UK Biobank); beside them may be ``confounds``, ``sidecar``,
        ``outliers``, ``motion``, ``qc``.
    problem : tuple of (str, str) or None
        Reason and message why it cannot be read (e.g. two files for one scan).
    """

    fields: dict[str, str]
    files: dict[str, str]
    problem: tuple[str, str] | None = field(default=None)
