"""The report: one file that needs no network, whatever is in the runs; and what a browser makes of it."""

import base64
import hashlib
import html
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image
from stored_runs import write_run

from zoo.experiments.comparison import Comparison
from zoo.experiments.drawings import thumbnail

BROWSER = next(
    filter(None, map(shutil.which, ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome"))), None
)
HOSTILE = "<img src=x onerror=\"document.title='owned'\"></script><script>document.title='owned'</script>'\"&"


def picture(path, seed: int, size: int = 512) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)


@pytest.fixture
def runs(tmp_path):
    """Two methods of three seeds with everything, one without an evaluation."""
    for i, mean in enumerate((82.0, 80.0)):
        for seed in range(3):
            scores = {"test/nll": mean + 0.1 * seed, "test/mig": 0.1 * i + 0.01 * seed, "test/kl": 20.0 - mean + seed}
            folder = write_run(tmp_path / "runs" / f"{3 * i + seed}", "vae", seed, {"latent_dim": 8 * (i + 1)},
                               metrics=scores, rows=9)  # fmt: skip
            picture(folder / "pictures/samples.png", seed)
    write_run(tmp_path / "runs/9", "vae", 0, {"latent_dim": 99, "note": HOSTILE})
    write_run(tmp_path / "runs/10", "vae", 0, {"latent_dim": 100}, state="failed")
    return tmp_path / "runs"


class Tags(HTMLParser):
    """The tags of a file, with their attributes, and whether all that open are closed in order."""

    void = ("meta", "input", "img", "br")

    def __init__(self, text: str):
        super().__init__()
        self.found: list[tuple[str, dict]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in self.void:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_it_is_one_file_that_asks_nobody(runs, tmp_path):
    text = Comparison([runs]).report(tmp_path / "report.html").read_text()
    tags = Tags(text)
    assert tags.open == []
    assert {attrs["src"].partition(":")[0] for tag, attrs in tags.found if "src" in attrs} == {"data"}
    assert not [tag for tag, _ in tags.found if tag in ("link", "iframe", "object", "base", "form")]
    assert "url(" not in text and "@import" not in text
    assert [tag for tag, _ in tags.found].count("svg") >= 3, "curves against batches, against time, violins"
    assert [tag for tag, _ in tags.found].count("img") == 2
    policy = next(attrs["content"] for tag, attrs in tags.found if attrs.get("http-equiv") == "Content-Security-Policy")
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    assert base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() in policy and "default-src 'none'" in policy
    assert f"failed: {runs}/10: out of memory" in text


def test_what_hostile_runs_are_called_is_text(runs, tmp_path):
    text = Comparison([runs]).report(tmp_path / "report.html").read_text()
    assert html.escape(HOSTILE, quote=True) in text and HOSTILE not in text
    assert not [attrs for _, attrs in Tags(text).found if any(name.startswith("on") for name in attrs)]


def test_equal_runs_equal_bytes(runs, tmp_path):
    first, again = (Comparison([runs]).report(tmp_path / name).read_bytes() for name in ("a.html", "b.html"))
    assert first == again


def test_fifty_runs_are_under_five_megabytes(tmp_path):
    """Rows of one seed each with pictures of noise, which can't be compressed."""
    for i in range(50):
        folder = write_run(tmp_path / "runs" / str(i), options={"latent_dim": i}, rows=300, metrics={"test/elbo": -1.0 * i})
        picture(folder / "pictures/samples.png", i)
    path = Comparison([tmp_path / "runs"]).report(tmp_path / "report.html")
    assert path.read_text().count("<img") == 50
    assert path.stat().st_size < 5e6


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"<svg/>"])
def test_what_is_no_picture_is_left_out(tmp_path, content):
    (tmp_path / "samples.png").write_bytes(content)
    assert thumbnail(tmp_path / "samples.png", 100) is None


DRIVER = """
const report = {}, rows = () => [...document.querySelector("tbody").rows].map((row) => row.cells[0].textContent);
const heads = [...document.querySelectorAll("thead")[0].querySelectorAll("button")];
const click = (name) => heads.find((head) => head.textContent.startsWith(name)).click();
report.first = rows();
click("nll"); report.up = rows();
click("nll"); report.down = rows();
click("row"); report.named = rows();
report.sorted = document.querySelectorAll("thead th[aria-sort]").length;
const box = document.getElementById("filter");
const visible = (each) => getComputedStyle(each).display !== "none";
const seen = () => [...document.querySelectorAll("tbody tr, svg g[data-row]")].filter(visible);
report.before = seen().length;
box.value = "dim=16"; box.dispatchEvent(new Event("input"));
report.after = [...new Set(seen().map((each) => each.dataset.row))];
report.shown = document.getElementById("shown").textContent;
box.value = ""; box.dispatchEvent(new Event("input")); report.again = seen().length;
report.title = document.title; report.images = [...document.images].map((image) => image.naturalWidth);
report.overflow = document.documentElement.scrollWidth - innerWidth;
report.paper = getComputedStyle(document.body).backgroundColor; report.ink = getComputedStyle(document.body).color;
document.body.append(Object.assign(document.createElement("pre"), { id: "report", textContent: JSON.stringify(report) }));
"""


def browse(path, *options: str) -> str:
    command = [
        BROWSER,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--enable-logging=stderr",
        "--hide-scrollbars",
        *options,
    ]
    done = subprocess.run([*command, path.as_uri()], capture_output=True, text=True, timeout=300, check=True)
    assert "CONSOLE" not in done.stderr, done.stderr
    return done.stdout


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here")
class TestInABrowser:
    @pytest.fixture
    def page(self, runs, tmp_path):
        return Comparison([runs]).report(tmp_path / "report.html")

    @pytest.mark.parametrize(("width", "scheme"), [(1300, "light"), (390, "dark")])
    def test_it_sorts_and_filters(self, page, width, scheme):
        digest = base64.b64encode(hashlib.sha256(DRIVER.encode()).digest()).decode()
        text = page.read_text().replace("script-src ", f"script-src 'sha256-{digest}' ")
        driven = page.with_name("driven.html")
        driven.write_text(text.replace("</body>", f"<script>{DRIVER}</script></body>"))
        chosen = [f"--blink-settings=preferredColorScheme={0 if scheme == 'dark' else 1}", f"--window-size={width},900"]
        dom = browse(driven, *chosen, "--dump-dom")
        said = json.loads(html.unescape(re.findall(r'<pre id="report">(.*?)</pre>', dom, re.DOTALL)[0]))
        names = ["vae latent_dim=16", "vae latent_dim=8"]
        assert said["first"] == said["up"] == names and said["down"] == names[::-1]
        assert said["named"] == names[::-1], "8 comes before 16"
        assert said["sorted"] == 1
        assert said["after"] == ["vae latent_dim=16"] and said["shown"] == "1 rows" and said["again"] == said["before"]
        assert said["title"].startswith("Comparison of"), "nothing that a run is called was run"
        assert said["images"] == [240, 240]
        assert said["overflow"] <= 0, "wide tables scroll by themselves"
        light = [sum(map(int, re.findall(r"\d+", said[name])[:3])) for name in ("paper", "ink")]
        assert (light[0] > light[1]) == (scheme == "light")

    @pytest.mark.parametrize("width", [390, 768, 1300])
    def test_how_it_looks(self, page, width):
        """A heading, tables and curves in colors, within the width."""
        shot = page.with_name("shot.png")
        browse(page, f"--window-size={width},2000", f"--screenshot={shot}")
        with Image.open(shot) as image:
            pixels = np.asarray(image.convert("RGB")).astype(int)
        assert pixels.shape == (2000, width, 3)
        ink = pixels.sum(2) < 200
        assert ink[:120].any() and ink.any(1).mean() > 0.1
        assert not ink[:, -4:].any() or width < 600, "nothing is cut off at the right"
        colored = (pixels.max(2) - pixels.min(2) > 60).sum()
        assert colored > 500, "curves and samples"
