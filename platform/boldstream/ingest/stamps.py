"""Stamps: by which a scan is known to be as it was when it was read, without reading it again.

A stamp is the sha256 of everything that a scan's row is made of, as far as a listing and the tables tell: role, path
below the source's root, size and time of change of each of its files, what the tables say of it, and the problem that
it was planned with. It is stored, beside the cohort, when the scan has been read. A file that is touched gives another
stamp, so the scan is read once more; where its content is the same, its row stays as it is and only the stamp is new.
"""

from typing import Any

from boldstream.config import digest_json
from boldstream.listing import Listing


def stamp_files(files: dict[str, str], listing: Listing) -> str:
    """Return the stamp of a scan's files, which are in a listing.

    Parameters
    ----------
    files : dict of str
        URIs by role.
    listing : Listing
        Of the source; where it is mounted does not count.
    """
    paths = {role: uri.removeprefix(f"{listing.root}/") for role, uri in files.items()}
    return digest_json({role: [path, listing.state(path)] for role, path in paths.items()})


def stamp_scan(files: str, values: dict[str, Any], problem: tuple[str, str] | None) -> str:
    """Return the stamp of a scan.

    Parameters
    ----------
    files : str
        Stamp of its files.
    values : dict
        What the tables and the configuration say of it.
    problem : tuple of (str, str) or None
        Reason and message of a scan that goes to quarantine unread.
    """
    return digest_json([files, values, problem])
