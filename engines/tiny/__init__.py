"""The embedded model: a small Qwen2 with its tokenizer, made by `recipes.tiny`."""
