"""Ways in which others keep rotating tokens, each a change of one thing around a real sidecar.

A mutation is grafted on in the main of a test process, or for the time of one test; production
knows none of them.
"""
