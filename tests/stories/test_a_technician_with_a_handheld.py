"""The technician: sees live what is broken, acknowledges with one tap, watches it resolve by itself."""

from pathlib import Path

from playwright.async_api import async_playwright, expect
from rigs.browser import FLAGS, program
from rigs.warehouse import serial_printer, warehouse

from device_profiles.simulators.serving import Pty
from device_profiles.simulators.zebra_zpl import ZebraPrinter

PASSWORD = "amber-kettle-forklift-7"
PATIENCE_MS = 45_000


async def test_from_the_printer_to_the_thumb_and_back(tmp_path: Path) -> None:
    printer = ZebraPrinter(Pty(tmp_path / "printer"))
    await printer.start()
    async with warehouse(tmp_path) as site, async_playwright() as playwright:
        site.collector.command(
            *("user", "add", "tina", "--role", "technician", "--site", "north", "--password-stdin"),
            text=PASSWORD,
        )
        site.agent(serial_printer(tmp_path / "printer"))
        browser = await playwright.chromium.launch(executable_path=program(), args=FLAGS)
        page = await browser.new_page(viewport={"width": 390, "height": 844})
        page.set_default_timeout(PATIENCE_MS)
        expect.set_options(timeout=PATIENCE_MS)

        await page.goto(f"{site.collector.url}/m")
        await page.get_by_label("Name").fill("tina")
        await page.get_by_label("Password").fill(PASSWORD)
        await page.get_by_role("button", name="Log in").click()
        await expect(page.get_by_text("Nothing is broken")).to_be_visible()
        await expect(page.get_by_text("Live", exact=True)).to_be_visible()

        printer.set("paper_out")
        card = page.locator("[data-ticket]").filter(has_text="Labels are out")
        await expect(card).to_contain_text("printer-1")
        await card.get_by_role("button", name="Acknowledge").click()
        await expect(card).to_contain_text("tina has seen it")

        printer.set("paper_out", False)
        await expect(card).to_contain_text("Resolved")
        await browser.close()
    await printer.stop()
