"""Training of adapters: data, replay, validation against forgetting, search, export."""
