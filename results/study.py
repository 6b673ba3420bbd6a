"""The tables and figures of a study's page in docs/, from the runs in results/studies/, which `zoo.study` has left.

    python results/study.py small

writes the figures, docs/pictures/study-small-*.png, and prints the tables, as docs/small_study.md has them. The runs are
those of ``analysis/runs.csv`` in the study's folder.
"""

import argparse
import shutil
import tempfile
from pathlib import Path

from zoo.experiments.analysis import Analysis, analyze

REPOSITORY = Path(__file__).resolve().parents[1]
STUDIES = ("small",)  # those that have a page
TABLES = ("runs", "agreement_matrix", "agreement", "methods", "variance", "selection", "transfer", "best")


def tables(analysis: Analysis) -> dict[str, str]:
    """The tables of a page in Markdown, by their names; those that are empty are left out."""
    return {name: text for name in TABLES if (text := analysis.table(name).markdown())}


def draw(analysis: Analysis, name: str) -> None:
    """Write the figures of a page."""
    with tempfile.TemporaryDirectory() as folder:
        for path in analysis.write(folder):
            if path.suffix == ".png":
                shutil.copy(path, REPOSITORY / "docs" / "pictures" / f"study-{name}-{path.name}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=STUDIES)
    name = parser.parse_args().name
    found = analyze([REPOSITORY / "results" / "studies" / f"{name}.csv"])
    draw(found, name)
    for table, text in tables(found).items():
        print(f"<!-- {table} -->\n{text}\n\n" + "".join(f"- {note}\n" for note in found.table(table).notes))
