"""Training in several processes: process group, rank zero, fully sharded models (FSDP)."""
