"""Model and data to numbers: likelihood, samples, disentanglement."""
