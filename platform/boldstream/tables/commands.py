"""`boldstream tables …`: the commands, what they take, and what they print."""

import argparse
from collections.abc import Callable, Sequence

from boldstream.arguments import Parser

COHORTS = "cohorts"
EXAMPLES = """\
Tables are named as everywhere: name (its newest version), name@2, name@champion, or the full line that a job printed.
cohorts/name says that a cohort is meant.

examples:
  boldstream tables list
  boldstream tables show abide-brainjepa
  boldstream tables diff abide-brainjepa@champion abide-brainjepa      what changed since the champion
  boldstream tables quality abide-brainjepa                            is it any good? one page
  boldstream tables promote abide-brainjepa@4                          let @champion mean version 4
  boldstream tables rollback abide-brainjepa                           and take that back
  boldstream tables export abide-brainjepa@4 --to vectors.parquet
  boldstream tables expire abide-brainjepa --keep 5 --dry-run
"""


COHORT_EXAMPLES = """\
examples:
  boldstream cohorts list
  boldstream cohorts show abide@2                      what came, changed and went; who has read it
  boldstream cohorts diff abide@1 abide                what is other than it was
  boldstream cohorts export abide --to abide.parquet
  boldstream cohorts expire abide --keep 1             after a withdrawal: only the newest version stays
"""


def run_tables(words: Sequence[str], *, cohorts: bool = False) -> str:
    """Run one of the commands and return what it has to say; `cohorts`: as ``boldstream cohorts …``.

    Raises
    ------
    BoldstreamError
        What the command's function raises.
    """
    parser = build_parser(cohorts=cohorts)
    arguments = parser.parse_args(list(words))
    if arguments.command is None:
        return parser.format_help().rstrip()
    for name in ("table", "first", "second") if cohorts else ():
        if "/" not in getattr(arguments, name, "/"):
            setattr(arguments, name, f"{COHORTS}/{getattr(arguments, name)}")
    run: Callable[[argparse.Namespace], str] = arguments.run
    return run(arguments)


def build_parser(*, cohorts: bool = False) -> argparse.ArgumentParser:
    """Return the parser of all commands, or of those that work on cohorts."""
    shared = Parser(add_help=False)
    shared.add_argument(
        "--warehouse", default="warehouse", metavar="W", help="where tables live, path or URI (default: %(default)s)"
    )
    parser = Parser(
        prog=f"boldstream {COHORTS if cohorts else 'tables'}",
        description="Look at versions of cohorts, and let old ones go."
        if cohorts
        else "Look at versions of embedding tables and cohorts, compare them, and say which one counts.",
        epilog=COHORT_EXAMPLES if cohorts else EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")

    def add(name: str, run: Callable[[argparse.Namespace], str], text: str, more: str = "") -> argparse.ArgumentParser:
        made = commands.add_parser(
            name,
            parents=[shared],
            help=text,
            description=f"{text[0].upper()}{text[1:]}.{more}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        made.set_defaults(run=run, only_cohorts=cohorts)
        return made

    add("list", _list, "list them at their newest versions")
    one = add("show", _show, "tell what a version was made of, who has read it, and the table's other versions")
    one.add_argument("table", metavar="NAME[@V]")
    if cohorts:
        one = add("diff", _diff_cohorts, "tell which scans came, went and changed between two versions, and in what")
        one.add_argument("first", metavar="A")
        one.add_argument("second", metavar="B")
    else:
        _add_diff(add)
        _add_quality(add)
        _add_champion(add)
    one = add("export", _export, "write a version as plain Parquet or CSV", _EXPORT)
    one.add_argument("table", metavar="NAME[@V]")
    one.add_argument("--to", required=True, metavar="FILE.parquet|FILE.csv|FOLDER")
    one.add_argument("--overwrite", action="store_true", help="replace what is there")
    _add_expire(add)
    return parser


def _add_champion(add: Callable[..., argparse.ArgumentParser]) -> None:
    one = add("promote", _promote, "let an alias (champion) mean a version")
    one.add_argument("table", metavar="NAME@V")
    one.add_argument("--alias", default="champion", help="(default: %(default)s)")
    one = add("rollback", _rollback, "let an alias (champion) mean again what it meant before its last promotion")
    one.add_argument("table", metavar="NAME")
    one.add_argument("--to", metavar="V", help="go back to this version instead")
    one.add_argument("--alias", default="champion", help="(default: %(default)s)")


_EXPORT = """

  FILE.parquet   all columns, vectors as lists of float32, the manifest in the file's metadata
  FILE.csv       the vector in columns embedding_0, embedding_1, …; no time series, no regional latents
  FOLDER         a Parquet file and manifest.json"""

_DIFF = """ Counts rows added,
removed and changed; of those in both, cosine, linear CKA, neighbours shared and Procrustes error, each with what it
would be by chance. Writes a page (index.html), its picture and numbers.json.

examples:
  boldstream tables diff abide@1 abide@2
  boldstream tables diff abide-model3 abide-model4 --out since-model3"""

_QUALITY = """ Measures, without
targets: effective rank, LiDAR, decay of the spectrum, dead dimensions, mean cosine; subjects found again, I_diff, ICC;
sites and motion, before and after an adjustment; debiased CKA with another version; how the encoder heeds its input.
Writes a page (index.html) that begins with what is alarming, its picture and quality.json, and logs them to MLflow.

examples:
  boldstream tables quality abide
  boldstream tables quality abide-adjusted@2 --against abide-adjusted@1 --output quality"""

_EXPIRE = """

The newest N versions stay, and every version that an alias means (the champion). Files that nothing refers to, such
as a killed worker's shards, go once they are --grace-hours old. Nothing is asked; --dry-run shows what would go."""


def _add_diff(add: Callable[..., argparse.ArgumentParser]) -> None:
    from boldstream.tables.limits import MAX_SCANS

    one = add("diff", _diff, "compare two versions of embedding tables", _DIFF)
    one.add_argument("first", metavar="A")
    one.add_argument("second", metavar="B")
    one.add_argument("--out", metavar="FOLDER", help="(default: diff-A-B)")
    one.add_argument(
        "--max-scans", type=int, default=MAX_SCANS, metavar="N", help="rows compared (default: %(default)s)"
    )
    one.add_argument("--seed", type=int, default=0, help="of the rows drawn (default: %(default)s)")


def _add_quality(add: Callable[..., argparse.ArgumentParser]) -> None:
    from boldstream.tables.limits import MAX_SCANS

    one = add("quality", _quality, "tell how good a version is without targets, on one page", _QUALITY)
    one.add_argument("table", metavar="NAME[@V]")
    one.add_argument("--against", metavar="B", help="compare with this one (default: the version before)")
    one.add_argument("--output", metavar="FOLDER", help="(default: quality-NAME@V)")
    one.add_argument(
        "--max-rows", type=int, default=MAX_SCANS, metavar="N", help="rows measured at most (default: %(default)s)"
    )
    one.add_argument("--seed", type=int, default=0, help="of the subjects drawn, and of folds (default: %(default)s)")


def _add_expire(add: Callable[..., argparse.ArgumentParser]) -> None:
    from boldstream.tables.limits import GRACE_HOURS

    one = add("expire", _expire, "let old versions go, with the files that only they need", _EXPIRE)
    one.add_argument("table", metavar="NAME")
    one.add_argument("--keep", type=int, required=True, metavar="N", help="versions that stay, the newest")
    one.add_argument("--grace-hours", type=float, default=GRACE_HOURS, metavar="H", help="(default: %(default)s)")
    one.add_argument("--dry-run", action="store_true", help="print what would go, and touch nothing")


def _list(arguments: argparse.Namespace) -> str:
    from boldstream.table_registry import has_registry
    from boldstream.tables.overview import list_tables
    from boldstream.tables.wording import say_list

    lines = list_tables(arguments.warehouse)
    if arguments.only_cohorts:
        lines = [line for line in lines if line.kind == COHORTS]
    return say_list(lines, arguments.warehouse, has_registry())


def _show(arguments: argparse.Namespace) -> str:
    from boldstream.tables.overview import show_table
    from boldstream.tables.wording import say_show

    return say_show(show_table(arguments.table, arguments.warehouse))


def _diff(arguments: argparse.Namespace) -> str:
    from boldstream.tables.diff import diff_tables
    from boldstream.tables.wording import say_diff

    found, folder = diff_tables(
        arguments.first,
        arguments.second,
        arguments.warehouse,
        arguments.out,
        max_scans=arguments.max_scans,
        seed=arguments.seed,
    )
    return f"{say_diff(found)}\npage: {folder / 'index.html'}"


def _quality(arguments: argparse.Namespace) -> str:
    from boldstream.tables.quality.config import QualityConfig
    from boldstream.tables.quality.run import write_quality
    from boldstream.tables.quality.wording import say_quality

    names = ("table", "against", "output", "max_rows", "seed", "warehouse")
    config = QualityConfig.from_mapping({name: getattr(arguments, name) for name in names}, where="command line")
    found, folder = write_quality(config)
    return f"{say_quality(found)}\npage: {folder / 'index.html'}"


def _diff_cohorts(arguments: argparse.Namespace) -> str:
    from boldstream.tables.cohort_diff import diff_cohorts
    from boldstream.tables.wording import say_cohort_diff

    return say_cohort_diff(diff_cohorts(arguments.first, arguments.second, arguments.warehouse))


def _promote(arguments: argparse.Namespace) -> str:
    from boldstream.tables.champion import promote_table
    from boldstream.tables.wording import say_moved

    return say_moved(promote_table(arguments.table, arguments.warehouse, arguments.alias))


def _rollback(arguments: argparse.Namespace) -> str:
    from boldstream.tables.champion import rollback_table
    from boldstream.tables.wording import say_moved

    return say_moved(rollback_table(arguments.table, arguments.warehouse, arguments.to, arguments.alias))


def _export(arguments: argparse.Namespace) -> str:
    from boldstream.tables.export import export_table
    from boldstream.tables.wording import say_exported

    return say_exported(export_table(arguments.table, arguments.warehouse, arguments.to, overwrite=arguments.overwrite))


def _expire(arguments: argparse.Namespace) -> str:
    from boldstream.tables.expiry import expire_table
    from boldstream.tables.wording import say_expired

    done = expire_table(
        arguments.table,
        arguments.warehouse,
        arguments.keep,
        grace_hours=arguments.grace_hours,
        dry_run=arguments.dry_run,
    )
    return say_expired(done)
