"""The section on a study in docs/study_analysis.md, from its runs in results/studies/.

    python results/study.py small

draws docs/pictures/study-small-*.png, and writes the section between its two marks: tables, figures, and what tests say of
them in sentences. The runs are those of ``analysis/runs.csv`` in the study's folder.
"""

import argparse
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from zoo.experiments.analysis import Analysis, analyze
from zoo.experiments.analysis.table import label

REPOSITORY = Path(__file__).resolve().parents[1]
PAGE = REPOSITORY / "docs" / "study_analysis.md"
PICTURES = REPOSITORY / "docs" / "pictures"
STUDIES = ("small",)  # those that have a section
FIGURES = {
    "agreement": "Rank correlations of the scores with their intervals, beside the lecture's",
    "methods": "Violins of each score by method",
    "strengths": "Each score by method and strength, every model a point",
    "variance": "Shares of method, strength and seed in the variance of each score",
    "selection": "Each score against each number that needs no labels",
}
_ALPHA = 0.05


def marks(name: str) -> tuple[str, str]:
    """What stands before and after a section."""
    return f"<!-- the study {name}, by results/study.py -->\n", f"<!-- end of the study {name} -->\n"


def section(analysis: Analysis, name: str) -> str:
    """Tables, figures and sentences of a study."""
    parts = [_runs(analysis), _table(analysis, "runs"), *_figures(name, "methods", "strengths"), _table(analysis, "methods")]
    parts += [
        "### Its agreement",
        _agreement(analysis),
        _table(analysis, "agreement_matrix"),
        _figures(name, "agreement")[0],
    ]
    parts += [_table(analysis, "agreement")]
    parts += ["### What decides its scores", _variance(analysis), _table(analysis, "variance"), *_figures(name, "variance")]
    parts += ["### Its selection without labels", *_selection(analysis), _table(analysis, "selection")]
    parts += [*_figures(name, "selection"), "### Its best settings", _transfer(analysis), _table(analysis, "transfer")]
    parts += [_table(analysis, "best")]
    return "\n\n".join(part for part in parts if part) + "\n"


def _table(analysis: Analysis, name: str) -> str:
    return analysis.table(name).markdown()


def _figures(name: str, *figures: str) -> list[str]:
    return [f"![{FIGURES[figure]}](pictures/study-{name}-{figure}.png)" for figure in figures]


def _runs(analysis: Analysis) -> str:
    done = [row for row in analysis.rows if row.state == "finished"]
    settings = {row.setting for row in done}
    lost = len(analysis.rows) - len(done)
    return f"{len(done)} models of {len(settings)} settings finished{f', {lost} did not' if lost else ''}."


def _agreement(analysis: Analysis) -> str:
    records = [each for each in analysis.table("agreement").records if each["p_holm"] is not None]
    apart = [each for each in records if each["p_holm"] <= _ALPHA]
    widths = [100 * (each["high"] - each["low"]) for each in records]
    text = f"Of {len(records)} pairs of scores {len(apart)} differ from the lecture's at .05 after Holm's correction"
    if apart:
        text += ": " + ", ".join(
            f"{label(each['a'])} and {label(each['b'])} ({100 * each['rho']:.0f}, there {100 * each['lecture']:.0f})"
            for each in apart
        )
    return f"{text}. The intervals are {statistics.median(widths):.0f} wide in the median: not told apart is not equal."


def _variance(analysis: Analysis) -> str:
    records = [each for each in analysis.table("variance").records if each["setting_adjusted"] is not None]
    texts = []
    for share in ("method", "strength", "seed"):
        found = [100 * each[f"{share}_adjusted"] for each in records if each[f"{share}_adjusted"] is not None]
        if found:
            ends = f"{min(found):.0f} to {max(found):.0f} %, {statistics.fmean(found):.0f} in the mean"
            texts.append(f"{share} {ends}")
    tested = []
    for share in ("method", "strength"):
        told = [label(each["score"]) for each in records if (p := each[f"p_{share}_holm"]) is not None and p <= _ALPHA]
        tested.append(f"the {share} matters for {', '.join(told) or 'none'}")
    text = f"Adjusted shares, lowest to highest over scores: {'; '.join(texts)}. By permutations at .05, after Holm's "
    return f"{text}correction, {'; '.join(tested)}."


def _selection(analysis: Analysis) -> Iterator[str]:
    lines = []
    for by in analysis.unsupervised:
        records = [each for each in analysis.table("selection").records if each["by"] == by]

        def told(p: str, value: str, records: list = records) -> str:
            found = [each for each in records if each[p] is not None and each[p] <= _ALPHA]
            return ", ".join(f"{label(each['score'])} ({each[value]:.2f})" for each in found) or "none"

        text = f"- `{by}`: correlates over all models with {told('p_holm', 'rho')}; over seeds alone with "
        text += told("p_within_settings_holm", "within_settings")
        better = [each for each in records if each["beats_low"] is not None and each["beats_low"] > 0.5]
        worse = [each for each in records if each["beats_high"] is not None and each["beats_high"] < 0.5]
        if any(each["beats"] is not None for each in records):
            text += "; the model that it selects is better than chance by " + (
                ", ".join(f"{label(each['score'])} ({100 * each['beats']:.0f} %)" for each in better) or "none"
            )
            text += f", worse by {', '.join(label(each['score']) for each in worse)}" if worse else ""
        lines.append(f"{text}.")
    yield "At .05, correlations after Holm's correction, and selected models by their intervals alone:"
    yield "\n".join(lines)


def _transfer(analysis: Analysis) -> str:
    texts = [
        f"{each['tried on']}: {100 * each['beats']:.0f} % [{100 * each['low']:.0f}, {100 * each['high']:.0f}]"
        for each in analysis.table("transfer").records
        if each["beats"] is not None and each["low"] is not None
    ]
    return f"The best setting of one seed against a random one of another seed: {'; '.join(texts)}." if texts else ""


def draw(analysis: Analysis, name: str) -> None:
    """Write the figures of a section."""
    with tempfile.TemporaryDirectory() as folder:
        for path in analysis.write(folder):
            if path.suffix == ".png":
                few = Image.open(path).convert("RGB").quantize(32)  # colors: a page loads at once
                few.save(PICTURES / f"study-{name}-{path.name}", optimize=True)


def main() -> None:
    """Write the figures and the section of what was named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=STUDIES)
    name = parser.parse_args().name
    found = analyze([REPOSITORY / "results" / "studies" / f"{name}.csv"])
    draw(found, name)
    (before, after), text = marks(name), PAGE.read_text()
    start, end = text.index(before) + len(before), text.index(after)
    PAGE.write_text(f"{text[:start]}\n{section(found, name)}\n{text[end:]}")


if __name__ == "__main__":
    main()
