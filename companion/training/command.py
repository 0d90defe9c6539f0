"""What the training commands have in common: how they end."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from companion.training.checkpoints import CheckpointError
from companion.training.errors import TrainingError


def exit_status(
    run: Callable[[argparse.Namespace], object], options: argparse.Namespace
) -> int:
    """Call ``run(options)``: 0 fine, 1 training failed, 2 bad input, 130 stopped.

    An error is one line on standard error, without a traceback.
    """
    try:
        run(options)
    except (TrainingError, CheckpointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nStopped. The same command with --resume goes on.", file=sys.stderr)
        return 130
    return 0
