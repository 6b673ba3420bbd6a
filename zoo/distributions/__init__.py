"""Priors, posteriors and likelihoods: modules that give distributions."""
