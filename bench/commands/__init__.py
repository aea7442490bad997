"""Commands of `bench`: a module per verb; each reads options, calls the packages and prints."""
