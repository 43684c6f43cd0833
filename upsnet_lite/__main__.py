"""`python -m upsnet_lite` is `upsnet-lite`."""

from .cli import main

if __name__ == "__main__":
    main()
