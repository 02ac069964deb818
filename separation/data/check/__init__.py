"""What is wrong with a corpus: measured, put in sentences, reported."""
