"""Trains networks that separate sources, and compares how their gradients are clipped; see README.md."""
