"""The web UI: what people see of Cloudbrush, as a thin client of the REST API."""

import os

# Gradio reads these when it is imported; nothing here may call home.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
