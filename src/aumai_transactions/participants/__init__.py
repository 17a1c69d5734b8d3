"""What runs on the other side of an action.

Owns: one file per kind of action that needs no Python of the user's own: what a plan file may say
about it, and how it is called. And, for whoever is the other side, the barrier.
Rules:
  1. An action is made from its definition alone, which is what the journal holds: no plan
     file, no current folder.
  2. Step data and outputs reach the other side as JSON: a request's body, or standard input.
     Where an `http` action's author refers to a value, it may also become part of the path,
     the query or a header's value, encoded so that it stays one value there. It never becomes
     part of a scheme, a host, a port, a command line, a file's path or a module's name, and
     it is never looked at for references of its own.
  3. What goes wrong before anything was handed over is "not done". From then on, whatever is
     not a clear answer is "in doubt", bugs of ours included.
  4. A probe and a verification answer "I do not know" rather than guess.
"""
