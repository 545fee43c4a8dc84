"""`python -m kdcore`."""

from kdcore.cli import app

app(prog_name="kdcore")
