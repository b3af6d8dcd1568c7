"""Small programs that run inside a short-lived container; each is one file that needs the standard library only."""
