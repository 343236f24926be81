"""How an answer is read out of a pass of the model: one file, one head; a new file is found by itself."""
