"""The `tunemill` command. A part that is not installed is named together with the extra that brings it."""

import sys

# Import name -> extra, for what `serve` does not bring.
_EXTRAS = {
    "accelerate": "train",
    "bitsandbytes": "train",
    "peft": "train",
    "safetensors": "train",
    "torch": "train",
    "transformers": "train",
    "elasticsearch": "kafka",
    "faust": "kafka",
    "psycopg": "kafka",
    "gguf": "demo",
    "sentencepiece": "demo",
}


def main() -> None:
    """Run the command line."""
    try:
        from tunemill.cli.app import app

        app(prog_name="tunemill")
    except ModuleNotFoundError as missing:
        remedy = _remedy(missing.name or "")
        if remedy is None:
            raise
        sys.exit(remedy)


def _remedy(module: str) -> str | None:
    """What to install for a module that is not there; None if it is one of ours, whose absence is a fault and no choice."""
    package = module.partition(".")[0]
    if package in ("", "tunemill"):
        return None
    extra = _EXTRAS.get(package, "serve")
    return f"This needs {package}, which is not installed. Install it with: pip install 'tunemill[{extra}]'"


if __name__ == "__main__":
    main()
