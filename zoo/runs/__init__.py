"""One run on disk: its folder, its checkpoints, its loggers."""
