#!/usr/bin/env bash
# Writes the generated references under docs/reference anew.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo run --quiet -p magrathea-core --example generate_reference
cargo run --quiet -p magrathea-gateway -- openapi >docs/reference/openapi.json
cargo run --quiet -p magrathea-gateway -- errors >docs/reference/errors.md
cargo run --quiet -p td-cli -- reference >docs/reference/cli.md
