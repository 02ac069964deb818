"""Run folders: what a run writes, reads back and shows."""
