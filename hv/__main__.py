"""`python -m hv`: the command line."""

from hv.cli import main

if __name__ == "__main__":
    main()
