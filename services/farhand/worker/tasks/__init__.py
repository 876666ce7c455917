"""Task types: what a worker can be asked to do. One type per file; registry.py finds those of other packages."""
