"""``python -m hvpsbridge`` is ``hvps``."""

from hvpsbridge.cli.main import run

if __name__ == "__main__":
    run()
