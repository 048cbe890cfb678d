#!/usr/bin/env python3
"""Measure one part of the framework; each sub-command is a module of tools/benchmarks.

    tools/benchmark.py ava-eval
    tools/benchmark.py --help
    tools/benchmark.py ava-eval --help

A sub-command `do-this` is the module tools/benchmarks/do_this.py with a docstring, `add_arguments(parser)` and
`run(args)`, which returns the figures as a dict.  It is imported when it is used only.
"""

import argparse
import ast
import importlib
import json
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent / "benchmarks"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    wanted = next((argument for argument in sys.argv[1:] if not argument.startswith("-")), None)
    for path in sorted(FOLDER.glob("[!_]*.py")):
        name = path.stem.replace("_", "-")
        doc = ast.get_docstring(ast.parse(path.read_text()))
        command = commands.add_parser(
            name, help=doc.split("\n")[0], description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        if name == wanted:
            sys.path.insert(0, str(FOLDER))
            module = importlib.import_module(path.stem)
            module.add_arguments(command)
            command.add_argument("--json", type=Path, help="file to write the figures to")
            command.set_defaults(run=module.run)
    args = parser.parse_args()
    try:
        figures = args.run(args)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
