"""One style, one palette, shared panels."""
