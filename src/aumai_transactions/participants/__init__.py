"""What runs on the other side of an action that needs no Python of the user's own.

Owns: one file per kind of action: what a plan file may say about it, and how it is called.
Rules:
  1. An action is made from its definition alone, which is what the journal holds: no plan
     file, no current folder.
  2. Step data is given to the other side as JSON. It never becomes part of a URL, a command
     line, a path, a header or a module name.
  3. What goes wrong before anything was handed over is "not done". From then on, whatever is
     not a clear answer is "in doubt", bugs of ours included.
"""
