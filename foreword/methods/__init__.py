"""One file = one method. A method is a frozen dataclass of settings that makes a Writer; see base.py."""
