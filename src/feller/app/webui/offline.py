"""What keeps the page on this machine: no analytics, no fonts or scripts from elsewhere, and a policy that says so."""

import os
import pathlib

from PIL import EpsImagePlugin, Image

from feller.app.webui.stubless import write_no_stubs

MOST_PIXELS = 2**24
"""Of a picture that is uploaded."""

SETTINGS = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "GRADIO_SSR_MODE": "False",
    "GRADIO_SHARE": "False",
    "GRADIO_MCP_SERVER": "False",
    "GRADIO_RUN_HISTORY": "False",
    "GRADIO_DEBUG": "0",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}
POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "media-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self' data: blob:",
        "worker-src 'self' blob:",
        "frame-src 'self' data: blob:",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
"""What a browser may load: nothing from elsewhere, whatever a class, a file or a report is called or holds."""
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}


def keep_here(uploads: pathlib.Path) -> None:
    """Set what must be set before Gradio is imported: files go to our folder alone, and nothing goes out.

    Pictures are read by Gradio before we see them, so that those which are small as files and huge in memory are
    refused for the whole process, as is PostScript, which Pillow would let another program run.
    """
    EpsImagePlugin.gs_binary = False
    Image.MAX_IMAGE_PIXELS = MOST_PIXELS // 2  # from twice as many on, reading is an error
    os.environ.update(SETTINGS)
    os.environ["GRADIO_TEMP_DIR"] = str(uploads)
    write_no_stubs()
