"""Lets `python -m livechat` stand for the console script `livechat`."""

from livechat.cli.main import main

if __name__ == "__main__":
    main()
