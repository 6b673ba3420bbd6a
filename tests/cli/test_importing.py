"""What importing torch and Lightning leaves behind."""

import gc
import subprocess
import sys

from conftest import REPOSITORY

from zoo.cli.importing import importing

BEGUN = """
import gc, sys
from zoo.cli.importing import importing
with importing():
    import zoo.cli.fit
    assert not gc.isenabled()
assert gc.isenabled() and gc.get_freeze_count() > 100_000
assert sys.modules.keys().isdisjoint({"matplotlib", "sklearn", "scipy.signal", "scipy.stats"})
"""

# what was put off is there when it is used: plots of torchmetrics, in their style, which it names as it is imported
USED = """
import torch, torchmetrics
from torchmetrics.utilities.plot import plt, style_change
figure, axes = torchmetrics.MeanMetric().plot(torch.tensor(2.0))
import matplotlib.pyplot, scipy.signal
assert isinstance(figure, matplotlib.pyplot.Figure) and plt.Figure is matplotlib.pyplot.Figure
assert len(scipy.signal.get_window("hann", 3)) == 3
"""


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_what_is_not_used_is_not_imported_and_is_there_when_it_is():
    run(BEGUN + USED)


def test_an_import_that_fails_leaves_all_as_it_was():
    run("""
import gc, sys
from zoo.cli.importing import importing
try:
    with importing():
        import torch, nowhere
except ModuleNotFoundError as error:
    assert error.name == "nowhere"
assert gc.isenabled() and "matplotlib" not in sys.modules and "scipy.signal" not in sys.modules
import matplotlib.pyplot
""")


def test_where_torch_is_imported_already_nothing_is_done():
    frozen = gc.get_freeze_count()
    with importing():
        assert gc.isenabled()
    assert gc.get_freeze_count() == frozen
