"""Score a model by domain: tasks, prompts, the runner, the store of runs, and the statistics."""
