"""Small general tools: files, manifests, locks, progress, console, imports, processes."""
