"""Many runs: what they are compared by. Nothing here imports torch, so that a thousand runs are a table in seconds."""
