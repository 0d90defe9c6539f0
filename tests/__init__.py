import os

# What the tests solve is no reader's progress.
os.environ["COMPANION_PROGRESS"] = "off"
