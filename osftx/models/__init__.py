"""Models as files and as modules: folders, the Hub, families, protected layers, attention, names of weights."""
