"""The watch: what has changed since the last accepted version, and what follows."""
