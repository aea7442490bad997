"""Training in several processes: the process group, and the work of its first process."""
