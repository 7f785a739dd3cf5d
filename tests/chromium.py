"""A page in headless Chromium: what it holds after a script has used it, and what the console said."""

import html
import json
import re
import shutil
import subprocess

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def browser():
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip("needs Chromium or Chrome on the path")
    return found


def run(page, folder, script, *, window="1200,900", width=None):
    """Open the page from a file:// address, run a script in it that returns a value, give value and console.

    ``width`` shows the page in a frame, because no window of the browser is as narrow as a telephone.
    """
    harness = f"""<script>
addEventListener("load", async () => {{
  const out = document.createElement("pre");
  out.id = "harness";
  try {{ out.textContent = JSON.stringify(await (async () => {{ {script} }})()); }}
  catch (error) {{ out.textContent = JSON.stringify("error: " + error); console.error(error); }}
  document.body.append(out);
  if (parent !== window) parent.postMessage(out.textContent, "*");
}});
</script>"""
    path = folder / "used page.html"
    path.write_text(page.replace("</body>", harness + "</body>"), encoding="utf-8")
    if width is not None:
        (folder / "frame.html").write_text(
            f"""<body style="margin: 0"><script>addEventListener("message", (event) => {{
            const out = document.createElement("pre"); out.id = "harness"; out.textContent = event.data;
            document.body.append(out); }});</script>
            <iframe src="used page.html" width="{width}" height="900" style="border: 0"></iframe></body>"""
        )
        path = folder / "frame.html"
    done = subprocess.run(
        [
            browser(), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}",
            "--enable-logging=stderr", "--virtual-time-budget=5000", f"--window-size={window}", "--dump-dom",
            path.as_uri(),
        ],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    value = re.search(r'<pre id="harness">(.*?)</pre>', done.stdout, re.S)
    assert value, done.stderr[-2000:]
    console = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
    return json.loads(html.unescape(value[1])), console
