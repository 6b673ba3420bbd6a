"""One command for the minutes that an accelerator is at hand: ``python -m benchmarks.gpu --minutes 8 --out DIR``.

It needs torch 2.11 and Lightning 2.6, and neither jsonargparse, wandb nor a network. Parts run most valuable first, each
within its share of the minutes; a row is in its file as soon as it is known; a part that fails leaves a row that says so.
"""
