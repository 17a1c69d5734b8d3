"""The words that people read, whoever shows them: the command line, the page, reports.

Owns: nothing but the folder. It knows no terminal and no browser.
"""
