"""The installed command, and `python -m corpusmith`."""

import signal


def main() -> None:
    """Run the commands. Until one begins, there is nothing to explain: an interrupt ends the process, as the system
    does it, and not with a traceback from the middle of an import."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # whoever had it ignored goes on ignoring it
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from corpusmith.cli import main as run

    run()


if __name__ == "__main__":
    main()
