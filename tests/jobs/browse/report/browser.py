"""Headless Chromium for the tests of pages."""

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")

ARGUMENTS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars")

WAIT_S = 30.0
"""Seconds to wait for what a page should show."""


@contextlib.contextmanager
def browser(downloads: Path, width: int = 1440, height: int = 900) -> Iterator[Any]:
    """A browser that saves files in ``downloads``. Skips the test where Chromium or selenium is not installed."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("chromium and chromedriver are not installed (Debian: apt install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in (*ARGUMENTS, f"--window-size={width},{height}", f"--user-data-dir={downloads / 'profile'}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    try:
        allow = {"behavior": "allow", "downloadPath": str(downloads)}
        driver.execute_cdp_cmd("Browser.setDownloadBehavior", allow)
        yield driver
    finally:
        driver.quit()


def wait_for(condition: Callable[[], Any]) -> Any:
    """Returns the first true value of ``condition``. Fails when there is none."""
    until = time.monotonic() + WAIT_S
    while time.monotonic() < until:
        if found := condition():
            return found
        time.sleep(0.05)
    pytest.fail("the page does not show what it should")


class Page:
    """An open page of a result, as a person sees it."""

    def __init__(self, driver: Any, address: str):
        self.driver = driver
        self.open(address)

    def open(self, address: str) -> None:
        """Opens an address, and waits for the timelines."""
        self.driver.get("about:blank")
        self.driver.get(address)
        wait_for(lambda: self.js("return document.documentElement.dataset.ready"))

    def js(self, script: str, *arguments: object) -> Any:
        return self.driver.execute_script(script, *arguments)

    def text(self, selector: str) -> str:
        return str(self.js("return document.querySelector(arguments[0])?.innerText ?? ''", selector))

    def keys(self, *keys: str, shift: bool = False) -> None:
        """Types, with the focus on the list of videos."""
        from selenium.webdriver import ActionChains, Keys

        self.js("document.getElementById('list').focus()")
        chain = ActionChains(self.driver)
        if shift:
            chain.key_down(Keys.SHIFT).send_keys(*keys).key_up(Keys.SHIFT).perform()
        else:
            chain.send_keys(*keys).perform()

    def fill(self, selector: str, value: str) -> None:
        """Gives a field of the filters a value."""
        script = """
        const field = document.querySelector(arguments[0]);
        field.value = arguments[1];
        for (const kind of ["input", "change"]) field.dispatchEvent(new Event(kind, { bubbles: true }));
        """
        self.js(script, selector, value)

    def click(self, selector: str) -> None:
        self.js("document.querySelector(arguments[0]).click()", selector)

    def videos(self) -> list[str]:
        """Returns the names of the videos in the list, from top to bottom."""
        script = """
        return [...document.querySelectorAll(".row")].sort((a, b) => parseFloat(a.style.top) - parseFloat(b.style.top))
          .map((row) => row.querySelector(".file").innerText);
        """
        return list(self.js(script))

    def errors(self) -> list[str]:
        """Returns what the browser complained about."""
        return [line["message"] for line in self.driver.get_log("browser") if line["level"] == "SEVERE"]
