"""A bridge: ``import zoo.bolts`` before ``import pl_bolts`` lets lightning-bolts 0.7.0 be imported under Lightning 2.

Bolts was last released for Lightning 1. Of what it imports, Lightning 2 lacks one module,
``pytorch_lightning.utilities.apply_func``, whose functions moved to lightning-utilities; here it gets its old name again.
Nothing in the zoo needs this module: the networks in :mod:`zoo.nets.bolts` are loaded without it.
"""

import sys

from lightning_utilities.core import apply_func

__all__: list[str] = []

sys.modules.setdefault("pytorch_lightning.utilities.apply_func", apply_func)
