"""The telephone in the browser: a real Chromium, `svi up` as its own process, a real Asterisk."""

import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import (
    Browser,
    ConsoleMessage,
    Page,
    Playwright,
    expect,
    sync_playwright,
)

from ivr.script_files import load_script
from svi.demo import DOSSIERS
from svi.telephone.server import HERE, Telephone
from tests.acceptance.machine import free_port, wait_until
from tests.acceptance.up import Up, build_voice_of_tones
from tests.peers.npm import needed_module
from tests.telephony import an_sms

ROOT = Path(__file__).parents[2]
JSSIP = ROOT / "tools/jssip"
SECONDS = 30.0  # for what a page shows, on a machine that has much else to do

CLAIRE, MAMADOU, MARIE = DOSSIERS[:3]
NATIONAL_NUMBER = "Appeler le 32 30"
CONFIRM = "Si vous avez oublié votre mot de passe, tapez 1."
SILENCE_SECONDS = 15  # without sound, after which Asterisk ends a page's call (pjsip.conf)

# Where the browser says what it refused, and what sound came.
WITNESS = """
window.refused = [];
addEventListener("securitypolicyviolation", (event) => refused.push(event.violatedDirective));
window.connections = [];
window.RTCPeerConnection = class extends RTCPeerConnection {
  constructor(...settings) { super(...settings); connections.push(this); }
};
"""
SOUND = """async () => {
  const stats = await connections.at(-1).getStats();
  return [...stats.values()].find((one) => one.type === "inbound-rtp")?.totalAudioEnergy ?? 0;
}"""


@dataclass
class Tab:
    """One page, and all that it asked of anybody or complained of."""

    page: Page
    origin: str
    asked: set[str] = field(default_factory=set)
    complaints: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.set_default_timeout(SECONDS * 1_000)
        self.page.add_init_script(WITNESS)
        self.page.on("request", lambda request: self.asked.add(_origin(request.url)))
        self.page.on("websocket", lambda link: self.asked.add(_origin(link.url)))
        self.page.on("console", self._listen)
        self.page.on("pageerror", lambda error: self.complaints.append(error.message))

    def _listen(self, message: ConsoleMessage) -> None:
        if message.type in ("warning", "error"):
            self.complaints.append(message.text)

    def open(self) -> None:
        """Load the page, and wait until it can call."""
        self.page.goto(self.origin)
        self.is_said("Prêt à appeler")

    def call(self, line: str = NATIONAL_NUMBER) -> None:
        """Call by the button of a line."""
        self.page.get_by_role("button", name=line, exact=True).click()
        self.hears("Tapez les deux chiffres de votre département.")

    def type(self, keys: str) -> None:
        """Type on the computer's keyboard."""
        self.page.keyboard.type(keys)

    def is_said(self, status: str) -> None:
        """Wait until the telephone says how it is."""
        expect(self.page.locator("#status")).to_have_text(status, timeout=SECONDS * 1_000)

    def hears(self, text: str) -> None:
        """Wait until that stands last in the conversation, or in what was said last."""
        said = self.page.locator("#said li").last
        expect(said).to_contain_text(text, timeout=SECONDS * 1_000)

    def conversation(self) -> list[str]:
        """Everything that stands in the conversation."""
        return self.page.locator("#said li").all_text_contents()

    def sms(self, count: int = 1) -> str:
        """Wait for so many SMS; give the last one's text."""
        shown = self.page.locator("#sms li")
        expect(shown).to_have_count(count, timeout=SECONDS * 1_000)
        return shown.first.inner_text().replace("\u00a0", " ")

    def sound(self) -> float:
        """The energy of all the sound that came in this call."""
        energy: float = self.page.evaluate(SOUND)
        return energy

    def check(self) -> None:
        """Nothing was asked of anybody else, and the browser had nothing to refuse."""
        elsewhere = {one for one in self.asked if not re.match(r"(http|ws)://127\.0\.0\.1:", one)}
        assert elsewhere == set()
        assert self.complaints == []
        assert self.page.is_closed() or self.page.evaluate("refused") == []


def _origin(url: str) -> str:
    return "/".join(url.split("/", 3)[:3])


@pytest.fixture(scope="module")
def voice_of_tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The prompts of every service here, made once."""
    return build_voice_of_tones(tmp_path_factory.mktemp("built"))


@contextmanager
def running_up(home: Path, voice: Path, **fields: Any) -> Iterator[Up]:
    """A service that calls can come to."""
    shutil.copytree(voice, home / "prompts", dirs_exist_ok=True)
    with Up(home, free_port(socket.SOCK_DGRAM), **fields) as up:
        up.wait_ready()
        yield up


def address(up: Up) -> str:
    """Where the screen says that the page is."""
    found = re.search(r"http://127\.0\.0\.1:\d+", up.out.read_text())
    assert found
    return found[0]


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory, voice_of_tones: Path) -> Iterator[Up]:
    with running_up(tmp_path_factory.mktemp("telephone") / "home", voice_of_tones) as up:
        yield up


@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as playwright:
        yield playwright


def launch(playwright: Playwright) -> Browser:
    """Start Debian's Chromium, as it is; root has no sandbox."""
    chromium = shutil.which("chromium")
    assert chromium, "run: tools/packages.sh chromium"
    return playwright.chromium.launch(
        executable_path=chromium, args=["--no-sandbox", "--disable-background-networking"]
    )


@pytest.fixture(scope="module")
def browser(playwright: Playwright) -> Iterator[Browser]:
    browser = launch(playwright)
    yield browser
    browser.close()


@pytest.fixture
def new_tab(browser: Browser, up: Up) -> Iterator[Callable[..., Tab]]:
    """Open tabs; whatever a test does in them, they are checked at its end."""
    tabs: list[Tab] = []
    with ExitStack() as stack:

        def make(origin: str = "", **options: Any) -> Tab:
            context = stack.enter_context(browser.new_context(**options))
            tabs.append(Tab(context.new_page(), origin or address(up)))
            return tabs[-1]

        yield make
        for tab in tabs:
            tab.check()


@pytest.fixture
def tab(new_tab: Callable[..., Tab]) -> Tab:
    tab = new_tab()
    tab.open()
    return tab


def outcomes(up: Up) -> list[str]:
    """How the calls so far ended, the first one first."""
    return [record["outcome"] for record in sorted(up.records(), key=lambda one: one["started_at"])]


# ------------------------------------------------------------------------------- what one does


def test_one_logs_in_by_mouse_and_hears_the_last_payment(tab: Tab, up: Up) -> None:
    tab.page.get_by_label("Vous appelez depuis").select_option("le 06 12 34 56 78 (Claire Martin)")
    tab.call()
    keypad = tab.page.get_by_role("group", name="Touches du téléphone")
    for key in CLAIRE.department + CLAIRE.number + CLAIRE.password:
        keypad.get_by_role("button", name=key, exact=True).click()
    tab.hears("Pour connaître votre dernier paiement")
    before = tab.sound()
    keypad.get_by_role("button", name="1", exact=True).click()
    tab.hears("Votre dernier paiement est de")
    assert "quatre cent quatre-vingt-un euros" in tab.conversation()[-1]
    wait_until(lambda: tab.sound() > before > 0)
    conversation = tab.conversation()
    assert CLAIRE.number in conversation
    assert "•" * 8 in conversation
    assert CLAIRE.password not in "".join(conversation)
    tab.page.get_by_role("button", name="Raccrocher").click()
    tab.is_said("Appel terminé")
    tab.hears("Fin de l'appel : appelant identifié.")
    assert outcomes(up)[-1] == "authenticated"


def test_a_forgotten_password_is_read_on_the_page_and_logs_in(tab: Tab) -> None:
    tab.call()
    tab.type(f"{MAMADOU.department}{MAMADOU.number}#")
    tab.hears(CONFIRM)
    tab.type("1")
    message = tab.sms()
    assert message.startswith("De Caf au 07 55 51 23 45\n")
    found = re.search(r"\b(\d{4}) (\d{4})\b", message)
    assert found
    assert found[0] not in "".join(tab.conversation())  # it is never spoken (D12)
    tab.page.keyboard.press("Escape")
    tab.is_said("Appel terminé")
    tab.call()
    tab.type(MAMADOU.department + MAMADOU.number + found[1] + found[2])
    tab.hears("Pour connaître votre dernier paiement")
    tab.type("1")
    tab.hears("mille euros")


def test_the_keyboard_alone_is_enough(tab: Tab) -> None:
    tab.page.keyboard.press("Tab")
    expect(tab.page.get_by_label("Vous appelez depuis")).to_be_focused()
    tab.page.keyboard.press("Tab")
    first = tab.page.get_by_role("button", name=NATIONAL_NUMBER)
    expect(first).to_be_focused()
    tab.page.keyboard.press("Enter")
    tab.hears("Tapez les deux chiffres de votre département.")
    tab.page.keyboard.press("Enter")  # no end of the call, for who ends a number with it
    tab.type(MARIE.department + MARIE.number + MARIE.password)
    tab.hears("Pour connaître votre dernier paiement")
    tab.page.keyboard.press("Escape")
    tab.is_said("Appel terminé")
    expect(first).to_be_focused()
    tab.page.evaluate("document.activeElement.blur()")
    tab.page.keyboard.press("Enter")
    tab.hears("Tapez les deux chiffres de votre département.")


def press(tab: Tab, **event: Any) -> None:
    """Press a key as another keyboard than the test's would."""
    tab.page.evaluate(
        "(event) => document.body.dispatchEvent("
        "new KeyboardEvent('keydown', { bubbles: true, ...event }))",
        event,
    )


def test_a_french_keyboard_gives_digits_without_shift(tab: Tab) -> None:
    tab.call()
    press(tab, code="Digit9", key="ç")
    press(tab, code="Digit2", key="2", ctrlKey=True)  # a shortcut of the browser's
    press(tab, code="Digit2", key="é", repeat=True)  # held down
    press(tab, code="Numpad2", key="2")
    tab.hears("Tapez les 7 chiffres")
    assert "92" in tab.conversation()
    tab.type(CLAIRE.number)
    press(tab, code="Digit3", key="#", ctrlKey=True, altKey=True)  # AltGr
    tab.hears(CONFIRM)
    assert "#" in tab.conversation()


def test_the_computer_s_keyboard_can_be_turned_off(tab: Tab) -> None:
    tab.page.get_by_label("Le clavier de l'ordinateur compose aussi").uncheck()
    tab.call()
    tab.type("75")
    keypad = tab.page.get_by_role("group", name="Touches du téléphone")
    for key in "92":
        keypad.get_by_role("button", name=key, exact=True).click()
    tab.hears("Tapez les 7 chiffres")
    assert "92" in tab.conversation()


def test_a_local_line_needs_no_departement(tab: Tab) -> None:
    tab.page.get_by_role("button", name="Appeler le 01 46 30 00 92 (caisse 92)").click()
    tab.hears("Tapez les 7 chiffres")


# ------------------------------------------------------------------------------- for everybody


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 1280])
def test_axe_finds_nothing_before_in_and_after_a_call(
    new_tab: Callable[..., Tab], scheme: str, width: int
) -> None:
    tab = new_tab(color_scheme=scheme, viewport={"width": width, "height": 800}, bypass_csp=True)
    tab.open()
    tab.page.evaluate(needed_module("axe-core/axe.min.js").read_text(encoding="utf-8"))
    assert violations(tab) == []
    tab.call()
    tab.type("92" + CLAIRE.number)
    tab.hears("mot de passe")
    assert violations(tab) == []
    tab.page.keyboard.press("Escape")
    tab.is_said("Appel terminé")
    assert violations(tab) == []


def violations(tab: Tab) -> list[str]:
    found = tab.page.evaluate("async () => (await axe.run()).violations")
    return [f"{one['id']}: {node['html']}" for one in found for node in one["nodes"]]


@pytest.mark.parametrize(("width", "percent"), [(320, 100), (640, 200), (1280, 200)])
def test_nothing_runs_off_a_narrow_or_enlarged_page(
    new_tab: Callable[..., Tab], width: int, percent: int
) -> None:
    tab = new_tab(viewport={"width": width, "height": 800})
    tab.open()
    tab.page.evaluate("(size) => { document.documentElement.style.fontSize = size }", f"{percent}%")
    tab.call()
    assert tab.page.evaluate("document.documentElement.scrollWidth") <= width
    for button in tab.page.get_by_role("button").all():
        box = button.bounding_box()
        assert box
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
        assert min(box["width"], box["height"]) >= 44  # to be hit by a finger


def test_what_is_said_is_announced_to_who_cannot_see_it(tab: Tab) -> None:
    tab.call()
    spoken = tab.page.get_by_role("log", name="Conversation")
    expect(spoken).to_contain_text("Tapez les deux chiffres de votre département.")
    expect(tab.page.get_by_role("status")).to_have_text("En communication avec le 32 30")


@pytest.mark.parametrize(("wish", "seconds"), [("reduce", "0s"), ("no-preference", "0.15s")])
def test_who_wants_no_motion_sees_none(
    new_tab: Callable[..., Tab], wish: str, seconds: str
) -> None:
    tab = new_tab(reduced_motion=wish)
    tab.open()
    style = "getComputedStyle(document.querySelector('#keypad button')).transitionDuration"
    assert tab.page.evaluate(style) == seconds


# ------------------------------------------------------------------------------- what may go wrong


def test_two_tabs_know_nothing_of_each_other_s_call(new_tab: Callable[..., Tab], up: Up) -> None:
    tabs = [new_tab(), new_tab()]
    for tab in tabs:
        tab.open()
        tab.call()
    assert len([line for line in up.svi("calls", "--live").splitlines() if "PJSIP" in line]) == 2
    tabs[0].type("92")
    tabs[0].hears("Tapez les 7 chiffres")
    assert "92" not in tabs[1].conversation()
    tabs[0].page.keyboard.press("Escape")
    tabs[0].is_said("Appel terminé")
    tabs[1].type("75")
    tabs[1].hears("Tapez les 7 chiffres")
    assert "75" not in tabs[0].conversation()


def reload(page: Page) -> None:
    page.reload()


def close(page: Page) -> None:
    """Do what the cross of a tab does."""
    with page.expect_event("close"):
        page.close(run_before_unload=True)


@pytest.mark.parametrize("leave", [reload, close])
def test_a_page_that_is_left_hangs_up(tab: Tab, up: Up, leave: Callable[[Page], object]) -> None:
    before = len(up.records())
    tab.call()
    tab.page.context.new_page()  # so that the browser stays
    leave(tab.page)
    wait_until(lambda: len(up.records()) > before)  # before silence would tell it
    assert outcomes(up)[-1] == "abandoned"


def test_a_browser_that_dies_is_missed(playwright: Playwright, up: Up) -> None:
    """No page is left to hang up: Asterisk notices that nothing comes any more."""
    browser = launch(playwright)
    tab = Tab(browser.new_page(), address(up))
    tab.open()
    before = len(up.records())
    tab.call()
    session = browser.new_browser_cdp_session()
    with pytest.raises(Exception, match=r"closed|crash"):
        session.send("Browser.crash")
    wait_until(lambda: len(up.records()) > before, 3 * SILENCE_SECONDS)


def test_a_stop_in_mid_call_is_heard_and_a_restart_is_found(
    new_tab: Callable[..., Tab], tmp_path: Path, voice_of_tones: Path
) -> None:
    fixed = (("SVI_TELEPHONE_PORT", str(free_port(socket.SOCK_STREAM))),)
    home = tmp_path / "home"
    with running_up(home, voice_of_tones, changes=fixed) as up:
        tab = new_tab(address(up))
        tab.open()
        tab.call()
        before = tab.sound()
        up.process.send_signal(signal.SIGINT)
        tab.page.wait_for_function(f"({SOUND})().then((energy) => energy > {before})")  # an apology
        code, complaints = up.end()
        assert (code, complaints) == (0, "")
        tab.is_said("Le serveur vocal ne répond pas")
        expect(tab.page.get_by_role("button", name=NATIONAL_NUMBER)).to_be_disabled()
    with running_up(home, voice_of_tones, changes=fixed) as up:
        tab.is_said("Prêt à appeler")  # the page was loaded again: it has the new secret
        tab.call()
        up.process.send_signal(signal.SIGKILL)  # and Asterisk with it
        tab.is_said("Le serveur vocal ne répond pas")
        expect(tab.page.get_by_role("button", name="Raccrocher")).to_be_disabled()
    tab.complaints = [one for one in tab.complaints if "net::ERR_" not in one]  # out of reach


HOSTILE = (
    "<img src=/none onerror=\"document.title='taken'\"><script>document.title='taken'</script>"
)


def test_hostile_text_is_shown_as_text(new_tab: Callable[..., Tab]) -> None:
    """Of prompts, keys and messages; and the browser itself would refuse to read them as HTML."""
    telephone = Telephone(0, free_port(socket.SOCK_STREAM), load_script().lines)
    with telephone.served() as origin:
        tab = new_tab(origin)
        with tab.page.expect_response("**/events/*") as told:
            tab.page.goto(origin)
        name = told.value.url.rpartition("/")[2]
        call = telephone.trace({"agi_calleridname": name})
        assert call
        tab.page.wait_for_function("document.querySelectorAll('#people li').length > 0")
        for tell in (call.said, call.keyed, call.ended):
            tell(HOSTILE)
            tab.hears(HOSTILE)
        telephone.show(an_sms(HOSTILE))
        assert tab.sms().endswith(HOSTILE)
        assert tab.page.locator("li img, li script").count() == 0
        assert "taken" not in tab.page.title()
        with pytest.raises(Exception, match="TrustedHTML"):
            tab.page.evaluate("document.body.innerHTML = '<b>hello</b>'")
        tab.page.evaluate("refused.length = 0")
    tab.complaints.clear()  # this test's own, and the Asterisk that there is not


# ------------------------------------------------------------------------------- the bundle


def test_the_bundle_is_what_the_lock_file_builds(tmp_path: Path) -> None:
    assert (JSSIP / "node_modules").exists(), "run: npm ci --prefix tools/jssip"
    built = tmp_path / "jssip.js"
    subprocess.run(["node", JSSIP / "build.mjs", built], check=True)
    assert built.read_bytes() == (HERE / "jssip.js").read_bytes()
