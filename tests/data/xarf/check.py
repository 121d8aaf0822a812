"""Says what is wrong with a report in XARF 4 on standard input: one line for each error, none if it is good."""

import json
import pathlib
import sys

import jsonschema_rs

here = pathlib.Path(__file__).parent
core = json.loads((here / "xarf-core.json").read_text())
infected = json.loads((here / "types/connection-infected-host.json").read_text())
registry = jsonschema_rs.Registry([(core["$id"], core)])
validator = jsonschema_rs.validator_for(
    infected, validate_formats=True, registry=registry, offline=True
)
for error in validator.iter_errors(json.load(sys.stdin)):
    path = "/".join(map(str, error.instance_path))
    print(f"{path}: {error.message}")
