"""Scores of separated mixtures, and the separation of long recordings."""
