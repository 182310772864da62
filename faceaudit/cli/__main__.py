"""``python -m faceaudit.cli``."""

from faceaudit.cli import main

if __name__ == "__main__":
    main()
