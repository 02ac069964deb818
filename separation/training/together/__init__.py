"""Several runs whose steps are taken as one."""
