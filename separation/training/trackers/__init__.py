"""Where a run's curves go beside its CSV files: a module for each choice of conf/logger."""
