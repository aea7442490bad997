"""Loop of `bench improve`, a module per stage, and the runs under treatments of `bench run`."""
