"""The Iceberg catalog: whether it opens and takes a write."""

import os
import uuid
from pathlib import Path

from boldstream.doctor.finding import NOTE, OK, WRONG, Finding
from boldstream.errors import StorageError, first_line
from boldstream.storage import CATALOG_VARIABLE, LOCAL_CATALOG, Warehouse, is_local, local_path

LOCK_WAIT_S = "2"
"""Opening tries four times."""
MEND = (
    f"{CATALOG_VARIABLE} names the catalog; is its server up, the password right, its disk writable and not full, and "
    "does no other process hold it?"
)


def check_catalog(where: str, location: str) -> Finding:
    """Check the catalog of a warehouse: open it, add a namespace, take it out again."""
    from pyiceberg.exceptions import RESTError
    from sqlalchemy.exc import SQLAlchemyError

    warehouse = Warehouse(Warehouse.at(location).uri, LOCK_WAIT_S)
    file = _file_of(warehouse)
    if file is not None and not file.exists() and (file.parent.is_dir() or CATALOG_VARIABLE not in os.environ):
        mend = f"if it should be there: are --warehouse and {CATALOG_VARIABLE} right?"
        return Finding("catalog", where, NOTE, f"{file} is not there yet: the first job makes it", mend)
    namespace = f"doctor_{uuid.uuid4().hex[:12]}"
    try:
        catalog = warehouse.catalog
        catalog.create_namespace(namespace)
        catalog.drop_namespace(namespace)
        catalog.close()
    except (StorageError, SQLAlchemyError, RESTError, OSError) as error:
        return Finding("catalog", where, WRONG, first_line(error), MEND)
    return Finding("catalog", where, OK, f"of {warehouse.uri}: opens and takes writes")


def _file_of(warehouse: Warehouse) -> Path | None:
    """Return the file of a SQLite catalog, which opening it would make."""
    from sqlalchemy import make_url

    uri = os.environ.get(CATALOG_VARIABLE)
    if uri is None:
        return local_path(warehouse.uri) / LOCAL_CATALOG if is_local(warehouse.uri) else None
    return Path(make_url(uri).database or "") if uri.startswith("sqlite") else None
