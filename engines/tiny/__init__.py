"""The embedded model: a small Qwen2 that reads and reckons, made by `recipes.tiny`."""
