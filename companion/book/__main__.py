"""The command line: `python -m companion.book build|pdf|refresh|check`."""

import argparse
import sys

from companion.book import build as book
from companion.book.pdf import pdf
from companion.book.toc import book_root


def main() -> int:
    """Run one command. Exit status: 0 fine, 1 problems printed, 2 bad arguments, 130 stopped."""
    parser = argparse.ArgumentParser(
        prog="python -m companion.book", description=__doc__
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("build", "execute the chapters that changed and build the pages"),
        ("pdf", "execute what changed and print the book as one PDF"),
        ("refresh", "execute chapters and write them back slim"),
        ("check", "say what is wrong with the stored notebooks"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument(
            "--root", default=".", help="the repository (default: the current folder)"
        )
        if name != "check":
            command.add_argument(
                "--only",
                default="",
                metavar="01",
                help="chapters whose file name starts so",
            )
            command.add_argument(
                "--jobs", type=int, default=2, help="chapters at a time (default: 2)"
            )
    args = parser.parse_args()
    try:
        root = book_root(args.root)
        if args.command == "check":
            return book.check(root)
        command = {"build": book.build, "pdf": pdf, "refresh": book.refresh}
        return command[args.command](root, args.only, args.jobs)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(
            "\nInterrupted. Finished chapters are kept: the same command goes on from here.",
            file=sys.stderr,
        )
        return 130


if __name__ == "__main__":
    sys.exit(main())
