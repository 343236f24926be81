"""The .foreword file: what it says about itself, and how it is written and read without trusting it.

``files`` touches the disk, ``header`` reads a safetensors header by hand, ``manifest`` is what the file says,
``store`` saves, loads and peeks. The format is described in docs/file-format.md.
"""
