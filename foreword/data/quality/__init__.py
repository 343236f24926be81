"""What is wrong with the rows, which are alike, how they are split, drawn and varied."""
