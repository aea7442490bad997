"""The command line: the app, its shared options, and a module per verb in `commands`."""
