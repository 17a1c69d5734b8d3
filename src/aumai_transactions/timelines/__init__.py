"""What a journal tells people: who did what when, what became of it, and what undid it.

Owns: nothing but the folder; whoever shows a transaction (the command line, pictures) begins with
`timeline.Timeline`.
"""
