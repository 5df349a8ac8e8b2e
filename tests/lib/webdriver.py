# SPDX-License-Identifier: MIT
"""A browser, driven by WebDriver's HTTP interface: Chromium without a window, through
chromedriver."""
import base64
import contextlib
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the key that the standard gives to elements
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1000,640",
]


def is_installed():
    return shutil.which("chromium") is not None and shutil.which("chromedriver") is not None


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for_port(port, process, seconds=120):
    """Until something listens there."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError(
        f"{process.args[0]} does not listen on port {port}; exit status {process.poll()}"
    )


def stop(process):
    process.terminate()
    try:
        process.wait(timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class Error(Exception):
    """What the driver complains of."""


class Browser:
    """One window. Elements are looked for in all frames of the page; what was found is in the
    current frame."""

    def __init__(self, port):
        self.base = f"http://127.0.0.1:{port}"

    def call(self, method, path, body=None):
        data = json.dumps(body or {}).encode() if method == "POST" else None
        request = urllib.request.Request(
            self.base + path, data, {"Content-Type": "application/json"}, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            value = json.load(error)["value"]
            raise Error(f"{path}: {value['error']}: {value['message']}") from None

    def post(self, path, **body):
        return self.call("POST", path, body)

    def open(self, url):
        self.post("/url", url=url)

    def elements(self, xpath):
        return [found[ELEMENT] for found in self.post("/elements", using="xpath", value=xpath)]

    def search(self, xpath):
        """The first such element of the current frame, or of those in it."""
        found = self.elements(xpath)
        if found:
            return found[0]
        for frame in self.elements("//frame|//iframe"):
            self.post("/frame", id={ELEMENT: frame})
            found = self.search(xpath)
            if found:
                return found
            self.post("/frame/parent")
        return None

    def act(self, xpath, action, seconds=120):
        """Wait for the element in any frame, and do something with it there. Until then the page
        may be exchanged for another."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            with contextlib.suppress(Error):
                self.post("/frame", id=None)
                found = self.search(xpath)
                if found:
                    return action(found)
            time.sleep(0.1)
        raise AssertionError(f"no {xpath} in {self.text()[:2000]}")

    def see(self, text):
        """Wait for an element with this text."""
        self.act(f'//*[text()[contains(., "{text}")]]', lambda element: None)

    def click(self, xpath):
        self.act(xpath, lambda element: self.post(f"/element/{element}/click"))

    def type(self, xpath, text):
        def enter(element):
            self.post(f"/element/{element}/clear")
            self.post(f"/element/{element}/value", text=text)

        self.act(xpath, enter)

    def frame_text(self):
        """The text of the current frame, and of those in it."""
        text = "".join(
            self.call("GET", f"/element/{body}/text") for body in self.elements("//body")
        )
        for frame in self.elements("//frame|//iframe"):
            self.post("/frame", id={ELEMENT: frame})
            text += "\n" + self.frame_text()
            self.post("/frame/parent")
        return text

    def text(self):
        self.post("/frame", id=None)
        return self.frame_text()

    def screenshot(self):
        """A PNG of the window."""
        self.post("/frame", id=None)
        return base64.b64decode(self.call("GET", "/screenshot"))


@contextlib.contextmanager
def browser(folder):
    """A browser with a new profile in `folder`, which downloads to folder/downloads."""
    port = free_port()
    environment = {key: value for key, value in os.environ.items() if key != "LD_PRELOAD"}
    environment.update(
        HOME=str(folder), XDG_CONFIG_HOME=f"{folder}/config", XDG_CACHE_HOME=f"{folder}/cache"
    )
    driver = subprocess.Popen(
        ["chromedriver", f"--port={port}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment,
    )
    try:
        wait_for_port(port, driver)
        made = Browser(port)
        options = {
            "binary": shutil.which("chromium"),
            "args": [*ARGUMENTS, f"--user-data-dir={folder}/profile"],
            "prefs": {"download.default_directory": f"{folder}/downloads"},
        }
        session = made.post(
            "/session", capabilities={"alwaysMatch": {"goog:chromeOptions": options}}
        )
        made.base += f"/session/{session['sessionId']}"
        try:
            yield made
        finally:
            made.call("DELETE", "")
    finally:
        stop(driver)
