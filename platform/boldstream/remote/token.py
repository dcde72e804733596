"""The token of a Ray cluster: found where Ray itself looks for it, never printed."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from boldstream.errors import ConfigError

MODE = "RAY_AUTH_MODE"
VALUE = "RAY_AUTH_TOKEN"
FILE = "RAY_AUTH_TOKEN_PATH"
DEFAULT_FILE = Path(".ray") / "auth_token"
PLACES = f"{VALUE}, the file that {FILE} names, ~/{DEFAULT_FILE}"


@dataclass(frozen=True)
class Token:
    """A token and where it was found.

    Attributes
    ----------
    value : str
        The secret; it is in no ``repr``.
    place : str
        The variable or file, for messages.
    """

    value: str = field(repr=False)
    place: str

    @property
    def headers(self) -> dict[str, str]:
        """The HTTP header that shows it."""
        return {"Authorization": f"Bearer {self.value}"}


def find_token() -> Token | None:
    """Return the token of this environment, in Ray's own order; None where there is none, or where it is turned off.

    Ray 2.60 starts clusters that want a token, but its job client shows one only where ``RAY_AUTH_MODE`` is
    ``token``. A token that is there is shown, unless the mode is ``disabled``.

    Raises
    ------
    ConfigError
        If the file that the environment names cannot be read or is empty.
    """
    if os.environ.get(MODE, "").lower() == "disabled":
        return None
    if value := os.environ.get(VALUE, "").strip():
        return Token(value, VALUE)
    named = os.environ.get(FILE)
    path = Path(named).expanduser() if named else Path.home() / DEFAULT_FILE
    if not named and not path.is_file():
        return None
    try:
        value = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the cluster's token cannot be read from {path} ({error})") from None
    if not value:
        raise ConfigError(f"the cluster's token cannot be read from {path} (the file is empty)")
    return Token(value, str(path))
