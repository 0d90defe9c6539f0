"""The book's own machinery: execute the chapters, build the pages, keep the notebooks slim.

    python -m companion.book build [--only 01]      execute what changed and build the pages
    python -m companion.book pdf [--only 01]        the book, or a chapter, as one PDF
    python -m companion.book refresh [--only 01]    execute the chapters and write them back, slim
    python -m companion.book check                  say what is wrong with the stored notebooks

No chapter imports it, and it imports nothing of the rest of `companion`.
"""
