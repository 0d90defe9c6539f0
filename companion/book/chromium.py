"""Where Chromium is: it prints the book, and the tests drive it."""

import os
import shutil
from pathlib import Path

ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
MAC_PATHS = (
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
)
HOW_TO_GET = (
    "Install it (Debian, Ubuntu: `apt install chromium`; macOS: `brew install --cask "
    "chromium`), or name one: CHROMIUM=/path/to/chrome"
)


def find_chromium() -> str | None:
    """A Chromium's path: CHROMIUM, else one on the PATH, else where macOS keeps it."""
    if named := os.environ.get("CHROMIUM"):
        return shutil.which(named)
    found = [path for name in NAMES if (path := shutil.which(name))]
    return next(
        iter(found + [path for path in MAC_PATHS if Path(path).is_file()]), None
    )
