"""Text: its normal form, n-grams of words, and benchmark questions that occur in it."""
