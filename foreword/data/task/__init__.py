"""What the model is asked: template, verbalizer, guidance, and how an answer is written."""
