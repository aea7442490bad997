"""Sources of training rows: questions, sentences and documents."""
