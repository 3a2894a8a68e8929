"""One style, one palette, shared panels.

Modules: `style` (the look), `palette` (colours), `panels` (pieces of figures), `figure`
(`ReportFigure`), `save` (SVG, PDF and TSV with the same bytes every time).
"""
