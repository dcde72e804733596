"""What the numbers mean, in words: alarming ones first, each with the threshold that it is beyond."""

from typing import NamedTuple

from boldstream.analysis.nuisance import MOTION_R2, SITE_ACCURACY, SITE_CHANCE
from boldstream.tables.columns import columns
from boldstream.tables.quality.lines import SEEN, lines
from boldstream.tables.quality.measure import NEW_AFTER, NEW_BEFORE, VIEWS, Quality

DIMENSIONS_ALLOWED = "rows and dimensions allow"


class Finding(NamedTuple):
    """One thing to know; `alarming`, or else worth a look."""

    alarming: bool
    text: str


def findings(quality: Quality) -> list[Finding]:
    """Return what is beyond a threshold, alarming things first."""
    told = [*_broken(quality), *_spread(quality), *_encoder(quality), *_people(quality), *_nuisance(quality)]
    told += _versions(quality)
    return sorted(told, key=lambda one: not one.alarming)


def headline(quality: Quality, told: list[Finding]) -> str:
    """Return the verdict in one sentence."""
    n_alarming = sum(one.alarming for one in told)
    n_others, label = len(told) - n_alarming, quality.version.label
    look = f"{n_others} {'thing is' if n_others == 1 else 'things are'} worth a look"
    if n_alarming:
        things = "thing is" if n_alarming == 1 else "things are"
        return f"{label}: {n_alarming} {things} alarming" + (f", {look}." if n_others else ".")
    return f"{label}: nothing is alarming" + (f", {look}." if n_others else ", and nothing stands out.")


def scope(quality: Quality) -> str:
    """Say of what rows the numbers are."""
    sample = quality.sample
    dims = f"{sample.vectors.shape[1]} dimensions"
    if sample.is_whole:
        rows = f"All {sample.n_rows} rows of {sample.n_subjects} subjects are measured"
    else:
        rows = (
            f"{sample.n_drawn} of {sample.n_rows} rows are measured: those of subjects drawn at random, of "
            f"{sample.n_subjects} (seed {quality.config.seed}, at most {quality.config.max_rows} rows)"
        )
    left_out = f"; {sample.n_broken} broken ones are left out" if sample.n_broken else ""
    return f"{rows}, {dims}{left_out}."


def _broken(quality: Quality) -> list[Finding]:
    n, drawn = quality.sample.n_broken, quality.sample.n_drawn
    if not n:
        return []
    return [
        Finding(True, f"{n} of {drawn} vectors are not finite or all zero; none should be. Embed these scans again")
    ]


def _spread(quality: Quality) -> list[Finding]:
    values, limits = quality.values, quality.config.thresholds
    n_dims, n_dead = int(values["n_dims"]), int(values["dead_dimensions"])
    if n_dead == n_dims:
        return [Finding(True, "all rows are equal: the vectors say nothing of any scan")]
    told = []
    if n_dead:
        text = f"{n_dead} of {n_dims} dimensions are dead: they vary by less than a millionth of the liveliest one"
        told.append(Finding(False, text))
    rank, most = values["rankme_centred"], min(len(quality.sample.vectors) - 1, n_dims)
    if rank < limits.rankme_centred:
        text = (
            f"around their mean the vectors use {rank:.1f} effective directions (alarming below "
            f"{limits.rankme_centred:g}): scans differ along one line, if at all. The encoder has collapsed"
        )
        told.append(Finding(True, text))
    elif rank < limits.rank_share * most:
        text = (
            f"around their mean the vectors use {rank:.1f} effective directions of the {most} that {DIMENSIONS_ALLOWED}"
            f" (worth a look below {limits.rank_share:.0%})"
        )
        told.append(Finding(False, text))
    cosine = values.get("mean_cosine", 0.0)
    if cosine > limits.mean_cosine:
        text = f"the mean cosine of two rows is {cosine:.5f} (alarming above {limits.mean_cosine:g}): all point one way"
        told.append(Finding(True, text))
    elif cosine > limits.common_offset:
        text = (
            f"the mean cosine of two rows is {cosine:.3f} (worth a look above {limits.common_offset:g}): a part common "
            "to all drowns what tells them apart. Subtract the mean before you compare by cosine or correlation"
        )
        told.append(Finding(False, text))
    if (alpha := values.get("alpha_req", 1.0)) > limits.steep:
        text = f"the spectrum falls with an exponent of {alpha:.2f} (worth a look above {limits.steep:g}; best near 1)"
        told.append(Finding(False, text))
    return told


def _encoder(quality: Quality) -> list[Finding]:
    told = []
    if quality.alarm:
        told.append(Finding(True, f"pretraining of the encoder ended with a collapse alarm: {quality.alarm}"))
    least = quality.config.thresholds.sensitivity
    for name, other in (
        ("sensitivity_phase", "the same scans without coupling"),
        ("sensitivity_zero", "an empty scan"),
    ):
        if (value := quality.values.get(name, least)) < least:
            length = f"{value:.2g} of a vector's length (alarming below {least:g})"
            text = f"the encoder hardly tells scans from {other}: {length}"
            told.append(Finding(True, text))
    return told


def _people(quality: Quality) -> list[Finding]:
    values, limits, told = quality.values, quality.config.thresholds, []
    for name in VIEWS:
        if (p := values.get(f"identification_p_{name}", 0.0)) > limits.identification_p:
            n = int(values[f"n_subjects_{name}"])
            enough = n >= limits.few_subjects
            few = "" if enough else f", but {n} are few: alarming from {limits.few_subjects} on"
            text = (
                f"{SEEN[name]}, {values[f'identification_{name}']:.1%} of {n} subjects are found again, no more than "
                f"chance allows (p = {p:.2g}, above {limits.identification_p:g}{few})"
            )
            told.append(Finding(enough, text))
        if (median := values.get(f"icc_consistency_median_{name}", limits.icc)) < limits.icc:
            text = (
                f"{SEEN[name]}, half of the dimensions have an ICC(3,1) below {median:z.2f} (worth a look below "
                f"{limits.icc:g}): they say more of the moment than of the subject"
            )
            told.append(Finding(False, text))
    return told


def _nuisance(quality: Quality) -> list[Finding]:
    values, limits, told = quality.values, quality.config.thresholds, []
    chance = values.get(SITE_CHANCE, 0.0)
    if (site := values.get(SITE_ACCURACY, 0.0)) > chance + limits.site_excess:
        text = (
            f"sites are told from the vectors with a balanced accuracy of {site:.2f}, by chance {chance:.2f} (worth a "
            f"look at {limits.site_excess:g} more): what is predicted from them may be the scanner's"
        )
        told.append(Finding(False, text))
    if (motion := values.get(MOTION_R2, 0.0)) > limits.motion_r2:
        text = (
            f"the vectors tell {motion:.0%} of the variance of motion (mean_fd; worth a look above "
            f"{limits.motion_r2:.0%}): what goes with motion can be predicted from that alone"
        )
        told.append(Finding(False, text))
    if f"{SITE_ACCURACY}{NEW_AFTER}" in values:
        before, after = values[f"{SITE_ACCURACY}{NEW_BEFORE}"], values[f"{SITE_ACCURACY}{NEW_AFTER}"]
        if after - before > limits.site_jump:
            text = (
                f"in scans that it has not learnt from, the adjustment leaves sites easier to tell than they were: "
                f"{before:.2f} before, {after:.2f} after (alarming at {limits.site_jump:g} more)"
            )
            told.append(Finding(True, text))
    return told


def _versions(quality: Quality) -> list[Finding]:
    value, least = quality.values.get("debiased_cka"), quality.config.thresholds.cka
    if value is None or quality.against is None or value >= least:
        return []
    models = [one.manifest.content.get("model_digest") for one in (quality.version, quality.against)]
    if models[0] != models[1] or "adjustment" in quality.version.manifest.content:
        return []  # other vectors are what is wanted then
    text = (
        f"the same scans lie otherwise than in {quality.against.label} (debiased CKA {value:.2f}, worth a look below "
        f"{least:g}), though the same model made both"
    )
    return [Finding(False, text)]


def say_quality(quality: Quality) -> str:
    """Print the verdict, what is behind it, and the numbers."""
    told = findings(quality)
    text = [headline(quality, told), *(f"{'ALARMING' if one.alarming else 'look'}: {one.text}" for one in told)]
    text += ["", scope(quality), columns(lines(quality), ("measure", "value", "reads"))]
    text += [f"not measured: {what}: {why}" for what, why in quality.missing.items()]
    return "\n".join(text)
