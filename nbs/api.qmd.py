"""
---
title: All symbols
description: What the package exports, by module and in the order of the book.
---
"""
from docs_site.api import api_index

print(api_index())
