"""The exam of a folder of documents: questions made of it, checked, and split by fact."""
