"""What a run left undone, with the minutes that it would take at the speed that was measured."""

from benchmarks.gpu.bench import Bench
from benchmarks.gpu.jobs import Job, all_jobs

__all__ = ["note_remaining"]


def note_remaining(bench: Bench) -> None:
    """Write ``remaining.csv`` anew: the long trainings that aren't done, then what there was no time for."""
    bench.rows.clear("remaining")
    reached = {row["job"]: row for row in bench.rows.read("training") if row["status"] == "ok"}
    speeds = {(row["model"], row["mode"]): row for row in bench.rows.read("speed") if row["part"] == "throughput"}
    for job in all_jobs(bench.data_root, bench.tiny, bench.seed):
        row = reached.get(job.name)
        done = int(row["batches"]) if row else 0
        if done < job.batches:
            source = row or speeds.get((job.measured, "bf16" if "bf16" in job.precision else "float32"), {})
            minutes, note = _minutes(job, job.batches - done, source)
            state = f"{done} of {job.batches} batches"
            bench.rows.add("remaining", what=job.name, done=state, minutes=minutes, note=note)
    for undone in bench.undone:
        bench.rows.add("remaining", what=undone, note="no time was left")


def _minutes(job: Job, batches: int, source: dict[str, str]) -> tuple[float | str, str]:
    rate = float(source.get("images_per_second") or 0)
    if not rate:
        return "", "speed not measured"
    return batches * job.data().batch_size / rate / 60, f"at {rate:.0f} images/s"
