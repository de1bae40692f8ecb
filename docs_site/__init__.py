"""The docs site without Quarto: `python -m docs_site` renders the processed notebooks with pandoc.

A tool for whoever works on the book; it is not part of the package.
"""
