"""Clocks: storage refuses requests of another time, and leases are given up by the clock."""

from boldstream.doctor.finding import NOTE, OK, WRONG, Finding

MOST_SKEW_S = 5.0
"""A lease's expiry is judged by the clock; storage itself bears 15 minutes."""


def judge_clock(whose: str, where: str, skew_s: float | None) -> Finding:
    """Judge how far a clock is ahead of the one at `where`."""
    if skew_s is None:
        return Finding("clock", where, NOTE, f"{whose} tells no time")
    if abs(skew_s) <= MOST_SKEW_S:
        return Finding("clock", where, OK, f"{whose} agrees within {MOST_SKEW_S:g} s")
    how = "ahead of" if skew_s > 0 else "behind"
    return Finding(
        "clock",
        where,
        WRONG,
        f"{whose} is {abs(skew_s):.0f} s {how} this one (at most {MOST_SKEW_S:g} s is well)",
        "let both machines set their clocks by NTP: timedatectl set-ntp true",
    )
