"""Owns how the console script `livechat` and `python -m livechat` start and end: by Ctrl-C, without a traceback.

It must not import what takes time: before `livechat.cli` is there, and once it is done, SIGINT ends the process.
"""

from __future__ import annotations

import signal


def main() -> None:
    """Run the console script and exit."""
    asked_for = signal.getsignal(signal.SIGINT)
    _set_interrupt(signal.SIG_DFL, instead_of=signal.default_int_handler)
    from livechat.cli.main import main as run

    try:
        _set_interrupt(asked_for, instead_of=signal.SIG_DFL)
        run()
    except KeyboardInterrupt:
        # Between the lines of `run` that would catch it.
        raise SystemExit(130) from None
    finally:
        _set_interrupt(signal.SIG_DFL, instead_of=signal.default_int_handler)


def _set_interrupt(handler: object, *, instead_of: object) -> None:
    """Handle SIGINT so, unless whoever started us wants it otherwise: `nohup` has it ignored."""
    if signal.getsignal(signal.SIGINT) is instead_of:
        signal.signal(signal.SIGINT, handler)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
