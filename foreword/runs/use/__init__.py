"""A foreword in use: predict, generate, evaluate, verify; what files say of themselves."""
