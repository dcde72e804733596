"""Sentences about measured numbers: every word of them follows from the numbers, whoever wins."""

from collections.abc import Sequence

from boldstream.analysis.intervals import Estimate
from boldstream.analysis.quality import Identification
from boldstream.report.config import FC_NAME
from boldstream.report.measure import Measured, accuracy_interval

FEW_SUBJECTS = 30
"""Below this the page says that no claim can rest on the comparison."""

SIGNIFICANT = 0.05


def title_of(name: str, adjusted: bool = False) -> str:
    """Return a representation's name in a sentence; adjusted vectors are no encoder's any more."""
    if name == FC_NAME:
        return "functional connectivity"
    return f"the {name} table" if adjusted else f"the {name} encoder"


def headline(measured: Sequence[Measured]) -> str:
    """Say in one sentence how many subjects each representation identified.

    Parameters
    ----------
    measured : sequence of Measured
        The table in question first, the baselines after it.
    """
    lead, *others = measured
    if lead.identified is None:
        return (
            f"{capital(lead.title)} gives vectors of effective rank {lead.rankme:.1f} with a mean cosine of "
            f"{lead.mean_cosine:.3f}; identification was not measured."
        )
    n = lead.identified.n
    text = f"{capital(lead.title)} identified {_count(lead.identified)} of {n} subjects from the other half of "
    text += "their scan"
    rest = [f"{other.title} {_count(other.identified)}" for other in others if other.identified]
    return f"{text}; {', '.join(rest)}." if rest else f"{text}."


def headlines(of_probes: Sequence[str], measured: Sequence[Measured]) -> list[str]:
    """Return what the page says first: who is better at which target, where that was probed, then identification."""
    return [*map(capital, of_probes), headline(measured)]


def verdicts(measured: Sequence[Measured]) -> list[str]:
    """Say plainly, in a few sentences, what the comparison shows and how little it may prove."""
    lead, *others = measured
    if lead.identified is None:
        return []
    # Functional connectivity first: it is what an encoder has to beat.
    found = [_compare(lead, other) for other in sorted(others, key=lambda other: other.name != FC_NAME)]
    found += [sentence for other in others if (sentence := _changed_by_centring(lead, other))]
    n, p = lead.identified.n, lead.identified.p_value
    if p > SIGNIFICANT:
        found.append(
            f"{capital(lead.title)} is not distinguishable from guessing (chance is 1 of {n}; p = {p:.2f}, binomial)."
        )
    if any("–" in _count(one.identified) for one in measured):
        found.append("A range gives the two directions: first half searched in second, and second in first.")
    if n < FEW_SUBJECTS:
        found.append(f"{n} subjects are too few for a claim about encoders: read this as a check of the path.")
    return found


def no_identification(n_parts: int, n_subjects: int) -> str:
    """Say why identification was not measured."""
    if n_subjects < 2:
        return "Identification needs at least two subjects; there is one."
    cut = "were embedded whole" if n_parts == 1 else f"were cut in {n_parts} parts"
    return f"Identification needs two halves of every scan, and these scans {cut}. Embed with parts: 2 to measure it."


def plain(value: float, digits: int = 2) -> str:
    """Return a number with a true minus sign, and none before a zero."""
    text = f"{value:.{digits}f}"
    return text.lstrip("-") if not float(text) else text.replace("-", "−")


def told_value(value: Estimate) -> str:
    """Return a score with its interval, as the page prints it."""
    return f"{plain(value.value)} [{plain(value.low)}, {plain(value.high)}]"


def interval_text(found: Identification) -> str:
    """Return the 95 % interval of an accuracy as ``29–96 %``."""
    low, high = accuracy_interval(found)
    return f"{100 * low:.0f}–{100 * high:.0f} %"


def _compare(lead: Measured, other: Measured) -> str:
    """Compare the leading table with one other representation."""
    assert lead.identified is not None and other.identified is not None
    ours, theirs = sum(lead.identified.correct), sum(other.identified.correct)
    if ours == theirs:
        every = " (both find every subject)" if ours == 2 * lead.identified.n else ""
        return f"{capital(lead.title)} and {other.title} do equally well here{every}."
    better, worse = (lead, other) if ours > theirs else (other, lead)
    return f"{capital(better.title)} does better than {worse.title} here{_overlap(better, worse)}."


def _changed_by_centring(lead: Measured, other: Measured) -> str | None:
    """Say who does better after subtracting the mean vector, where that is somebody else than before it."""
    if lead.identified_centred is None or other.identified_centred is None:
        return None
    assert lead.identified is not None and other.identified is not None
    before = sum(lead.identified.correct) - sum(other.identified.correct)
    after = sum(lead.identified_centred.correct) - sum(other.identified_centred.correct)
    if (before > 0) == (after > 0) and (before < 0) == (after < 0):
        return None
    if after == 0:
        return f"After subtracting the mean vector, {lead.title} and {other.title} do equally well."
    better, worse = (lead, other) if after > 0 else (other, lead)
    counts = f"{_count(better.identified_centred)} against {_count(worse.identified_centred)}"
    return f"After subtracting the mean vector, {better.title} does better than {worse.title} ({counts})."


def _overlap(better: Measured, worse: Measured) -> str:
    assert better.identified is not None and worse.identified is not None
    low, high = accuracy_interval(better.identified)[0], accuracy_interval(worse.identified)[1]
    if low <= high:
        return ", but their 95 % intervals overlap"
    return ", and their 95 % intervals do not overlap"


def _count(found: Identification | None) -> str:
    """Return ``5``, or ``4–5`` where the directions differ."""
    if found is None:
        return "?"
    low, high = sorted(found.correct)
    return str(low) if low == high else f"{low}–{high}"


def capital(text: str) -> str:
    """Begin a text with a capital letter."""
    return text[0].upper() + text[1:]
