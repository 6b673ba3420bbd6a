"""What a run found, on one screen."""

from collections import Counter

from benchmarks.gpu.rows import Rows

__all__ = ["LINES", "summary"]

LINES = 40


def summary(rows: Rows) -> str:
    """At most ``LINES`` lines: what did not hold, speeds, trainings, what remains."""
    blocks = [_checks(rows.new["checks"]), _speeds(rows.new["speed"]), _trainings(rows.new["training"])]
    blocks.append(_remaining(rows.new["remaining"]))
    return "\n".join([*_shared(blocks, LINES - 2), f"rows: {rows.folder}"])


def _shared(blocks: list[list[str]], lines: int) -> list[str]:
    """The blocks' lines, cut so that all are seen: what one leaves of its share, those after it may take."""
    shown, left = [], lines
    for number, block in enumerate(blocks):
        # Later blocks are given up to 7 lines each before this one takes the rest.
        later = sum(min(len(each), 7) for each in blocks[number + 1 :])
        room = max(left - later, 0)
        cut = block if len(block) <= room else [*block[: room - 1], f"  ... and {len(block) - room + 1} more"]
        shown += cut[:room]
        left -= len(cut[:room])
    return shown


def _checks(rows: list[dict]) -> list[str]:
    if not rows:
        return []
    counts = Counter(row["status"] for row in rows)
    lines = [f"checks: {', '.join(f'{count} {status}' for status, count in counts.items())}"]
    models: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if row["status"] != "ok":
            reason = row.get("note", "") if row["status"] != "differs" else f"above {row['tolerance']}"
            value = f" {row['value']}" if row["status"] == "differs" else ""
            models.setdefault((f"{row['status']}: {row['check']}", reason), []).append(row["model"] + value)
    return lines + [f"  {what}: {', '.join(names)}: {reason}"[:220] for (what, reason), names in models.items()]


def _speeds(rows: list[dict]) -> list[str]:
    lines = []
    trained = [row for row in rows if row["part"] == "throughput"]
    for model in dict.fromkeys(row["model"] for row in trained):
        modes = {row["mode"]: row for row in trained if row["model"] == model}
        cells = (f"{mode} {_cell(row)}" for mode, row in modes.items())
        lines.append(f"  {model:29s} {' | '.join(cells)}"[:150])
    if lines:
        lines.insert(0, "training, images/s (by hand), peak memory:")
    for row in rows:
        if row["part"] != "throughput" and row.get("mode") != "d passes":
            units = {"milliseconds": "ms", "peak_gib": "GiB"}
            found = " ".join(f"{row[key]} {unit}" for key, unit in units.items() if row.get(key)) or row["status"]
            what = f"{row['part']} {row['model']} {row.get('mode', '')} {row.get('batch', '')}"
            lines.append(f"  {what}: {found} {row.get('note', '')}"[:150])
    return lines


def _cell(row: dict) -> str:
    if row["status"] != "ok":
        return row["status"]
    by_hand = f" ({float(row['by_hand_images_per_second']):.0f})" if row.get("by_hand_images_per_second") else ""
    memory = f" {float(row['peak_gib']):.1f} GiB" if row.get("peak_gib") else ""
    return f"{float(row['images_per_second']):.0f}{by_hand}{memory}"


def _trainings(rows: list[dict]) -> list[str]:
    lines = ["long trainings:"] if rows else []
    for row in rows:
        names = ("elbo", "nll", "nll_standard_error", "bits_per_dim", "reconstruction", "mig")
        found = " ".join(f"{name} {row[name]}" for name in names if row.get(name))
        batches = f"{row.get('batches', 0)} of {row['of_batches']} batches"
        lines.append(f"  {row['job']} {row['status']}: {batches} {found} {row.get('note', '')}"[:150])
    return lines


def _remaining(rows: list[dict]) -> list[str]:
    lines = ["remaining:"] if rows else []
    for row in rows:
        minutes = f"{float(row['minutes']):.0f} min" if row.get("minutes") else ""
        lines.append(f"  {row['what']} {row.get('done', '')} {minutes} {row['note']}"[:150])
    return lines
