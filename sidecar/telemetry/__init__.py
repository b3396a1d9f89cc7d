"""Events become log lines and metrics here, and nowhere else."""
