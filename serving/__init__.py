"""The assistant that a plan makes: answers with their sources, and the server in front of it."""
