"""`python -m bench`."""

from bench.app import entry

if __name__ == "__main__":
    entry()
