"""What pretraining has measured of the encoder behind a table; nothing is measured again."""

from boldstream.errors import ModelError
from boldstream.refs import ModelRef
from boldstream.registry import MODEL_POINTER, trained_as
from boldstream.tables.find import Version

SENSITIVITIES = ("sensitivity_phase", "sensitivity_zero")
"""As pretraining's monitor logs them, below ``collapse/``."""


def input_sensitivity(version: Version) -> tuple[dict[str, float], str, str]:
    """Return how the encoder's vectors change with its input, why that is not known, and its collapse alarm.

    Distance of a held-out scan's vector to that of the same scan with randomised phases, and of an all-zero scan,
    relative to the mean length of vectors (`boldstream.analysis.collapse`).
    """
    content = version.manifest.content
    pointer = str(content.get("model", ""))
    match = MODEL_POINTER.fullmatch(pointer)
    if match is None or not match["version"]:
        return {}, f"not known: the table names no model version ({pointer or 'none'})", ""
    try:
        ref = ModelRef(f"models:/{match['name']}", match["version"], str(content.get("model_digest", "")))
        tags, metrics = trained_as(ref)
    except ModelError as error:
        return {}, f"not known: {error}", ""
    alarm = tags.get("collapse", "")
    values = {name: metrics[f"collapse/{name}"] for name in SENSITIVITIES if f"collapse/{name}" in metrics}
    if values:
        return values, "", alarm
    if tags.get("origin") == "imported":
        return {}, f"not known: {pointer} was trained elsewhere, and its weights do not tell", alarm
    if tags.get("trained_steps") == "0":
        return {}, f"not known: {pointer} was not trained, and only training measures it", alarm
    return {}, f"not known: the run that trained {pointer} has logged none, or is gone", alarm
