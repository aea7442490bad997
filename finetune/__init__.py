"""Turn examples into a LoRA adapter.

Here will live: the preparation and checking of data, mixing recipes, training with forgetting
watched, hyperparameter search, and the export of adapters.
"""
