"""Prints a line of the table of clients."""

import json
import sys
from importlib.metadata import version


def shown(client, call, answer):
    print(json.dumps([client, version(client), call, answer]))
    sys.stdout.flush()
