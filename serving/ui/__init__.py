"""Pages for a person on this machine: ask, runs, improve, knowledge bases, adapters, exams."""
