"""The command line: one module for each noun, and `main` that finds them."""
