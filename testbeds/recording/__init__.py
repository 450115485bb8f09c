"""The README's picture: `make demo` recorded with its times, and the recording rendered as SVG."""
