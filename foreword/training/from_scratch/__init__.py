"""An LSTM or GRU base from scratch: a tokenizer made from the data, and a language model trained on it."""
